# SPDX-License-Identifier: Apache-2.0
"""The story of a local run: the operator's own planner, with a folder and processes where it has a cluster.

Status first, then actions, as in the operator: whatever kills it in between, `--resume` goes on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sandbox_api.hook import Hook
from sandbox_api.status import ExperimentStatus

from ..build.defaults import Defaults
from ..plan.actions import CreateClaim
from ..plan.claim import decide_claim
from ..plan.compile import Compiled, compile_spec
from ..plan.experiment import plan_experiment
from ..plan.facts import Snapshot
from ..plan.images import images_of
from .local_apply import suspended
from .local_cluster import LocalCluster
from .local_folder import LocalFolder, Stored
from .local_neighbours import Neighbours
from .local_pod import IMAGE_PREFIX, Machine

KILLED = "LocalRunEnded: sandboxctl was told to end, twice"


class LocalRun:
    """One experiment in one folder, from `statuses` until it has ended or can't go on.

    `hooks` are the SandboxHooks beside it by name; `most` is how many hooks may run at a time.
    """

    def __init__(
        self,
        stored: Stored,
        folder: LocalFolder,
        machine: Machine,
        hooks: Mapping[str, Hook],
        *,
        most: int | None = None,
    ) -> None:
        self.interrupted = False
        self._stored = stored
        self._folder = folder
        self._hooks = {name: _local(hook) for name, hook in hooks.items()}
        self._cluster = LocalCluster(folder, machine, most=most)
        self._neighbours = Neighbours(folder)
        self._compiled: tuple[int, Compiled] | None = None
        """With the generation it was compiled from."""

    async def statuses(self) -> AsyncIterator[ExperimentStatus]:
        """Run it; each status that differs from the one before, the first included."""
        status = self._folder.read_status()
        yield status
        await self._cluster.load()
        await self._make_claim(status)
        while True:
            # 1. Observe.
            snapshot = self._observe(status)

            # 2. Plan.
            compiled = self._compile()
            plan = plan_experiment(snapshot, compiled, _defaults(compiled), datetime.now(UTC))

            # 3. Write the status: it commits results and names what is about to be made.
            is_news = plan.status != status
            if is_news:
                status = plan.status
                self._folder.write_status(status)
                yield status

            # 4. Act.
            for action in plan.actions:
                await self._cluster.act(action)

            # 5. Over, or nothing left that could change anything; else wait for news, or for the time to come.
            is_quiet = not self._cluster.is_alive and not is_news and not plan.actions
            if is_quiet and (plan.requeue_after is None or self.interrupted or status.completion_time is not None):
                return
            look_again = not self._cluster.is_alive and not is_quiet
            await self._cluster.news(0 if look_again else plan.requeue_after)

    async def _make_claim(self, status: ExperimentStatus) -> None:
        """The folder is there before the experiment, with what others have left in it, and so is the claim."""
        compiled = self._compile()
        if compiled.spec is not None:
            claim = decide_claim(compiled.spec.workspace, self._observe(status), _defaults(compiled))
            if isinstance(claim.action, CreateClaim):
                await self._cluster.act(claim.action)

    def interrupt(self) -> None:
        """Suspend the experiment, which tells its hooks to end; told a second time, kill them."""
        if self.interrupted:
            self._cluster.kill_pods(KILLED)
            return
        self.interrupted = True
        self._stored = suspended(self._stored)
        self._folder.write_experiment(self._stored)
        self._cluster.wake()

    def _observe(self, status: ExperimentStatus) -> Snapshot:
        spec = self._spec()
        workspace = spec.get("workspace")
        given = workspace.get("claimName") if isinstance(workspace, Mapping) else None
        around = self._neighbours.look(self._stored.name, status)
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
            cached=around.cached,
            running_keys=around.running_keys,
            claim_is_shared=around.at_work,
        )

    def _spec(self) -> Mapping[str, Any]:
        """Without images: interpreters of this machine stand for them."""
        return {name: value for name, value in self._stored.spec.items() if name != "images"}

    def _compile(self) -> Compiled:
        if self._compiled is None or self._compiled[0] != self._stored.generation:
            self._compiled = self._stored.generation, compile_spec(self._spec(), self._hooks)
        return self._compiled[1]


def _local(hook: Hook) -> Hook:
    """A hook with an image of its own has it under its own name."""
    return hook if hook.image_reference is None else replace(hook, image_reference=f"{IMAGE_PREFIX}{hook.name}")


def _defaults(compiled: Compiled) -> Defaults:
    """An installation that has every image."""
    return Defaults(images={name: f"{IMAGE_PREFIX}{name}" for name in images_of(compiled.jobs, compiled.spec)})
