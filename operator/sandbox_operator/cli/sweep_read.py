# SPDX-License-Identifier: Apache-2.0
"""A sweep and its trials as they stand, from a cluster or from files: read as the operator reads them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from sandbox_api.base import GROUP, VERSION
from sandbox_api.experiment import Trial
from sandbox_api.hook import Hook
from sandbox_api.hook_resource import hooks_in
from sandbox_api.sentences import schema_problems
from sandbox_api.status import ExperimentStatus
from sandbox_api.sweep import MAX_TRIALS, SweepSpec, SweepStatus
from sandbox_api.words import shown

from ..build.names import LABEL_SWEEP
from ..build.volume import SWEEP
from ..kube.client import Client
from ..kube.resources import Resource
from ..plan.compile import Compiled
from ..plan.iterations import figure_of, in_iteration
from ..plan.sweep_definition import compile_sweep
from ..plan.sweep_facts import TrialFact
from ..plan.sweep_stopping import early_terminate_of
from ..plan.sweep_trials import Told, seen_as, trial_fact
from ..search.observed import SeenState
from ..search.suggest import Settings
from ..search.verify import Recorded, RungRecord
from ..search.verify import verify as verified
from .control import hooks_of
from .documents import documents_in, why_unreadable
from .experiments import EXPERIMENTS, Ended

SWEEPS = Resource(GROUP, VERSION, "sandboxsweeps", SWEEP)
Manifest = Mapping[str, Any]
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class TrialView:
    """One trial: how it stands for the sweep, what its suggestion saw, and the figure in each of its repeats."""

    fact: TrialFact
    observed: str
    rungs: tuple[RungRecord, ...]
    repeats: tuple[float, ...]

    @property
    def value(self) -> float | None:
        """Of one that succeeded or was pruned, if it is a number."""
        return seen_as(self.fact)[1]

    @property
    def seen_as(self) -> SeenState:
        """How the search sees it."""
        return seen_as(self.fact)[0]


@dataclass(frozen=True)
class SweepView:
    name: str
    namespace: str
    spec: SweepSpec
    status: SweepStatus
    settings: Settings
    objective: str
    max_trials: int
    trials: tuple[TrialView, ...]
    """By number."""

    def problems(self) -> tuple[str, ...]:
        """What does not follow from the records; none when all does."""
        records = [_recorded(trial) for trial in self.trials]
        return verified(self.settings, records, early_terminate_of(self.spec), begun=self.status.counts.total)


def _recorded(trial: TrialView) -> Recorded:
    fact = trial.fact
    return Recorded(
        number=fact.number,
        name=fact.name,
        point=fact.point or (),
        parameters=fact.parameters,
        observed=trial.observed,
        state=trial.seen_as,
        value=trial.value,
        decisions=trial.rungs,
    )


async def read_cluster(client: Client, name: str, namespace: str) -> SweepView:
    """Raises NotFound, and Ended where the sweep's spec can't be understood."""
    sweep = await client.get(SWEEPS, name, namespace)
    trials = (await client.list(EXPERIMENTS, namespace, label_selector=f"{LABEL_SWEEP}={name}")).items
    return view_of(sweep, trials, await hooks_of(client, namespace) or {})


def read_dump(files: Sequence[Path], name: str, namespace: str | None) -> SweepView:
    """From files with what `kubectl get sandboxsweeps,sandboxexperiments,sandboxhooks -o yaml` prints.

    Raises Ended where the sweep is not in them, or there twice.
    """
    found = [item for file in files for item in _items(file)]
    sweeps = [item for item in found if item.get("kind") == SWEEP and _meta(item).get("name") == name]
    sweeps = [item for item in sweeps if namespace in (None, _meta(item).get("namespace"))]
    if len(sweeps) != 1:
        words = "is not in" if not sweeps else f"is there {len(sweeps)} times (say which with --namespace) in"
        raise Ended(f"the {SWEEP} {words} {', '.join(map(str, files))}")
    where = _meta(sweeps[0]).get("namespace")
    trials = [
        item
        for item in found
        if item.get("kind") == EXPERIMENTS.kind
        and _meta(item).get("namespace") == where
        and _part(item, "metadata", "labels").get(LABEL_SWEEP) == name
    ]
    return view_of(sweeps[0], trials, hooks_in(found, where)[0])


def _items(file: Path) -> Iterable[Manifest]:
    try:
        documents = documents_in(file.read_text(encoding="utf-8"))
    except (Ended, OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise Ended(f"{file}: {why_unreadable(error)}") from error
    for document in documents:
        if isinstance(document, Mapping):
            items = document.get("items")
            yield from (
                each for each in (items if isinstance(items, list) else [document]) if isinstance(each, Mapping)
            )


def _meta(item: Manifest) -> Manifest:
    return _part(item, "metadata")


def _part(item: Manifest, *path: str) -> Manifest:
    """A part of a resource that has keys and values; empty where it is not there."""
    part = item
    for count, field in enumerate(path, 1):
        found = part.get(field)
        if found is not None and not isinstance(found, Mapping):
            raise _wrong(item, f"{'.'.join(path[:count])}: write keys and values, not {shown(found)}")
        part = found or {}
    return part


def _text(item: Manifest, found: object, where: str) -> str:
    if not isinstance(found, str) or not found:
        raise _wrong(item, f"{where}: {'is missing' if found is None else f'write text, not {shown(found)}'}")
    return found


def _wrong(item: Manifest, sentence: str) -> Ended:
    """What is wrong with a resource, with its name before it, or its kind where it has none."""
    meta = item.get("metadata")
    name = meta.get("name") if isinstance(meta, Mapping) else None
    return Ended(f"{name or 'a ' + str(item.get('kind'))}: {sentence}")


def _as(model: type[Model], raw: object, item: Manifest, where: str) -> Model:
    """A part of a resource as what is to stand there."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise _wrong(item, next(schema_problems(error, model, where))) from error


def view_of(sweep: Manifest, experiments: Iterable[Manifest], hooks: Mapping[str, Hook | tuple[str, ...]]) -> SweepView:
    """The sweep with those of the experiments that it owns. Raises Ended where a resource can't be understood."""
    meta = _meta(sweep)
    name, uid = (_text(sweep, meta.get(field), f"metadata.{field}") for field in ("name", "uid"))
    compiled = compile_sweep(_part(sweep, "spec"), name=name, uid=uid, added=hooks)
    if compiled.spec is None or compiled.settings is None or compiled.first is None:
        raise Ended("; ".join(compiled.problems))
    status = _as(SweepStatus, sweep.get("status") or {}, sweep, "status")
    owned = ((item, _owner(item)) for item in experiments)
    trials = [_trial(item, owner, compiled.first) for item, owner in owned if owner is not None and owner[1] == uid]
    return SweepView(
        name=name,
        namespace=str(meta.get("namespace") or ""),
        spec=compiled.spec,
        status=status,
        settings=compiled.settings,
        objective=compiled.objective or compiled.spec.metric.name,
        max_trials=compiled.max_trials,
        trials=tuple(sorted(trials, key=lambda trial: (trial.fact.number, trial.fact.name))),
    )


def _owner(item: Manifest) -> tuple[str, str] | None:
    """Name and uid of the sweep that has made an experiment."""
    owners = _meta(item).get("ownerReferences") or []
    if not isinstance(owners, list):
        raise _wrong(item, f"metadata.ownerReferences: write a list, not {shown(owners)}")
    for number, owner in enumerate(owners):
        where = f"metadata.ownerReferences[{number}]"
        if not isinstance(owner, Mapping):
            raise _wrong(item, f"{where}: write keys and values, not {shown(owner)}")
        if owner.get("controller") and owner.get("kind") == SWEEP:
            name, uid = (_text(item, owner.get(field), f"{where}.{field}") for field in ("name", "uid"))
            return name, uid
    return None


def _trial(item: Manifest, owner: tuple[str, str], compiled: Compiled) -> TrialView:
    spec = _part(item, "spec")
    if spec.get("trial") is None:
        raise _wrong(item, "spec.trial: is missing, which each experiment of a sweep has")
    trial = _as(Trial, spec["trial"], item, "spec.trial")
    if trial.number >= MAX_TRIALS:
        raise _wrong(item, f"spec.trial.number: {trial.number} is too large; a sweep has {MAX_TRIALS} trials at most")
    told = Told(
        sweep=owner[0],
        sweep_uid=owner[1],
        number=trial.number,
        parameters=trial.parameters,
        point=tuple(map(float, trial.point)) if trial.point is not None else None,
        suspended=spec.get("suspend") is True,
        stopping=spec.get("stop") == "Now",
    )
    status = _as(ExperimentStatus, item.get("status") or {}, item, "status")
    decisions = status.trial.decisions if status.trial is not None else []
    return TrialView(
        fact=trial_fact(_text(item, _meta(item).get("name"), "metadata.name"), told, status, compiled),
        observed=trial.observed or "",
        rungs=tuple(RungRecord(each.rung, each.value, each.seen or 0, each.decision) for each in decisions),
        repeats=_repeats(status, compiled),
    )


def _repeats(status: ExperimentStatus, compiled: Compiled) -> tuple[float, ...]:
    """The objective in each repeat that has it; empty where its job is not repeated."""
    if len(compiled.objective) < 2:
        return ()
    entries = {entry.id: entry for entry in status.jobs}
    jobs = [(entries.get(in_iteration(one.job_id, status.iteration or 1)), one.output) for one in compiled.objective]
    values = [figure_of(entry, output) for entry, output in jobs if entry is not None]
    return tuple(value for value in values if value is not None and math.isfinite(value))
