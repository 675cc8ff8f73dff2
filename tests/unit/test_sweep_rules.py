# SPDX-License-Identifier: Apache-2.0
"""A hook's `setup_sweep` and a SandboxSweep judge a definition alike: what one takes the other takes, in the same words."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.hook_pod import EXPERIMENT, job_contract

from sandbox_operator.plan.sweep_definition import compile_sweep
from sandbox_runtime.errors import ConfigError
from sandbox_runtime.metrics import MetricsLog
from sandbox_runtime.watcher import SandboxWatcher
from sandbox_runtime.workspace import Workspace

MAX_PPL = "perplexity_filter.max_ppl"
TEMPLATE = {
    "executionJobConfigs": [
        {
            "hook": "ProcessDataHook",
            "metaName": "process",
            "djConfigs": {"dataset_path": "data/demo.jsonl", "process": [{"perplexity_filter": {"max_ppl": 10}}]},
        }
    ]
}
GOOD: Mapping[str, Any] = {
    "method": "bayes",
    "metric": {"name": "process.rows_out", "goal": "maximize"},
    "parameters": {MAX_PPL: {"min": 1, "max": 9}},
}


def over(**parameter: Any) -> dict[str, Any]:
    return {"parameters": {MAX_PPL: parameter}}


def hyperband(**keys: Any) -> dict[str, Any]:
    return {"early_terminate": {"type": "hyperband", **keys}}


TAKEN: dict[str, Mapping[str, Any]] = {
    "bayes": {},
    "random": {"method": "random"},
    "sobol": {"method": "sobol"},
    "grid": {"method": "grid"},
    "grid of a constant": {"method": "grid", **over(value=3)},
    "values": over(values=[1, 2]),
    "probabilities": over(values=[1, 2], probabilities=[0.25, 0.75]),
    "uniform": over(min=0.5, max=2),
    "log_uniform": over(distribution="log_uniform", min=0, max=3),
    "q_log_uniform_values": over(distribution="q_log_uniform_values", min=8, max=128),
    "inv_log_uniform_values": over(distribution="inv_log_uniform_values", min=8, max=128),
    "normal": over(distribution="normal", mu=50, sigma=2),
    "q_normal without keys": over(distribution="q_normal"),
    "q_beta": over(distribution="q_beta", a=2, b=5, q=0.1),
    "nested": {"parameters": {"perplexity_filter": {"parameters": {"max_ppl": {"values": [1, 2]}}}}},
    "hyperband": hyperband(min_iter=3),
    "caps": {"run_cap": 3, "sweep_max_count": 4, "maxTrials": 5},
    "W&B's own keys": {"program": "train.py", "image_uri": "a:1", "job": "e/p/j:v1", "command": ["python", 3]},
    "impute": {"metric": {**GOOD["metric"], "impute": "worst", "impute_while_running": False}},
}
REFUSED: dict[str, tuple[Mapping[str, Any], str]] = {
    "misspelt distribution": (over(distribution="log_unifrom", min=1, max=2), f'.parameters["{MAX_PPL}"].distribution'),
    "no such spread": (over(distribution="normal", sigma=-1), f'.parameters["{MAX_PPL}"].sigma'),
    "from zero": (over(distribution="log_uniform_values", min=0, max=1), f'.parameters["{MAX_PPL}"].min'),
    "misspelt key": (over(vlaues=[1, 2]), f'.parameters["{MAX_PPL}"]'),
    "two ways": (over(values=[1, 2], min=1), f'.parameters["{MAX_PPL}"].min'),
    "upside down": (over(min=2, max=1), f'.parameters["{MAX_PPL}"]'),
    "no values": (over(values=[]), f'.parameters["{MAX_PPL}"].values'),
    "shares of more than all": (over(values=[1, 2], probabilities=[0.9, 0.9]), f'.parameters["{MAX_PPL}"].probabilities'),
    "too wide": (over(distribution="log_normal", sigma=200), f'.parameters["{MAX_PPL}"]'),
    "no multiple": (over(distribution="q_uniform", min=1, max=3, q=10), f'.parameters["{MAX_PPL}"].q'),
    "no number": (over(min="0", max=1, distribution="uniform"), f'.parameters["{MAX_PPL}"].min'),
    "a bare value": ({"parameters": {MAX_PPL: 3}}, f'.parameters["{MAX_PPL}"]'),
    "called the same": (
        {"parameters": {"a.b": {"value": 1}, "a": {"parameters": {"b": {"value": 2}}}}}, ".parameters",
    ),
    "too many": ({"parameters": {f"p{n}": {"min": 0, "max": 9} for n in range(65)}}, ".parameters"),
    "none": ({"parameters": {}}, ".parameters"),
    "no mapping": ({"parameters": ["a"]}, ".parameters"),
    "uncountable": ({"method": "grid", **over(min=0.5, max=2)}, f'.parameters["{MAX_PPL}"]'),
    "misspelt limit": ({"maxTrial": 3}, ".maxTrial"),
    "no method": ({"method": "guess"}, ".method"),
    "no goal": ({"metric": {"name": "process.rows_out", "goal": "up"}}, ".metric.goal"),
    "no metric": ({"metric": None}, ".metric"),
    "no rung": (hyperband(max_iter=2, s=3, eta=4), ".early_terminate"),
    "where the rungs are": (hyperband(), ".early_terminate"),
    "no trial": ({"run_cap": 0}, ".run_cap"),
    "a cap spelt twice": ({"run_cap": 3, "runCap": 3}, ".runCap"),
    "stopping spelt twice": ({**hyperband(min_iter=3), "earlyTerminate": {"type": "hyperband", "min_iter": 3}}, ".earlyTerminate"),
}  # fmt: skip


def said_by_the_sweep(definition: Mapping[str, Any]) -> list[str]:
    """What a SandboxSweep says of the definition, without what the template has to do with."""
    problems = compile_sweep({**definition, "template": TEMPLATE}, name="s", uid="u").problems
    return [problem.removeprefix("spec") for problem in problems]


def said_by_the_hook(definition: Mapping[str, Any], folder: Path) -> list[str]:
    workspace = Workspace(folder / "volume", folder / "inputs", job_contract(), "pod00001")
    workspace.out.mkdir(parents=True)
    watcher = SandboxWatcher(workspace, MetricsLog(workspace.metrics, "toy"), EXPERIMENT.uid)
    try:
        sweep = watcher.setup_sweep(definition)
    except ConfigError as error:
        assert watcher.outputs == {}
        return [problem.removeprefix("hpo_config") for problem in str(error).splitlines()]
    assert json.loads(watcher.outputs[f"sweep_{sweep}"].read_text())["definition"] == definition
    return []


@pytest.mark.parametrize("name", TAKEN)
def test_both_take_what_is_right(name: str, tmp_path: Path) -> None:
    definition = {**GOOD, **TAKEN[name]}
    assert said_by_the_sweep(definition) == []
    assert said_by_the_hook(definition, tmp_path) == []


@pytest.mark.parametrize("name", REFUSED)
def test_both_refuse_what_is_wrong_in_the_same_words(name: str, tmp_path: Path) -> None:
    change, field = REFUSED[name]
    definition = {**GOOD, **change}
    told = said_by_the_hook(definition, tmp_path)
    assert [sentence.partition(": ")[0] for sentence in told] == [field]
    assert told == said_by_the_sweep(definition)


def test_all_that_is_wrong_is_told_at_once_by_both(tmp_path: Path) -> None:
    definition = {**GOOD, "maxTrial": 3, **hyperband(), "parameters": {"a": {"values": []}, "b": {"min": 1}}}
    told = said_by_the_hook(definition, tmp_path)
    assert len(told) == 3
    assert told == said_by_the_sweep(definition)


def test_a_pod_without_the_searchs_libraries_can_judge() -> None:
    """The hooks' images have neither scipy nor optuna."""
    code = (
        "import sys; sys.modules.update(scipy=None, optuna=None, numpy=None); import sandbox_runtime.sweep_file as it"
    )
    call = f"print(it.checked_sweep({dict(GOOD)!r})['method'])"
    done = subprocess.run([sys.executable, "-c", f"{code}; {call}"], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("bayes\n", "")
