# SPDX-License-Identifier: Apache-2.0
"""From a sweep's spec to what it means, with every mistake in it told at once, before any trial begins.

The result depends on the spec, the sweep's identity and the namespace's own hooks alone, so it may be kept for as long
as the generation stands. The template is judged by what judges experiments: as the first trial's spec.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from sandbox_api.digest import sha256_of
from sandbox_api.experiment import NewClaim, Workspace
from sandbox_api.hook import Hook
from sandbox_api.sentences import schema_problems
from sandbox_api.sweep import MAX_TRIALS, SweepSpec, ignored_in
from sandbox_api.sweep_definition import read_definition

from ..build.names import claim_name, trial_name
from ..build.trial import trial_spec
from ..search.observed import SEEN_AT_MOST
from ..search.space import Space, space_of
from ..search.suggest import LOOKS_BACK, Settings, suggest
from .compile import NO_HOOKS, Compiled, compile_spec, too_deep
from .sweep_stopping import early_terminate_of, nothing_stops, resource_problems, rungs_for_trials
from .sweep_values import is_told, sentences, value_problems
from .trial import WHERE as PARAMETERS

DEFAULT_TRIALS = 20
DEFAULT_FAILURES = 3
OF_THE_SWEEP = {
    "trial": "leave it out; the sweep writes it",
    "suspend": "set spec.suspend, which suspends all trials that run",
    "suspendPolicy": "leave it out",
    "stop": "leave it out",
    "rerun": "leave it out; a trial that has failed counts as such",
}
"""Fields of an experiment that the template may not have, and what to do instead."""
_ADDRESSES = (
    (re.compile(r"^spec\.trial\.parameters\b"), "spec.parameters"),
    (re.compile(r"^spec\.trial\.metric\b"), "spec.metric.name"),
    (re.compile(r"^spec\.trial\.rungs\.metric\b"), "spec.metric.name"),
    (re.compile(r"^spec\.trial\.rungs\b"), "spec.earlyTerminate"),
    (re.compile(r"^spec\.overrides\b"), "spec.overrides"),
    (re.compile(r"^spec\b"), "spec.template"),
)
"""Where a sentence about a trial's spec is to be read in the sweep's; the first that fits."""
_BEYOND = re.compile(r"\bspec\.(?=(?:probe|refineRecipe|execution|evaluation)JobConfigs|jobConfigs|pipelines|inputs\b)")
"""Fields of the template that a sentence names further on."""
_CHECKPOINTS = "spec.keep.checkpoints"
"""Stands where it stands in both, if the sweep sets it."""
_NO_SEED = 13
"""Hex digits of a digest that make a seed below 2^53, which every reader of JSON can hold."""


@dataclass(frozen=True)
class CompiledSweep:
    spec: SweepSpec | None
    problems: tuple[str, ...] = ()
    """Sentences that begin with the field's path."""
    settings: Settings | None = None
    """Of the search; None where there are problems."""
    template: Mapping[str, Any] | None = None
    workspace: Workspace | None = None
    """The claim of all trials, to use or to make."""
    first: Compiled | None = None
    """The first trial as it was judged: what its jobs are, and which figure is the objective, is the same in all."""
    max_trials: int = 0
    max_failed_trials: int = DEFAULT_FAILURES
    seed: int = 0
    warnings: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()

    @property
    def claim(self) -> str | None:
        """An existing claim that the template names."""
        return self.workspace.claim_name if self.workspace is not None else None

    @property
    def objective(self) -> str | None:
        """The figure that the metric's name was resolved to, whole."""
        if self.first is None or not self.first.objective:
            return None
        figure = self.first.objective[0]
        job = next(job for job in self.first.jobs if job.id == figure.job_id)
        return f"{job.meta_name}.{figure.output}"


def compile_sweep(
    raw: Mapping[str, Any], *, name: str, uid: str, added: Mapping[str, Hook | tuple[str, ...]] = NO_HOOKS
) -> CompiledSweep:
    """What a sweep's spec means, or all that is wrong with it.

    `added` are the namespace's own hooks (SandboxHook) by name, or what is wrong with them.
    """
    if (deep := too_deep(raw)) is not None:
        return CompiledSweep(None, (deep,))
    definition = read_definition(raw)
    spec, problems = definition.spec, list(definition.problems)
    space = space_of(definition.space) if definition.space is not None else None
    template = raw.get("template")
    has_template = isinstance(template, Mapping)
    template = template if isinstance(template, Mapping) else {}
    workspace = _workspace(template, problems)
    if spec is not None and spec.method in LOOKS_BACK and (count := _max_trials(spec, space)) > SEEN_AT_MOST:
        problems.append(
            f"spec.maxTrials: {spec.method} looks back on all trials, on {SEEN_AT_MOST} at most, not on {count};"
            " lower it, or search with sobol or random"
        )
    problems += (f"spec.template.{field}: {advice}" for field, advice in OF_THE_SWEEP.items() if field in template)
    own = {field: value for field, value in template.items() if field not in OF_THE_SWEEP}
    seed = spec.seed if spec is not None and spec.seed is not None else seed_of(uid)
    settings = _settings(spec, space, seed) if spec is not None and space is not None else None
    values: Mapping[str, Any] = suggest(settings, 0).values if settings is not None else {}
    first = _first_trial(name, own, spec, values, added) if has_template else Compiled(None)
    wrong = value_problems(settings.space, values, first) if settings is not None else ()
    problems += (_readdressed(problem, spec) for problem in first.problems if not is_told(problem, PARAMETERS, wrong))
    problems += map(_in_template, sentences(wrong))
    if (early := early_terminate_of(spec) if spec is not None else None) is not None:
        problems += resource_problems(early, first)
    problems = list(dict.fromkeys(problems))
    if spec is None or problems:
        return CompiledSweep(None, tuple(problems))
    assert space is not None, "what has none has a problem"
    warnings = (
        *space.notes,
        *_left_out(spec, space),
        *(_readdressed(each, spec) for each in first.warnings),
        *nothing_stops(spec, first),
    )
    return CompiledSweep(
        spec=spec,
        settings=settings,
        template=own,
        workspace=workspace,
        first=first,
        max_trials=_max_trials(spec, space),
        max_failed_trials=DEFAULT_FAILURES if spec.max_failed_trials is None else spec.max_failed_trials,
        seed=seed,
        warnings=tuple(dict.fromkeys(warnings)),
        ignored=ignored_in(raw),
    )


def seed_of(uid: str) -> int:
    """The seed of a sweep that names none: its own, and the same for ever."""
    return int(sha256_of(uid)[:_NO_SEED], 16)


def trial_of(
    compiled: CompiledSweep, *, sweep: str, number: int, values: Mapping[str, Any],
    point: tuple[float, ...] | None, observed: str | None,
) -> dict[str, Any]:  # fmt: skip
    """The spec of one trial's experiment."""
    assert compiled.spec is not None
    assert compiled.template is not None
    assert compiled.first is not None
    spec = _spec_of_trial(sweep, number, compiled.template, compiled.spec, values, compiled.claim, point, observed)
    if (rungs := rungs_for_trials(compiled.spec, compiled.first)) is not None:
        spec["trial"]["rungs"] = rungs
    return spec


def _spec_of_trial(
    sweep: str, number: int, template: Mapping[str, Any], spec: SweepSpec | None, values: Mapping[str, Any],
    claim: str | None, point: tuple[float, ...] | None = None, observed: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    trial = {
        "sweep": sweep,
        "number": number,
        "metric": spec.metric.name if spec is not None else "any",
        "parameters": dict(values),
        **({"overrides": spec.overrides} if spec is not None and spec.overrides else {}),
        **({"point": list(point)} if point is not None else {}),
        **({"observed": observed} if observed else {}),
    }
    checkpoints = spec.keep.checkpoints if spec is not None and spec.keep is not None else None
    keep = {"checkpoints": checkpoints} if checkpoints is not None else {}
    return trial_spec(
        sweep=sweep, number=number, template=template, claim=claim or claim_name(sweep), keep=keep, trial=trial
    )


def _workspace(template: Mapping[str, Any], problems: list[str]) -> Workspace | None:
    """Of all trials; a template that has none gets a claim of the usual size."""
    raw = template.get("workspace")
    if raw is None:
        return Workspace(claim=NewClaim())
    try:
        found = Workspace.model_validate(raw)
    except ValidationError as error:
        problems += schema_problems(error, Workspace, "spec.template.workspace")
        return None
    if (found.claim_name is None) == (found.claim is None):
        problems.append(
            "spec.template.workspace: give either claimName (an existing claim) or claim (one to make), not both"
        )
        return None
    return found


def _settings(spec: SweepSpec, space: Space, seed: int) -> Settings | None:
    if spec.method == "grid" and space.grid_size is None:
        return None
    return Settings(method=spec.method, goal=spec.metric.goal, seed=seed, space=space)


def _first_trial(
    name: str, template: Mapping[str, Any], spec: SweepSpec | None, values: Mapping[str, Any],
    added: Mapping[str, Hook | tuple[str, ...]],
) -> Compiled:  # fmt: skip
    """The first trial, judged as any experiment is; without parameters where those are wrong."""
    raw = _spec_of_trial(name, 0, template, spec, values, None)
    if spec is None:  # what is searched for is not known
        del raw["trial"]
    return compile_spec(raw, added)


def _max_trials(spec: SweepSpec, space: Space | None) -> int:
    """The smallest of the limits that are given; of a grid at most all of it."""
    given = _limits(spec)
    if spec.method == "grid":
        return min(*given, (space.grid_size if space is not None else None) or 1, MAX_TRIALS)
    return min(given, default=DEFAULT_TRIALS)


def _limits(spec: SweepSpec) -> list[int]:
    return [n for n in (spec.max_trials, spec.run_cap, spec.run_cap_, spec.sweep_max_count) if n is not None]


def _left_out(spec: SweepSpec, space: Space) -> Iterator[str]:
    """That a grid is larger than any sweep, where nobody has said that a part of it is enough."""
    size = space.grid_size
    if spec.method == "grid" and not _limits(spec) and size is not None and size > MAX_TRIALS:
        yield (
            f"spec.parameters: the grid has {size} points, and only the first {MAX_TRIALS} are tried, which is the most"
            " that a sweep may have; leave out values, search with sobol, which spreads its trials over all of them, or"
            " say with maxTrials how many are enough"
        )


def _readdressed(sentence: str, sweep: SweepSpec | None) -> str:
    """A sentence about a trial's spec, as one about the sweep's."""
    sentence = sentence.replace("spec.trial.overrides", "spec.overrides")
    if sentence.startswith(_CHECKPOINTS) and sweep is not None and sweep.keep is not None and sweep.keep.checkpoints:
        return sentence
    for pattern, address in _ADDRESSES:
        if pattern.match(sentence):
            return _in_template(pattern.sub(address, sentence, count=1))
    return sentence


def _in_template(sentence: str) -> str:
    """A sentence with the template's fields called by where they stand in the sweep."""
    return _BEYOND.sub("spec.template.", sentence)


def named(sweep: str, number: int) -> str:
    """A trial for people."""
    return f"trial {number} ({trial_name(sweep, number)})"
