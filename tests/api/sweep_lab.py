# SPDX-License-Identifier: Apache-2.0
"""A lab in which sweeps are applied, and their trials told from the experiments that are there, as a user sees them."""

from __future__ import annotations

import contextlib
import math
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from tests.api.conftest import Plane, namespace
from tests.api.fakeapi import FakeAPI
from tests.api.lab import FILTER, Lab
from tests.api.played import PLAYER, Behaviour, Pod, Table

from sandbox_api.base import API_VERSION
from sandbox_api.result import Output, decode_message, encode_message
from sandbox_operator.build.names import LABEL_SWEEP
from sandbox_operator.kube.client import Manifest
from sandbox_operator.kube.config import Connection
from sandbox_operator.kube.informer import Informer, Key
from sandbox_operator.plan.sweep_definition import compile_sweep
from sandbox_operator.plan.sweep_stopping import early_terminate_of
from sandbox_operator.reconcile.resources import SWEEPS
from sandbox_operator.search.verify import Recorded, RungRecord, verify

MIN_RATIO = "alphanumeric_filter.min_ratio"
METRIC = "process.rows_out"
SEEN_AS = {"Succeeded": "succeeded", "Failed": "failed", "Pruned": "pruned", "Running": "running", "Pending": "running"}


def template(**more: Any) -> Manifest:
    """The shortest experiment that a search makes sense for: one job that processes, and tells what is left."""
    job = {
        "hook": "ProcessDataHook",
        "metaName": "process",
        "djConfigs": {
            "dataset_path": "data/demo.jsonl",
            "process": [*FILTER, {"alphanumeric_filter": {"min_ratio": 0.1}}],
        },
    }
    return {"retry": {"backoff": "1s"}, "executionJobConfigs": [job], **more}


def a_sweep(**more: Any) -> Manifest:
    """Six trials of a random search, three at a time, over one parameter."""
    return {
        "method": "random",
        "metric": {"name": METRIC, "goal": "minimize"},
        "parameters": {MIN_RATIO: {"distribution": "uniform", "min": 0.0, "max": 100.0}},
        "template": template(),
        "maxTrials": 6,
        "parallelism": 3,
        "seed": 7,
        **more,
    }


def the_sweep(name: str, spec: Manifest) -> Manifest:
    return {"apiVersion": API_VERSION, "kind": "SandboxSweep", "metadata": {"name": name}, "spec": spec}


def measures(function: Callable[[Mapping[str, Any]], float | None]) -> Behaviour:
    """Succeeds and tells rows_out, a function of the trial's parameters; None: it tells no such figure. One that is not
    finite it leaves out and names, as the runtime does."""

    async def behave(pod: Pod) -> None:
        await pod.runs()
        value = function(pod.contract.configs.parameters)
        outputs = {name: Output(kind="path", path=f"{pod.folder}/out/{name}") for name in pod.contract.outputs}
        is_finite = value is not None and math.isfinite(value)
        metrics = {"process.rows_in": 100.0} | ({METRIC: value} if is_finite else {})
        left_out = [METRIC] if value is not None and not is_finite else []
        await pod.ends(0, pod.message(outcome="Succeeded", outputs=outputs, metrics=metrics, not_finite=left_out))

    return behave


async def hits(pod: Pod) -> None:
    """A pod that compares finds everything as it was: the cached result may be used."""
    await pod.runs()
    told, candidate = decode_message(pod.message(outcome="Succeeded")), pod.contract.candidate
    assert told is not None
    assert candidate is not None
    told = told.model_copy(update={"path": candidate.result_path, "sha256": candidate.sha256, "recovered": True})
    await pod.ends(0, encode_message(told))


def bowl(parameters: Mapping[str, Any]) -> float:
    """Lowest at 30."""
    return float((parameters[MIN_RATIO] - 30.0) ** 2)


TABLE: Table = {("process",): measures(bowl)}


class SweepLab(Lab):
    """`sweep_history` holds each status that a sweep had, in order; `begun` the uids of all trials seen by name."""

    def __init__(
        self, connection: Connection, namespace: str, table: Table | None = None, *, fake: bool = False
    ) -> None:
        super().__init__(connection, namespace, {**TABLE, **(table or {})}, fake=fake)
        self.sweep_history: dict[str, list[Manifest]] = defaultdict(list)
        self.begun: dict[str, set[str]] = defaultdict(set)
        self.sweeps: Informer[Manifest] = Informer(
            self.client, SWEEPS, namespace=namespace, project=lambda item: item, on_change=self._sweep_changed
        )
        self.watched += (self.sweeps,)

    def _experiment_changed(self, key: Key, old: Manifest | None, new: Manifest | None) -> None:
        if new is not None and LABEL_SWEEP in (new["metadata"].get("labels") or {}):
            self.begun[key[1]].add(new["metadata"]["uid"])
        super()._experiment_changed(key, old, new)

    def _sweep_changed(self, key: Key, _: Manifest | None, new: Manifest | None) -> None:
        if new is not None and new.get("status"):
            self.sweep_history[key[1]].append(new["status"])
        self._noticed()

    # what a user does

    async def apply_sweep(self, name: str, spec: Manifest) -> Manifest:
        return await self.client.create(SWEEPS, the_sweep(name, spec), self.namespace)

    async def change_sweep(self, name: str, spec: Manifest) -> Manifest:
        return await self.client.patch(SWEEPS, name, {"spec": spec}, self.namespace)

    async def delete_sweep(self, name: str) -> None:
        await self.client.delete(SWEEPS, name, self.namespace)
        await self.until(lambda: (self.namespace, name) not in self.sweeps.store, f"{name} is gone")

    # what can be seen

    def sweep(self, name: str) -> Manifest:
        """Its status."""
        return dict((self.sweeps.store.get((self.namespace, name)) or {}).get("status") or {})

    def sweep_condition(self, name: str, kind: str = "Ready") -> Manifest:
        return next((c for c in self.sweep(name).get("conditions") or () if c["type"] == kind), {})

    def trials(self, name: str) -> dict[int, Manifest]:
        """The experiments of a sweep by number."""
        mine = [
            item
            for item in self.experiments.store.values()
            if (item["metadata"].get("labels") or {}).get(LABEL_SWEEP) == name
        ]
        return {item["spec"]["trial"]["number"]: item for item in sorted(mine, key=lambda i: i["metadata"]["name"])}

    def running(self, name: str) -> int:
        return sum(not (item.get("status") or {}).get("completionTime") for item in self.trials(name).values())

    async def sweep_ends(self, *names: str, limit: float = 40.0) -> None:
        await self.until(
            lambda: all(self.sweep(name).get("completionTime") for name in names), f"{', '.join(names)} end", limit
        )

    async def sweep_reason(self, name: str, reason: str, *, kind: str = "Ready", limit: float = 40.0) -> str:
        """Wait for the reason of a condition; its message."""
        await self.until(
            lambda: self.sweep_condition(name, kind).get("reason") == reason, f"{name}: {kind}: {reason}", limit
        )
        return str(self.sweep_condition(name, kind)["message"])

    def told(self) -> str:
        lines = []
        for (_, name), item in self.sweeps.store.items():
            status = item.get("status") or {}
            ready = self.sweep_condition(name)
            lines.append(
                f"sweep {name}: {status.get('outcome')} {status.get('counts')} {ready.get('reason')}: {ready.get('message')}"
            )
        return "\n".join([*lines, super().told()])

    # what must always hold

    def assert_none_lost_none_twice(self, name: str, total: int) -> None:
        assert list(self.trials(name)) == list(range(total)), self.told()
        mine = {item["metadata"]["name"] for item in self.trials(name).values()}
        twice = {trial: uids for trial, uids in self.begun.items() if trial in mine and len(uids) > 1}
        assert not twice, f"made more than once: {twice}\n{self.told()}"

    def assert_never_more_at_a_time(self, name: str, parallelism: int) -> None:
        most = max(status["counts"]["running"] for status in self.sweep_history[name])
        assert most <= parallelism, f"{most} at a time\n{self.told()}"

    def verified(self, name: str) -> tuple[str, ...]:
        """What does not follow from what the trials record; nothing when all does."""
        stored = self.sweeps.store[self.namespace, name]
        compiled = compile_sweep(stored["spec"], name=name, uid=stored["metadata"]["uid"])
        assert compiled.settings is not None, compiled.problems
        rows = {row["number"]: row for row in self.sweep(name)["trials"]}
        assert compiled.spec is not None
        trials = [recorded(number, item, rows[number]) for number, item in self.trials(name).items()]
        return verify(compiled.settings, trials, early_terminate_of(compiled.spec))


def recorded(number: int, item: Manifest, row: Manifest) -> Recorded:
    trial = item["spec"]["trial"]
    decisions = ((item.get("status") or {}).get("trial") or {}).get("decisions") or ()
    return Recorded(
        number, item["metadata"]["name"], tuple(trial["point"]), trial["parameters"], trial.get("observed", ""),
        SEEN_AS[row["state"]], row.get("value"),  # type: ignore[arg-type]
        tuple(RungRecord(d["rung"], d.get("value"), d.get("seen", 0), d["decision"]) for d in decisions),
    )  # fmt: skip


def outcome_of_sweep(lab: SweepLab, name: str) -> Manifest:
    """What must be the same whatever happened on the way."""
    status = lab.sweep(name)
    return {
        "outcome": status["outcome"],
        "counts": status["counts"],
        "best": status.get("best"),
        "trials": [(row["number"], row["state"], row.get("value"), row["parameters"]) for row in status["trials"]],
        "points": [item["spec"]["trial"]["point"] for item in lab.trials(name).values()],
    }


@contextlib.asynccontextmanager
async def sweep_lab(plane: Plane, table: Table | None = None) -> AsyncIterator[SweepLab]:
    """A namespace of its own on the real API server."""
    async with namespace(plane) as (connection, name), SweepLab(connection, name, table) as made:
        yield made


@contextlib.asynccontextmanager
async def fake_sweep_lab(table: Table | None = None) -> AsyncIterator[tuple[FakeAPI, SweepLab]]:
    """An API server of its own, in memory."""
    async with FakeAPI() as api:
        api.spared.add(PLAYER)
        async with SweepLab(Connection(api.url), "lab", table, fake=True) as lab:
            yield api, lab
