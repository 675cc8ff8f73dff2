# SPDX-License-Identifier: Apache-2.0
"""The experiments that the model goes through, and what each comes to when nobody disturbs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from typing import Any

from tests.model.kube_model import Kube
from tests.unit.builders import (
    DEFAULTS,
    NOW,
    OWN_HOOKS,
    a_spec,
    lister,
    lists,
    pipelines,
    probe,
    process,
    refine,
    workers,
    written,
)

from sandbox_api.status import DONE_STATES, ExperimentStatus, JobStatus
from sandbox_operator.plan.compile import compile_spec
from sandbox_operator.plan.experiment import plan_experiment

COMMON: dict[str, Any] = {"timeouts": {"pending": "10m", "result": "2m", "nodeLost": "2m"}}
CHAIN = {
    "probes": [probe(metaName="a")],
    "refines": [refine(metaName="a", output=["refined"])],
    "executions": [process(input={"djConfigs": "-1.refined"}, metaName="p", output=["dataset"])],
}


SPECS: dict[str, dict[str, Any]] = {
    "one after another": a_spec(**CHAIN, **COMMON),
    "side by side, one may fail": a_spec(
        probes=[probe(metaName="a")],
        executions=[
            process(metaName="x", dependsOn=[], onFailure="Continue"),
            process(metaName="y", dependsOn=[]),
            process(metaName="z", dependsOn=["x"], input={"djConfigs.dataset_path": "anonymous.y.dataset"}),
        ],
        evaluations=[probe(metaName="e", input={"djConfigs.dataset_path": "anonymous.x.dataset"})],
        **COMMON,
    ),
    "many side by side": a_spec(
        executions=[process(metaName=name, dependsOn=[]) for name in "abcde"],
        evaluations=[probe(metaName="v", input={"djConfigs.dataset_path": "anonymous.e.dataset"})],
        **COMMON,
    ),
    "for each item of a list": pipelines(
        {"name": "split", **lists(executions=[lister(metaName="pools")])},
        {
            "name": "exps",
            "forEach": {"item": "pool", "in": "split.pools.paths", "maxParallel": 2},
            **lists(
                executions=[process(metaName="t", input={"djConfigs.dataset_path": "item.pool"})],
                evaluations=[probe(metaName="v", input={"djConfigs.dataset_path": "exps.t.dataset"})],
            ),
        },
        {"name": "end", **lists(evaluations=[probe(metaName="r", input={"djConfigs.dataset_path": "exps.t.dataset"})])},
        **COMMON,
    ),
    "pods that work as one": a_spec(
        executions=[
            workers(metaName="a", nodes=2),
            workers(metaName="t", nodes=2, input={"extraConfigs.model": "anonymous.a.dataset"}),
        ],
        **COMMON,
    ),
    "in pieces": a_spec(
        executions=[
            workers(metaName="a", shards=3),
            workers(metaName="p", shards=2, input={"extraConfigs.model": "anonymous.a.dataset"}),
        ],
        evaluations=[probe(metaName="e", input={"djConfigs.dataset_path": "anonymous.p.dataset"})],
        **COMMON,
    ),
    "iterations": a_spec(
        probes=[probe(metaName="a")],
        executions=[process(metaName="p", output=["dataset"], input={"djConfigs.dataset_path": "anonymous.a.stats"})],
        maxIterNum=3,
        iterTargets=["anonymous.p.rows_out >= 0.9"],
        iterUpdater={"anonymous.p.dataset": "anonymous.a.djConfigs.dataset_path"},
        **COMMON,
    ),
}


def end_of(status: ExperimentStatus) -> dict[str, Any]:
    """What an experiment came to, whoever did it and how often it was tried."""
    jobs = {
        job.id: (
            "Succeeded" if job.state in DONE_STATES else job.state,
            {name: value for name, value in (job.outputs or {}).items() if name != "of"},
            job.metrics,
        )
        for job in status.jobs
    }
    return {"outcome": status.outcome, "iteration": status.iteration, "progress": status.progress, "jobs": jobs}


@dataclass(frozen=True)
class Undisturbed:
    end: Mapping[str, Any]
    done: Mapping[str, JobStatus]
    """Every job's status at its end, by cache key."""


@cache
def undisturbed(name: str, access_mode: str) -> Undisturbed:
    kube = Kube.of(SPECS[name], access_mode=access_mode, names="other")
    compiled, keys, done = compile_spec(kube.stored.spec, OWN_HOOKS), {}, {}
    for _ in range(100):
        step = plan_experiment(kube.observed(), compiled, DEFAULTS, kube.now)
        kube.stored = replace(kube.stored, status=step.status)
        keys |= {job.id: job.cache_key for job in step.status.jobs if job.cache_key is not None}
        done |= {job.id: job for job in step.status.jobs if job.state in DONE_STATES}
        for action in step.actions:
            kube.act(action)
        if step.status.completion_time is not None:
            return Undisturbed(end_of(step.status), {keys[job_id]: _elsewhere(job) for job_id, job in done.items()})
        kube.go_well()
    raise AssertionError(f"{name}: it does not end")


def _elsewhere(job: JobStatus) -> JobStatus:
    """The same in another experiment's folder, and some time ago."""
    assert job.result is not None
    path = job.result.path.replace("experiments/demo", "experiments/neighbour")
    result = job.result.model_copy(update={"path": path})
    return job.model_copy(update={"result": result, "completion_time": written(NOW - timedelta(hours=1))})
