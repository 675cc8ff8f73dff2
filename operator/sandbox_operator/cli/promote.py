# SPDX-License-Identifier: Apache-2.0
"""From a finished ranking on a sample to the experiment on all the data: "small first, then large".

Pure: the stored experiment and what was asked in, a manifest out. What a refine job has found stands in it as literal
numbers, so that it means the same whatever becomes of the experiment that it comes from; where it comes from stands in
its annotations.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sandbox_api.base import API_VERSION, GROUP, OBJECT_NAME
from sandbox_api.experiment import Rank
from sandbox_api.hook import Hook
from sandbox_api.recipe import operator_names
from sandbox_api.status import DONE_STATES, ExperimentStatus, JobStatus, RankRow

from ..plan.compile import Compiled, compile_spec
from ..plan.configs import effective
from ..plan.inputs import ITEM
from ..plan.iterations import figure_of
from ..plan.job import PlannedJob, Reference, is_of_each_item, planned_id
from ..plan.references import did_you_mean
from ..plan.spread import name_of
from .experiments import Ended
from .offline import KIND
from .values import with_each_job, with_values

PREFIX = f"promoted-from.{GROUP}/"
"""Of annotations that say where an experiment comes from."""
MAX_NAME = 52
INPUTS = "inputs"
POOL = "extraConfigs.pool_path"
PIPELINE = "data"
BEFORE, PROCESS, AFTER = "before", "process", "after"
"""metaNames of the jobs on the data set."""
CARRIED = (
    "projectName", "workspace", "inputs", "pods", "images", "runAsUser", "retry", "timeouts", "cache", "onFailure",
    "keepAttempts", "keep", "ttlSecondsAfterFinished", "tracking", "queueName",
)  # fmt: skip
"""Fields of the spec that are about where and how, not about what was tried."""
ONES_OWN = ("dataset_path", "dataset", "export_path", "export_original_dataset", "work_dir")
"""Keys of a recipe that say which data, and where to."""


@dataclass(frozen=True)
class Origin:
    """An experiment as it is stored, with the SandboxHooks of its namespace by name."""

    name: str
    namespace: str | None
    uid: str
    generation: int
    spec: Mapping[str, Any]
    status: ExperimentStatus
    hooks: Mapping[str, Hook | tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    dataset: str
    """Path of the data set, `inputs/<name>/...`."""
    values: Mapping[str, Any]
    name: str | None = None
    """Of the new experiment."""
    recipe: str | None = None
    """metaName of the refine job."""


@dataclass(frozen=True)
class Promoted:
    manifest: dict[str, Any]
    doubts: tuple[str, ...]
    """What the ranking does not say of its winner; sentences."""


def promoted(source: Origin, asked: Asked) -> Promoted:
    """The experiment that takes an experiment's recipe to a whole data set, trains and judges as its ranking did.

    Raises Ended with a sentence where there is nothing to promote, or where the result would not be a sound plan.
    """
    if source.status.outcome != "Succeeded":
        raise Ended(f"is {source.status.outcome or 'Pending'}; only what has Succeeded can be promoted")
    compiled = compile_spec(source.spec, source.hooks)
    if compiled.spec is None:
        raise Ended(f"its spec can't be read by this version: {'; '.join(compiled.problems)}")
    if compiled.spec.trial is not None and compiled.spec.trial.parameters:
        sweep = compiled.spec.trial.sweep
        raise Ended(
            f"is a trial of the sweep {sweep}, and what its parameters set would be lost; write their values into the"
            " template's configurations, run that without spec.trial, and promote it"
        )
    job, result = _refined(compiled, source.status, asked.recipe)
    bounds = (result.outputs or {}).get(_output(job, "bounds"))
    recipe = frozen(job, bounds)
    pipeline = _ranked_pipeline(compiled, source.spec)
    assert compiled.spec.rank is not None, "there would be no ranked pipeline"
    winner = winner_of(compiled.spec.rank, source.status.ranking or [], _pool_of(job, source.status))
    doubts = (*winner.doubts, *_recipe_doubts(bounds, result))
    spec = with_values(_spec(source.spec, pipeline, recipe, asked.dataset), asked.values)
    manifest = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {
            "name": _name(source.name, asked.name),
            **({"namespace": source.namespace} if source.namespace else {}),
            "annotations": _provenance(source, result, _output(job, "recipe"), winner.told, doubts),
        },
        "spec": spec,
    }
    problems = [*_dataset_problems(asked.dataset, spec), *compile_spec(spec, source.hooks).problems]
    if problems:
        raise Ended("\n".join(["what would be written is no sound experiment:", *problems]))
    return Promoted(manifest, doubts)


@dataclass(frozen=True)
class Winner:
    told: str
    """Its figure, and what it is against the baseline."""
    doubts: tuple[str, ...] = ()


def winner_of(rank: Rank, rows: Sequence[RankRow], pool: str | None) -> Winner:
    """What a ranking says of the item that a recipe was made from, or of its first one, and what it does not say."""
    if not rows:
        raise Ended("its ranking is empty: no item has a figure of all its repeats")
    row = next((row for row in rows if row.item == pool), rows[0])
    doubts = [*_doubts(rank, rows, row, pool)]
    told = f"{row.item}: {rank.metric} {row.mean:.6g}"
    if row.repeats and row.repeats > 1:
        told += f", the mean of {row.repeats}"
    if row.change is not None:
        change = f"{row.relative:+.2%}" if row.relative is not None else f"{row.change:+.4g}"
        told += f", {change} against {rank.baseline}"
    if row.interval is not None:
        low, high = row.interval
        told += f", 95 % interval of the difference {low:.4g} to {high:.4g}"
    return Winner(told, tuple(doubts))


def _doubts(rank: Rank, rows: Sequence[RankRow], row: RankRow, pool: str | None) -> Iterator[str]:
    if pool is None:
        yield "the recipe was not made from one item of the ranking, which so does not say whether it is good"
    elif pool != row.item:
        yield f"the recipe was made from {pool}, which is not in the ranking"
    elif row is not rows[0]:
        yield f"the recipe was made from {pool}, which has place {[*rows].index(row) + 1}; the first is {rows[0].item}"
    if row.item == rank.baseline:
        yield f"{row.item} is the baseline itself: nothing was better"
    elif row.change is None and rank.baseline is None:
        yield f"{row.item} was compared with no baseline; name one in spec.rank.baseline"
    elif row.change is None:
        words = f"none of the items is named {rank.baseline!r} (spec.rank.baseline)"
        yield f"{row.item} was compared with no baseline: {words}"
    elif (row.change > 0) != (rank.goal == "maximize"):
        yield f"{row.item} is not better than the baseline {rank.baseline}"
    elif row.interval is None and (row.repeats or 1) > 1:
        words = "by the same in all repeats: whether by chance, nobody can tell"
        yield f"{row.item} differs from the baseline {rank.baseline} {words}"
    elif row.interval is None:
        yield f"{row.item} was trained once: whether it is better than the baseline {rank.baseline}, nobody can tell"
    elif row.interval[0] <= 0 <= row.interval[1]:
        words = "the difference may be chance; more repeats tell more"
        yield f"{row.item} is tied with the baseline {rank.baseline}: {words}"


def _recipe_doubts(bounds: Mapping[str, Any], result: JobStatus) -> Iterator[str]:
    """Where the recipe is not what was trained on."""
    pool, kept = (figure_of(result, name) for name in ("rows_pool", "rows_kept"))
    if not bounds:
        yield "the recipe's job has set no bound: it is what stands in its djConfigs"
    elif pool is not None and kept is not None and kept > pool:
        yield f"the recipe keeps {kept:.0f} rows of the sample, of which the pool has {pool:.0f}"


def _provenance(source: Origin, result: JobStatus, recipe: str, winner: str, doubts: Sequence[str]) -> dict[str, str]:
    """Where it comes from, as annotations."""
    assert result.result is not None, "it is done"
    whole = f"{source.namespace}/{source.name}" if source.namespace else source.name
    said = {
        "experiment": whole,
        "uid": source.uid,
        "generation": str(source.generation),
        "recipe-job": f"{result.id} ({result.meta_name})",
        "recipe": str((result.outputs or {}).get(recipe, "")),
        "recipe-digest": result.result.content or "",
        "result-digest": result.result.sha256,
        "winner": winner,
        "doubts": "; ".join(doubts),
    }
    return {f"{PREFIX}{name}": text for name, text in said.items() if text}


def frozen(job: PlannedJob, bounds: Any) -> dict[str, Any]:
    """A refine job's recipe as it wrote it: its configuration, with the bounds that it has set. Raises Ended."""
    filled = next((to for to in job.inputs if to == "djConfigs" or f"{to}.".startswith("djConfigs.process.")), None)
    written = effective(job.config)["djConfigs"]
    if filled is not None or not isinstance(written, Mapping) or not isinstance(written.get("process"), list):
        why = f'input["{filled}"] fills it' if filled else "it does not stand in djConfigs itself"
        raise Ended(f"{job.where}: its recipe is not known, because {why}; write its process there, and run it again")
    if not isinstance(bounds, Mapping):
        raise Ended(f"{job.where}: its result does not tell the bounds; run it again: sandboxctl rerun --from {job.id}")
    names = operator_names(written["process"])
    process = [{op: dict(given or {}) for op, given in entry.items()} for entry in written["process"]]
    for name, value in bounds.items():
        operator, _, argument = name.rpartition(".")
        if operator not in names:
            raise Ended(f"{job.where}: its result bounds {operator}, which its recipe does not have; run it again")
        (given,) = process[names.index(operator)].values()
        given[argument] = value
    return {**{key: value for key, value in written.items() if key not in ONES_OWN}, "process": process}


def _refined(compiled: Compiled, status: ExperimentStatus, wanted: str | None) -> tuple[PlannedJob, JobStatus]:
    """The refine job and what it has found."""
    jobs = {job.id: job for job in compiled.jobs if "recipe" in job.hook.outputs}
    names = [job.meta_name for job in jobs.values()]
    if not jobs:
        raise Ended("has no refine job, so no recipe; add a RefineRecipeViaPoolHook job that reads the best pool")
    if wanted is not None:
        jobs = {job_id: job for job_id, job in jobs.items() if job.meta_name == wanted}
    if not jobs:
        raise Ended(f"--recipe: no refine job has the metaName {wanted!r}{did_you_mean(wanted or '', names)}")
    if len(jobs) > 1:
        told = ", ".join(f"{job.meta_name} ({job.id})" for job in jobs.values())
        ask = "name one with --recipe" if wanted is None else "give them different metaNames"
        raise Ended(f"has {len(jobs)} refine jobs: {told}; {ask}")
    (job,) = jobs.values()
    found = [entry for entry in status.jobs if planned_id(entry.id) == planned_id(job.id)]
    if len(found) != 1 or found[0].state not in DONE_STATES or found[0].result is None:
        how = f"is {found[0].state}" if len(found) == 1 else f"has {len(found)} results"
        raise Ended(f"{job.meta_name} ({job.id}) {how}; a recipe comes from one refine job that is done")
    return job, found[0]


def _output(job: PlannedJob, name: str) -> str:
    """What the job calls an output of its hook."""
    return job.outputs[job.hook.outputs.index(name)] if name in job.hook.outputs else name


def _pool_of(job: PlannedJob, status: ExperimentStatus) -> str | None:
    """The item of the ranking that a recipe was made from, where it is one."""
    source, extra = job.inputs.get(POOL), effective(job.config)["extraConfigs"]
    value = extra.get("pool_path") if source is None and isinstance(extra, Mapping) else None
    if isinstance(source, Reference):
        entry = next((entry for entry in status.jobs if entry.id == source.job_id), None)
        value = (entry.outputs or {}).get(source.output) if entry is not None else None
        if isinstance(value, list) and source.element is not None:
            value = value[source.element]
    if isinstance(value, list):
        value = value[0] if len(value) == 1 else None
    return name_of(value)


def _ranked_pipeline(compiled: Compiled, spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """The pipeline that made and judged a model of each item, as written; of several rounds the last."""
    if not compiled.ranked:
        raise Ended("has no spec.rank, which says what trains and judges a model; there is nothing to do with a recipe")
    *_, last = compiled.ranked
    if is_of_each_item(last.job_id):
        raise Ended(f"spec.rank: {last.job_id} has a forEach of its own; put it into a pipeline with that forEach")
    name = last.job_id.partition("[")[0]
    return next(pipeline for pipeline in spec["pipelines"] if pipeline["name"] == name)


def _spec(
    spec: Mapping[str, Any], pipeline: Mapping[str, Any], recipe: Mapping[str, Any], dataset: str
) -> dict[str, Any]:
    own = PIPELINE if pipeline["name"] != PIPELINE else f"{PIPELINE}_set"
    processed = f"{own}.{PROCESS}.dataset"
    whole = {"dataset_path": dataset, **recipe}
    look = {"hook": "ProbeViaAnalyzerHook"}
    again = {"input": {"djConfigs.dataset_path": processed}, "djConfigs": recipe}
    data = {
        "name": own,
        "probeJobConfigs": [{**look, "metaName": BEFORE, "djConfigs": whole}],
        "executionJobConfigs": [{"hook": "ProcessDataHook", "metaName": PROCESS, "djConfigs": whole}],
        "evaluationJobConfigs": [{**look, "metaName": AFTER, **again}],
    }
    item = f"{ITEM}.{pipeline['forEach']['item']}"
    rest = {key: value for key, value in pipeline.items() if key != "forEach"}
    model = with_each_job(rest, lambda job: _of_data(job, item, processed))
    return {
        **{key: spec[key] for key in CARRIED if key in spec},
        "comparison": [{"before": BEFORE, "after": AFTER}],
        "pipelines": [data, model],
    }


def _of_data(job: Mapping[str, Any], item: str, dataset: str) -> Mapping[str, Any]:
    """The job with the data set in the item's place."""
    inputs = job.get("input") or {}
    return {**job, "input": {key: dataset if text == item else text for key, text in inputs.items()}} if inputs else job


def _name(source: str, wanted: str | None) -> str:
    name = wanted or f"{source}-promoted"
    if len(name) > MAX_NAME or not re.fullmatch(OBJECT_NAME, name):
        raise Ended(f"--name: {name!r} can't be an experiment's name; take at most {MAX_NAME} of a-z, 0-9 and -")
    return name


def _dataset_problems(dataset: str, spec: Mapping[str, Any]) -> Iterator[str]:
    names = [volume["name"] for volume in spec.get("inputs") or ()]
    root, _, path = dataset.partition("/")
    name, _, rest = path.partition("/")
    if root != INPUTS or name not in names or not rest:
        known = ", ".join(f"{INPUTS}/{one}/..." for one in names) or "none"
        yield (
            f"--dataset: {dataset!r} is not among the inputs ({known}); write {INPUTS}/<name>/<path>, and name a"
            " further volume in spec.inputs of the values"
        )
