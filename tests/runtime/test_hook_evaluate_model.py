# SPDX-License-Identifier: Apache-2.0
"""EvaluateModelHook of type internvl_coco_caption through the real process, on logs as InternVL prints them."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.hook_pod import Ended, HookPod, job_contract

FIGURES = {"Bleu_1": 0.801, "Bleu_2": 0.642, "Bleu_3": 0.5, "Bleu_4": 0.385, "METEOR": 0.291, "ROUGE_L": 0.59, "CIDEr": 1.312}  # fmt: skip
LOG = """warning: flash attention is not installed
Loading and preparing results...
DONE (t=0.05s)
computing Bleu score...
{{'testlen': 47432, 'reflen': 47162, 'guess': [47432, 42432, 37432, 32432], 'correct': [38000, 22000, 12000, 6000]}}
ratio: 1.0057249480513103
{figures}
"""


def log(figures: dict[str, Any]) -> str:
    return LOG.format(figures="\n".join(f"computing {n} score...\n{n}: {value}" for n, value in figures.items()))


@pytest.fixture
def pod(tmp_path: Path) -> HookPod:
    pod = HookPod(tmp_path)
    for name, factor in {"low": 0.9, "middle": 1.0, "high": 1.1, "again": 1.1}.items():
        folder = pod.inputs / "work_dirs" / name
        folder.mkdir(parents=True)
        (folder / "eval_log.txt").write_text(log({key: round(value * factor, 3) for key, value in FIGURES.items()}))
    return pod


def evaluate(pod: HookPod, *names: str, **more: Any) -> Ended:
    extra = {"ckpt_paths": [f"inputs/work_dirs/{name}" for name in names], **more}
    return pod.run(
        job_contract(
            "EvaluateModelHook", stage="evaluation", type="internvl_coco_caption", meta_name="judge", extra=extra
        )
    )


def said(ended: Ended) -> str:
    assert ended.message.error is not None, ended.log
    return ended.message.error.message


def test_logs_are_read_with_upstreams_names(pod: HookPod) -> None:
    """What the sandbox needs to run an evaluation is told and not needed."""
    ended = evaluate(pod, "middle", internvl_home="/InternVL", num_gpus=8, env_name="internvl", env_manager="conda")
    assert ended.code == 0, ended.log
    assert "extraConfigs.internvl_home is not used: the logs are only read" in ended.log
    figures = ended.message.metrics
    assert {key: figures[f"judge.{key}"] for key in FIGURES} == FIGURES
    mean = sum(FIGURES.values()) / 7
    assert figures["judge"] == figures["judge.avg_score"] == pytest.approx(mean, abs=1e-12)
    [row] = ended.result.outputs["results"].value
    assert row == {
        "name": "middle", "model": "inputs/work_dirs/middle", "rank": 1, "equal": False, "avg_score": pytest.approx(mean), **FIGURES,
    }  # fmt: skip


def test_results_stand_in_the_order_of_the_checkpoints_and_the_ranking_in_its_own(pod: HookPod) -> None:
    ended = evaluate(pod, "low", "high", "middle", "again")
    assert ended.code == 0, ended.log
    results, ranking = (ended.result.outputs[name].value for name in ("results", "ranking"))
    assert [row["name"] for row in results] == ["low", "high", "middle", "again"]
    assert [(row["name"], row["rank"], row["equal"]) for row in ranking] == [
        ("high", 1, True), ("again", 1, True), ("middle", 3, False), ("low", 4, False),
    ]  # fmt: skip
    assert ended.result.outputs["best"].value == "inputs/work_dirs/high"
    assert "again equal to it, so the first in the list is taken" in ended.result.message
    ended = evaluate(pod, "low", "high", metric="CIDEr", goal="minimize")
    assert ended.result.outputs["best"].value == "inputs/work_dirs/low"


def test_an_evaluation_that_was_done_again_counts(pod: HookPod) -> None:
    path = pod.inputs / "work_dirs" / "low" / "eval_log.txt"
    path.write_text(path.read_text() + log(dict.fromkeys(FIGURES, 1.0)))
    assert evaluate(pod, "low", "high").message.metrics["judge.low.avg_score"] == 1.0


def test_one_that_has_failed_is_last_and_the_others_stand(pod: HookPod) -> None:
    (pod.inputs / "work_dirs" / "low" / "eval_log.txt").write_text("RuntimeError: CUDA out of memory\n")
    ended = evaluate(pod, "low", "middle")
    assert ended.code == 0, ended.log
    last = ended.result.outputs["ranking"].value[-1]
    assert (last["name"], last["rank"], "equal" in last) == ("low", None, False)
    assert last["error"].startswith("its eval_log.txt has none of Bleu_1")
    assert "low is last: its eval_log.txt has none of" in ended.result.message
    alone = evaluate(pod, "low")
    assert alone.code == 1
    assert said(alone).startswith("inputs/work_dirs/low: its eval_log.txt has none of Bleu_1")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "extraConfigs.ckpt_paths: there is no eval_log.txt in inputs/work_dirs/low"),
        (log({**FIGURES, "CIDEr": "-"}), "CIDEr is '-', which is no number"),
        (log({key: value for key, value in FIGURES.items() if key != "METEOR"}), "extraConfigs.metric: the eval_log.txt of inputs/work_dirs/low and of inputs/work_dirs/middle have different figures"),
    ],
)  # fmt: skip
def test_a_log_that_can_not_be_compared_is_named(pod: HookPod, text: str | None, words: str) -> None:
    path = pod.inputs / "work_dirs" / "low" / "eval_log.txt"
    path.unlink()
    if text is not None:
        path.write_text(text)
    ended = evaluate(pod, "low", "middle")
    assert ended.code == 2, ended.log
    assert words in said(ended)


def test_logs_that_differ_may_be_ranked_by_what_both_have(pod: HookPod) -> None:
    path = pod.inputs / "work_dirs" / "low" / "eval_log.txt"
    path.write_text(log({"CIDEr": 2.0}))
    ended = evaluate(pod, "low", "middle", metric="CIDEr")
    assert ended.code == 0, ended.log
    assert ended.message.metrics["judge"] == ended.message.metrics["judge.low.avg_score"] == 2.0


def test_a_folder_that_is_missing_is_named(pod: HookPod) -> None:
    shutil.rmtree(pod.inputs / "work_dirs" / "low")
    ended = evaluate(pod, "low", "middle")
    assert ended.code == 2
    assert "there is no file or folder inputs/work_dirs/low" in said(ended)
