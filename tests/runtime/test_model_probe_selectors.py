# SPDX-License-Identifier: Apache-2.0
"""The same rows in the same order as Data-Juicer's own selectors."""

import random
from typing import Any

import pytest
from data_juicer.ops.selector.frequency_specified_field_selector import FrequencySpecifiedFieldSelector
from data_juicer.ops.selector.topk_specified_field_selector import TopkSpecifiedFieldSelector
from data_juicer.utils.sample import random_sample
from datasets import Dataset

from sandbox_api.data_juicer import PROBE_ALGORITHMS
from sandbox_runtime.model_probe.selectors import SELECTORS, uniform

OPERATORS = {
    "frequency_specified_field_selector": FrequencySpecifiedFieldSelector,
    "topk_specified_field_selector": TopkSpecifiedFieldSelector,
}


def test_the_planner_knows_all_of_them() -> None:
    assert tuple(SELECTORS) == PROBE_ALGORITHMS


def rows(count: int) -> list[dict[str, Any]]:
    chance = random.Random(count)
    return [
        {
            "number": place,
            "word": chance.choice("aabbbcdefg"),
            "score": chance.choice([0.25, 0.5, chance.random()]),
            "meta": {"text": str(chance.randrange(50)), "many": [chance.random() for _ in range(chance.randrange(3))]},
        }
        for place in range(count)
    ]


@pytest.mark.parametrize("count", [1, 2, 7, 100])
@pytest.mark.parametrize("ratio", [0.05, 0.5, 0.999, 1.0, 1.3, 2.5])
def test_uniform(count: int, ratio: float) -> None:
    expected = random_sample(Dataset.from_list(rows(count)), ratio)
    assert uniform(rows(count), ratio) == list(expected["number"])


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize(
    "how", [{"topk": 3}, {"top_ratio": 0.4}, {"top_ratio": 0.9, "topk": 2}, {"top_ratio": 0.0}, {}]
)
@pytest.mark.parametrize("reverse", [True, False])
def test_selectors(name: str, how: dict[str, Any], reverse: bool) -> None:
    keys = {
        "frequency_specified_field_selector": ("word", "score", "meta.text"),
        "topk_specified_field_selector": ("score", "word", "meta.text", "meta.many"),
    }
    for key in keys[name]:
        operator = OPERATORS[name](field_key=key, reverse=reverse, **how)
        expected = operator.process(Dataset.from_list(rows(60)))
        assert SELECTORS[name](rows(60), key, reverse=reverse, **how) == list(expected["number"]), key
