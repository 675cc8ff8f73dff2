# SPDX-License-Identifier: Apache-2.0
"""Whatever stands in a sweep's definition: it is told what is wrong with it, or trials come of it; never a mistake."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.test_sweep_plan import MIN_RATIO, NOW, a_spec, a_sweep, made, template

from sandbox_operator.build.defaults import Defaults
from sandbox_operator.plan.compile import compile_spec
from sandbox_operator.plan.sweep import plan_sweep
from sandbox_operator.plan.sweep_definition import compile_sweep
from sandbox_operator.plan.sweep_facts import CreateTrial
from sandbox_operator.search.studies import StudyCache

NUMBERS = st.one_of(st.integers(-(2**60), 2**60), st.floats(allow_nan=False, allow_infinity=False), st.integers(-3, 9))
WORDS = st.sampled_from(
    ["uniform", "q_uniform", "log_uniform", "log_uniform_values", "normal", "categorical", "constant", "int_uniform",
     "beta", "", "x", MIN_RATIO, "process", "quality_score", "inv_log_uniform", "{{x}}", "\x00", "é" * 40]
)  # fmt: skip
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, WORDS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(WORDS, inner, max_size=3)),
    max_leaves=8,
)
DISTRIBUTION = st.dictionaries(
    st.sampled_from(
        ["distribution", "min", "max", "q", "mu", "sigma", "values", "value", "probabilities", "parameters", "a", "b"]
    ),
    st.one_of(NUMBERS, WORDS, st.lists(NUMBERS, max_size=4), JSON),
    max_size=5,
)
PARAMETERS = st.one_of(
    JSON,
    st.dictionaries(
        st.sampled_from([MIN_RATIO, "text_length_filter", "process.djConfigs.np", "process.extraConfigs.x", "zz", ""]),
        st.one_of(DISTRIBUTION, JSON),
        max_size=3,
    ),
)
CHANGES = st.dictionaries(
    st.sampled_from(
        ["method", "metric", "template", "maxTrials", "parallelism", "seed", "keep", "overrides", "suspend", "run_cap",
         "earlyTerminate", "early_terminate", "sweep_name", "program", "command", "controller", "nonsense"]
    ),
    st.one_of(
        JSON, st.sampled_from(["grid", "bayes", "sobol"]), st.integers(1, 9),
        st.fixed_dictionaries({"type": st.sampled_from(["hyperband", "median"])}, optional={"min_iter": NUMBERS, "eta": NUMBERS}),
    ),
    max_size=3,
)  # fmt: skip


def look_at(raw: dict[str, Any]) -> None:
    compiled = compile_sweep(raw, name="s", uid="sweep-uid")
    found = plan_sweep(a_sweep(), compiled, StudyCache(), Defaults(), NOW)
    json.dumps(found.status.model_dump(mode="json"), allow_nan=False)
    if compiled.spec is None:
        assert compiled.problems
        assert all(problem.startswith("spec") for problem in compiled.problems), compiled.problems
        assert found.actions == ()
        return
    for action in found.actions:
        if isinstance(action, CreateTrial):
            json.dumps(action.manifest, allow_nan=False)
            assert compile_spec(action.manifest["spec"]).spec is not None
    assert made(found) == list(range(len(made(found))))


@given(PARAMETERS)
def test_rubbish_for_parameters(parameters: Any) -> None:
    look_at(a_spec(parameters=parameters))


@given(CHANGES)
def test_rubbish_for_anything_else(changes: dict[str, Any]) -> None:
    look_at({**a_spec(), **changes})


@given(
    st.dictionaries(
        st.sampled_from(["workspace", "executionJobConfigs", "trial", "keep", "experimentName", "projectName", "x"]),
        JSON,
    )
)
def test_rubbish_in_the_template(changes: dict[str, Any]) -> None:
    look_at(a_spec(template={**template(), **changes}))
    look_at(a_spec(template={**template(), **changes}, keep={"checkpoints": 1}))
