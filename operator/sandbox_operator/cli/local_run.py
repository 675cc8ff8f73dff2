# SPDX-License-Identifier: Apache-2.0
"""The story of a local run: the operator's own planner, with a folder and processes where it has a cluster.

Status first, then actions, as in the operator: whatever kills it in between, `--resume` goes on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sandbox_api.status import ExperimentStatus

from ..build.defaults import Defaults
from ..plan.compile import Compiled, compile_spec
from ..plan.experiment import plan_experiment
from ..plan.facts import Snapshot
from .local_apply import suspended
from .local_cluster import LocalCluster
from .local_folder import LocalFolder, Stored
from .local_pod import IMAGE_PREFIX, Machine

INTERRUPTION = "LocalRunEnded: sandboxctl was told to end (Ctrl-C)"


@dataclass(frozen=True)
class Interpreters:
    """Which Python stands for an image."""

    default: str
    named: Mapping[str, str] = field(default_factory=dict)
    """By the image's name."""

    def of(self, image: str) -> str:
        return self.named.get(image, self.default)

    def images(self, compiled: Compiled) -> dict[str, str]:
        """What the operator has as references of images."""
        return {job.hook.image: f"{IMAGE_PREFIX}{self.of(job.hook.image)}" for job in compiled.jobs}


class LocalRun:
    """One experiment in one folder, from `statuses` until it has ended or can't go on."""

    def __init__(
        self, stored: Stored, folder: LocalFolder, machine: Machine, interpreters: Interpreters, *, most: int | None
    ) -> None:
        self.interrupted = False
        self._stored = stored
        self._folder = folder
        self._interpreters = interpreters
        self._cluster = LocalCluster(folder, machine, most=most)
        self._compiled: tuple[int, Compiled] | None = None
        """With the generation it was compiled from."""

    async def statuses(self) -> AsyncIterator[ExperimentStatus]:
        """Run it; each status that differs from the one before, the first included."""
        status = self._folder.read_status()
        yield status
        await self._cluster.load()
        while True:
            # 1. Observe. With nothing alive this is the last look of an interrupted run.
            last = self.interrupted and not self._cluster.is_alive
            snapshot = self._observe(status)

            # 2. Plan.
            compiled = self._compile()
            defaults = Defaults(images=self._interpreters.images(compiled))
            plan = plan_experiment(snapshot, compiled, defaults, datetime.now(UTC))

            # 3. Write the status: it commits results and names what is about to be made.
            changed = plan.status != status
            if changed:
                status = plan.status
                self._folder.write_status(status)
                yield status

            # 4. Act.
            for action in plan.actions:
                await self._cluster.act(action)

            # 5. Over, or nothing left that could change anything; else wait for news, or for the time to come.
            idle = not changed and not plan.actions and not self._cluster.is_alive and plan.requeue_after is None
            if last or idle or (status.completion_time is not None and not self._cluster.is_alive):
                return
            await self._cluster.news(plan.requeue_after)

    def interrupt(self) -> None:
        """Suspend the experiment and tell its hooks to end; told a second time, kill them."""
        if self.interrupted:
            self._cluster.kill_pods()
            return
        self.interrupted = True
        self._stored = suspended(self._stored)
        self._folder.write_experiment(self._stored)
        self._cluster.end_pods(INTERRUPTION)
        self._cluster.wake()

    def _observe(self, status: ExperimentStatus) -> Snapshot:
        spec = self._spec()
        workspace = spec.get("workspace")
        given = workspace.get("claimName") if isinstance(workspace, Mapping) else None
        return Snapshot(
            name=self._stored.name,
            namespace=self._stored.namespace,
            uid=self._stored.uid,
            generation=self._stored.generation,
            resource_version="local",
            spec=spec,
            status=status,
            jobs=self._cluster.jobs(),
            pods=self._cluster.pods(),
            claims=self._cluster.claims(given),
        )

    def _spec(self) -> Mapping[str, Any]:
        """Without images: interpreters of this machine stand for them."""
        return {name: value for name, value in self._stored.spec.items() if name != "images"}

    def _compile(self) -> Compiled:
        if self._compiled is None or self._compiled[0] != self._stored.generation:
            self._compiled = self._stored.generation, compile_spec(self._spec())
        return self._compiled[1]


