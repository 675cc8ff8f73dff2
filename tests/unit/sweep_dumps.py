# SPDX-License-Identifier: Apache-2.0
"""Sweeps as `kubectl get -o yaml` prints them: the resource and its trials, with what an operator has written there."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.unit.sweeps import bowl, search

from sandbox_api.base import API_VERSION
from sandbox_api.rungs import rungs_of
from sandbox_api.sweep import EarlyTerminate
from sandbox_operator.build.names import LABEL_SWEEP
from sandbox_operator.plan.sweep_definition import compile_sweep, trial_of
from sandbox_operator.search.space import Point
from sandbox_operator.search.stopping import Arrival, arrive

UID = "0a1b2c3d-0000-4000-8000-000000000001"
FILTERS: dict[str, Any] = {
    "character_repetition_filter.max_ratio": {"min": 0.1, "max": 0.9},
    "character_repetition_filter.rep_len": {"values": [2, 4, 8, 16]},
    "text_length_filter.min_len": {"distribution": "q_log_uniform_values", "min": 16, "max": 8192},
}
PROCESS = [{"character_repetition_filter": {"rep_len": 10, "max_ratio": 0.5}}, {"text_length_filter": {"min_len": 10}}]
PROCESSING = {
    "executionJobConfigs": [
        {
            "hook": "ProcessDataHook",
            "metaName": "process",
            "djConfigs": {"dataset_path": "data/demo.jsonl", "process": PROCESS},
        }
    ]
}
TRAINING = {
    "repeats": 3,
    "executionJobConfigs": [
        {
            "hook": "TrainModelHook", "metaName": "train", "type": "modelscope",
            "extraConfigs": {"model_name": "data/bert", "train_dataset": "data/a.jsonl"},
        },
        {
            "hook": "InferModelHook", "metaName": "infer", "type": "huggingface",
            "input": {"extraConfigs.model": "anonymous.train.model"}, "extraConfigs": {"dataset_path": "data/a.jsonl"},
        },
    ],
    "evaluationJobConfigs": [
        {
            "hook": "EvaluateDataHook", "metaName": "judge", "type": "accuracy",
            "input": {"extraConfigs.predicted_dataset_path": "anonymous.infer.dataset"},
            "extraConfigs": {"predicted_label_key": "label", "ground_truth_label_key": "truth"},
        }
    ],
}  # fmt: skip


def a_dump(
    trials: int = 12,
    *,
    name: str = "find",
    parameters: Mapping[str, Any] = FILTERS,
    objective: Callable[[Point], float] = bowl,
    fates: int | None = None,
    template: Mapping[str, Any] = PROCESSING,
    spread: float = 0.0,
    **spec: Any,
) -> list[dict[str, Any]]:
    """The sweep and its trials. `fates`: a seed by which some fail and some are pruned; none where not given.

    `spread`: of the repeats of a job that is repeated.
    """
    asked = {
        "method": "bayes", "metric": {"name": "process.rows_out", "goal": "minimize"}, "parallelism": 3, "seed": 1,
        "maxTrials": max(trials, 1), "parameters": dict(parameters), "template": dict(template), **spec,
    }  # fmt: skip
    compiled = compile_sweep(asked, name=name, uid=UID)
    assert compiled.settings is not None, compiled.problems
    assert compiled.first is not None
    draw = random.Random(fates) if fates is not None else None
    noise = random.Random(1)
    made = []
    for trial in search(compiled.settings, trials, asked["parallelism"], objective, draw):
        own = trial_of(
            compiled,
            sweep=name,
            number=trial.number,
            values=trial.parameters,
            point=trial.point,
            observed=trial.observed,
        )
        jobs = [
            {
                "id": one.job_id, "hook": "any", "metaName": compiled.objective.rpartition(".")[0], "state": "Succeeded",
                "metrics": {compiled.objective: (trial.value or 0.0) + (noise.gauss(0, spread) if spread else 0.0)},
            }
            for one in compiled.first.objective
            if compiled.objective is not None
        ]  # fmt: skip
        made.append(_experiment(f"{name}-{trial.number:04d}", name, own, _status(trial.state, trial.value, jobs)))
    status = {"outcome": "Running", "seed": 1, "startTime": "2026-01-31T12:00:00Z", "objective": compiled.objective}
    sweep = {
        "apiVersion": API_VERSION, "kind": "SandboxSweep", "spec": asked, "status": status,
        "metadata": {"name": name, "namespace": "lab", "uid": UID, "generation": 1},
    }  # fmt: skip
    return [sweep, *made]


def _experiment(name: str, sweep: str, spec: Mapping[str, Any], status: Mapping[str, Any]) -> dict[str, Any]:
    owner = {"apiVersion": API_VERSION, "kind": "SandboxSweep", "name": sweep, "uid": UID, "controller": True}
    return {
        "apiVersion": API_VERSION, "kind": "SandboxExperiment", "spec": dict(spec), "status": dict(status),
        "metadata": {"name": name, "namespace": "lab", "labels": {LABEL_SWEEP: sweep}, "ownerReferences": [owner]},
    }  # fmt: skip


def _status(state: str, value: float | None, jobs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if state == "running":
        return {"outcome": "Running"}
    ended = {"completionTime": "2026-01-31T12:30:00Z", "iteration": 1}
    if state == "succeeded":
        return {**ended, "outcome": "Succeeded", "jobs": list(jobs)}
    if state == "pruned":
        stop = {"rung": 3, "value": value, "seen": 0, "decision": "Stop"}
        return {**ended, "outcome": "Stopped", "trial": {"pruned": True, "decisions": [stop]}}
    condition = {
        "type": "Succeeded", "status": "False", "reason": "OutOfMemory", "message": "process: exit code 137 <b>killed</b>",
        "lastTransitionTime": "2026-01-31T12:30:00Z",
    }  # fmt: skip
    return {**ended, "outcome": "Failed", "conditions": [condition]}


def written(folder: Path, dump: list[dict[str, Any]]) -> Path:
    """A file as `kubectl get -o json` makes it."""
    file = folder / "dump.json"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": dump}))
    return file


def with_early_stopping(dump: Sequence[dict[str, Any]], early: Mapping[str, Any]) -> dict[int, list[tuple[int, str]]]:
    """Write into a dump what an operator records of trials that came to their rungs by number, each with its own value:
    one that is stopped ends there. Of a sweep whose suggestions see nothing. Gives the decisions, as (rung, decision), by trial."""
    asked = EarlyTerminate.model_validate(early)
    dump[0]["spec"]["early_terminate"] = dict(early)
    recorded: list[Arrival] = []
    for item in dump[1:]:
        number, goal = item["spec"]["trial"]["number"], dump[0]["spec"]["metric"]["goal"]
        (value,) = item["status"]["jobs"][0]["metrics"].values()
        for rung in rungs_of(asked):
            recorded.append(arrive(asked, goal, recorded, number, rung, value))
            if recorded[-1].decision == "Stop":
                item["status"] = {"completionTime": "2026-01-31T12:30:00Z", "iteration": 1, "outcome": "Stopped"}
                break
        made = [each for each in recorded if each.trial == number]
        rows = [{"rung": d.rung, "value": d.value, "seen": d.seen, "decision": d.decision} for d in made]
        item["spec"]["trial"].pop("observed", None)
        item["status"]["trial"] = {"pruned": made[-1].decision == "Stop", "decisions": rows}
    return {
        trial: [(each.rung, each.decision) for each in recorded if each.trial == trial]
        for trial in sorted({each.trial for each in recorded})
    }
