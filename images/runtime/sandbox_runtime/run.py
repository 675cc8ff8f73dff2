# SPDX-License-Identifier: Apache-2.0
"""One attempt of one job, from the contract to the exit code: the story that every hook pod tells.

Nothing here knows what a hook does, and nothing of Kubernetes but some environment variables: it runs as well in a
plain folder.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from sandbox_api.contract import PROGRESS_TOKEN, REFINED, JobContract, JobRef, contract_digest
from sandbox_api.extra import SAID, ExtraConfig, said_by
from sandbox_api.hooks import HOOKS
from sandbox_api.ranges import numbers_in
from sandbox_api.result import EXIT_CODES, EXIT_SUCCESS, Result, RuntimeInfo, plain_text

from .cgroup import Memory
from .comparison import write_comparison
from .configs import resolve_configs
from .data_juicer.environment import variables
from .errors import ConfigError, InputError, error_of
from .externals import Externals
from .hooks import load_hook
from .hooks.base import HookContext, HookResult
from .inputs import ResolvedInput, committed_result, resolve_inputs
from .logs import Events, last_peak
from .measures import now, peak_memory, seconds_since_start, versions
from .metrics import MetricsLog, finite_metrics
from .outputs import Collected, collect_outputs, publish
from .pieces import Piece, pieces_on_volume, shared_externals
from .place import Place, place_of
from .recovery import earlier_success
from .report import write_report
from .settings import Settings, read_contract
from .signals import Stop, Stopped
from .supervisor import Link
from .tasks import run_task
from .watcher import write_configs
from .workspace import Stored, Workspace

WAIT_FOR_OTHERS = 5.0
"""Seconds in which the other pods of a job should have told their success, after the first one's."""


def run(environ: Mapping[str, str], supervisor: Link) -> int:
    """Run the job that the environment's contract asks for; returns the exit code of the result contract."""
    settings = Settings.of(environ)
    try:
        contract = read_contract(environ)
        place = place_of(contract, settings)
    except ConfigError as error:
        # without a contract there is no job to report on: people read this, the controller reads the exit code
        print(error, file=sys.stderr)
        settings.termination.write_text(plain_text(str(error), 1000))
        return EXIT_CODES[error.class_]
    if contract.task in ("read", "check"):
        return run_task(contract, settings)
    return Attempt(contract, settings, place, supervisor).run()


class Attempt:
    """One attempt of one job in one of its pods."""

    def __init__(self, contract: JobContract, settings: Settings, place: Place, supervisor: Link) -> None:
        self.contract = contract
        self.settings = settings
        self.place = place
        self.workspace = Workspace(settings.workspace, settings.inputs, contract, settings.pod_uid)
        self.events = Events(self.workspace.events)
        self.memory = Memory(limit=contract.limits.memory_bytes)
        self.stop = Stop()
        self._supervisor = supervisor
        self._sampled_peak: int | None = None
        self._killed_before = self.memory.killed()
        self._started_at = now()
        self._inputs: dict[str, ResolvedInput] = {}
        self._externals: Externals | None = None
        self._context: HookContext | None = None
        self._hook_began: float | None = None
        self._wrapper_seconds: float | None = None
        self._pieces: list[Piece] = []

    def run(self) -> int:
        self.stop.install()
        self._supervisor.contract_read(self.contract.active_seconds_left)
        try:
            with self.stop.armed():
                self._enter()
                earlier = earlier_success(self.contract, self.workspace, self.place)
                done = None if earlier else self._run_hook()
            result = self._recovered(earlier) if earlier else self._succeeded(done)
        except BaseException as error:
            result = self._failed(error)
        return self._end(result)

    def _enter(self) -> None:
        """1. A folder of our own, and everything that is printed kept in it."""
        self.workspace.enter(is_followed=self.place.rank == 0)
        self._supervisor.entered(self.workspace.log, self.workspace.events)
        self.events.add("started", job=self.contract.job.id, attempt=self.contract.attempt, pod=self.settings.pod_uid)
        for folder in self.workspace.unfinished()[-1:]:
            name = self.workspace.relative(folder)
            peak = last_peak(folder / "events.jsonl") or "its memory peak is unknown"
            self.events.add("earlier attempt without a result", attempt=name, memory=peak)
            print(f"an attempt before this one has left no result: {name} ({peak})", flush=True)

    def _run_hook(self) -> HookResult:
        """2. Inputs verified, configurations resolved, the hook found; then its own work."""
        contract, workspace = self.contract, self.workspace
        self._inputs = resolve_inputs(contract, workspace)
        configs = resolve_configs(contract, self._inputs, workspace)
        self.events.add("inputs resolved", inputs={target: found.digest for target, found in self._inputs.items()})
        self._set_environment()
        hook = load_hook(contract.job.hook)
        if contract.shards > 1 and not hasattr(hook, "merge"):
            raise ConfigError(f"shards: {contract.job.hook} can't be divided; its class has no method `merge`")
        prefix = self._prefix()
        write_configs(workspace.configs, ((config, f"{prefix}.{name}") for name, config in configs.by_root().items()))
        context = self._context = HookContext(
            contract=contract,
            dj=self._data_juicer(configs.dj),
            extra=_extra(hook, contract, configs.extra),
            inputs=self._inputs,
            workspace=workspace,
            metrics=MetricsLog(workspace.metrics, prefix),
            place=self.place,
        )
        if contract.cache_key:  # without one nobody asks later
            begun = min(time.time_ns(), workspace.metrics.stat().st_ctime_ns)  # the volume may have a clock of its own
            self._externals = Externals(contract, configs, self._inputs, workspace, begun)
            self._externals.start()
        self._supervisor.hook_started(self.settings.termination, self._progress())
        self._wrapper_seconds = seconds_since_start()
        self._hook_began = time.monotonic()
        self.events.add("hook started", hook=contract.job.hook)
        try:
            return self._merged(hook, context) if contract.task == "merge" else hook().run(context)
        finally:
            self.events.add("hook ended")
            context.metrics.close()

    def _merged(self, hook: type[Any], context: HookContext) -> HookResult:
        """All pieces are done: one result is made of theirs."""
        known = HOOKS.get(self.contract.job.hook)
        count = len(known.outputs) if known is not None else getattr(hook, "outputs", len(self.contract.outputs))
        self._pieces = pieces_on_volume(self.contract, self.workspace, count)
        merged: HookResult = hook().merge(context, self._pieces)
        return merged

    def _succeeded(self, done: HookResult | None) -> Result:
        """3. Artifacts made durable and published. A hook that went on after it was told to end has not succeeded."""
        if self.stop.reason:
            raise self.stop.reason
        if not isinstance(done, HookResult):
            raise TypeError(f"{self.contract.job.hook} returned {type(done).__name__}, not a HookResult")
        self._after_hook()
        collected = Collected({}, "")
        if self.place.rank == 0:  # what others return is not asked for
            named = self._context.named if self._context else {}
            collected = collect_outputs(self.contract, self.workspace, done, named)
        externals: dict[str, str] = {}
        if self._externals and self._context:
            externals = self._externals.finish(
                self._context.written, self._context.read, lambda: self.stop.reason is not None
            )
        if self._pieces:
            externals = shared_externals(externals, self._pieces)
        if self.place.speaks_for_all:
            publish(collected.outputs, self.workspace)
        figures = finite_metrics(done.metrics, "metrics")
        left_out = [name for name in done.metrics if name not in figures]
        tables = [*done.tables, *self._comparison(figures)]
        return self._result(
            outcome="Succeeded",
            message=plain_text(done.message, 300),
            outputs=collected.outputs,
            content=collected.content,
            externals=externals,
            metrics={self._whole(name): value for name, value in figures.items()},
            not_finite=[self._whole(name) for name in left_out],
            tables=[self.workspace.relative(path) for path in tables],
        )

    def _whole(self, name: str) -> str:
        """A figure's name as others know it."""
        return f"{self._prefix()}.{name}" if name else self._prefix()

    def _comparison(self, figures: Mapping[str, float]) -> list[Path]:
        """The table of this result beside the one that it is compared with; without that one it ends all the same."""
        if self.contract.compared is None or not self.place.speaks_for_all:
            return []
        try:
            before = committed_result(self.contract.compared, self.workspace)
        except InputError as error:
            print(f"nothing is compared: {error}", file=sys.stderr, flush=True)
            return []
        table = write_comparison(before, figures, self.workspace.out)
        return [table] if table else []

    def _recovered(self, earlier: Stored) -> Result:
        """An earlier pod had done it all; only its word was lost, or the experiment that it belonged to."""
        name = self.workspace.relative(earlier.path.parent)
        self.events.add("recovered", attempt=name)
        print(f"this has been done already; its result is returned ({name})", flush=True)
        if self.place.speaks_for_all:
            publish(earlier.result.outputs, self.workspace)
        return earlier.result.model_copy(
            update={
                "attempt": self.contract.attempt,
                "pod_uid": self.settings.pod_uid,
                "contract": contract_digest(self.contract),
                "started_at": self._started_at,
                "finished_at": now(),
                "recovered": True,
            }
        )

    def _failed(self, error: BaseException) -> Result:
        """Whatever a hook raised or its children returned after it was told to end: it was ended."""
        self._after_hook()
        error = self.stop.reason or error
        if not isinstance(error, (ConfigError, Stopped)):
            sys.excepthook(type(error), error, error.__traceback__)
        told = error_of(error, self.memory, killed_before=self._killed_before)
        print(f"{told.class_}: {told.message}", file=sys.stderr, flush=True)
        self.events.add("failed", error=told.model_dump(mode="json"))
        return self._result(outcome="Failed", error=told)

    def _end(self, result: Result) -> int:
        """4. The result, then the message that names it."""
        result = write_report(result, self.contract, self.workspace, self.settings.termination)
        if result.outcome == "Succeeded" and not self.contract.keep_attempts and self._are_all_done():
            self.workspace.clean_up()
        self.events.add("ended", outcome=result.outcome)
        return EXIT_CODES[result.error.class_] if result.error else EXIT_SUCCESS

    def _are_all_done(self) -> bool:
        """Whether nothing more is resumed: other pods of the job may still fail, and then all of it goes on from
        what lies in `state`."""
        if self.place.nodes == 1 or not self.place.speaks_for_all:
            return self.place.speaks_for_all
        deadline = time.monotonic() + WAIT_FOR_OTHERS
        while (left := earlier_success(self.contract, self.workspace, self.place)) is None:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        return left.result.attempt == self.contract.attempt

    def _after_hook(self) -> None:
        """Nobody writes any more, and what was only for the hook's work goes."""
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__  # libraries put loggers in their place
        self._sampled_peak, reason = self._supervisor.hook_ended()
        self.stop.reason = reason or self.stop.reason
        shutil.rmtree(self.workspace.scratch, ignore_errors=True)

    def _result(self, **what: Any) -> Result:
        seconds = None if self._hook_began is None else round(time.monotonic() - self._hook_began, 3)
        return Result(
            job=self.contract.job.id,
            attempt=self.contract.attempt,
            pod_uid=self.settings.pod_uid,
            contract=contract_digest(self.contract),
            rank=self.place.rank,
            shard=self.place.shard,
            meta_name=self.contract.job.meta_name,
            cache_key=self.contract.cache_key,
            started_at=self._started_at,
            finished_at=now(),
            inputs={target: found.digest for target, found in self._inputs.items()},
            runtime=RuntimeInfo(
                image=self.settings.image,
                versions=versions(),
                gpu_seconds=self._gpu_seconds(seconds or 0.0),
                peak_memory_bytes=self._sampled_peak or peak_memory(),
                wrapper_seconds=self._wrapper_seconds,
                hook_seconds=seconds,
            ),
            **what,
        )

    def _gpu_seconds(self, seconds: float) -> float:
        """Of this pod; of all pieces for the one that merges them, which has no GPU."""
        if self.contract.task == "merge":
            return round(sum(piece.result.runtime.gpu_seconds for piece in self._pieces), 3)
        return round(self.contract.limits.gpus * seconds, 3)

    def _prefix(self) -> str:
        """What the hook's figures begin with. A refine job may share its name with the probe it reads."""
        name, probe = self.contract.job.meta_name, self._inputs.get("probe")
        return f"{name}.{REFINED}" if probe and probe.producer and probe.producer.meta_name == name else name

    def _progress(self) -> dict[str, Any] | None:
        """What is told of the hook's way, and where; of pods that work as one, only the first one's."""
        contract, target = self.contract, self.contract.progress
        if target is None or contract.task != "run" or (contract.nodes > 1 and self.place.rank):
            return None
        return {
            "url": target.url,
            "token": PROGRESS_TOKEN,
            "rungs": target.rungs.model_dump(mode="json") if target.rungs is not None else None,
            "pod": self.settings.pod_uid,
            "job": contract.job.id,
            "attempt": contract.attempt,
            "tellers": max(1, len(numbers_in(contract.pieces))) if contract.shards > 1 else 1,
            "prefix": self._prefix(),
            "metrics": str(self.workspace.metrics),
        }

    def _data_juicer(self, configured: dict[str, Any] | None) -> dict[str, Any]:
        known = HOOKS.get(self.contract.job.hook)
        if configured is None and known and known.reads_dj:
            raise ConfigError(f"djConfigs: is missing; {known.name} runs on a Data-Juicer configuration")
        return configured or {}

    def _set_environment(self) -> None:
        """Before any library is imported. What the pod's own environment says stays; HOME it rarely means."""
        for name, value in variables(self.workspace.cache).items():
            if name == "HOME" or name not in os.environ:
                os.environ[name] = value
        Path(os.environ["HOME"]).mkdir(parents=True, exist_ok=True)
        random.seed(self.contract.seed)


def _extra(hook: type, contract: JobContract, configured: dict[str, Any]) -> Any:
    """`extraConfigs` checked against the hook's model. Raises ConfigError, a line for each field that is wrong."""
    job = contract.job
    model: type[BaseModel] | None = getattr(hook, "extra", None) or _model(job)
    if model is None:
        return configured
    known = HOOKS.get(job.hook)
    component = known.components.get(job.type or "") if known is not None else None
    if component is not None:
        settings = component.settings(configured)
        for note in settings.notes:
            print(f"extraConfigs.{note}", flush=True)
        configured = settings.values
    try:
        found = model.model_validate(configured)
    except ValidationError as error:
        raise ConfigError("\n".join(_told(problem, job.hook) for problem in error.errors())) from error
    if isinstance(found, ExtraConfig):  # what the planner has looked at too, where it saw the settings
        lacking = found.lacking(configured, lambda key: getattr(found, key))
        if problems := [*lacking, *found.misfits(contract.limits.gpus, contract.nodes)]:
            raise ConfigError("\n".join(f"extraConfigs.{problem}" for problem in problems))
    return found


def _model(job: JobRef) -> type[BaseModel] | None:
    """The catalogue's model of the hook's settings, or of its component's; None where it has none of that name."""
    if (known := HOOKS.get(job.hook)) is None:
        return None
    if not known.components:
        return known.extra
    return known.components[job.type].extra if job.type in known.components else None


def _told(problem: Any, hook: str) -> str:
    field = ".".join(["extraConfigs", *(str(part) for part in problem["loc"])])
    if problem["type"] == "extra_forbidden":
        return f"{field}: {hook} has no such setting"
    if problem["type"] == "missing":
        return f"{field}: is missing; {hook} needs it"
    said = said_by(problem)
    if problem["type"] == SAID:  # a whole sentence, which does not show a value that may be secret
        return f"{field}: {said}"
    return f"{field}: {said[0].lower()}{said[1:]}; it is {problem['input']!r}"
