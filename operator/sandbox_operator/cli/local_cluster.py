# SPDX-License-Identifier: Apache-2.0
"""As much of a cluster as one experiment needs: a claim that is a folder, and Jobs whose pods are processes.

It does what the planner's actions say and shows what has become of it as the planner's facts. It decides nothing; what
it knows stands in the run's folder, so that a later sandboxctl finds it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from ..plan.actions import Action, CreateClaim, CreateJob, DeleteFinishedJobs, DeleteJob, PatchClaim
from ..plan.facts import ClaimFact, JobFact, PodFact
from .local_folder import LocalFolder, write_json
from .local_pod import LocalPod, Machine
from .projected import claim_fact, job_fact

Manifest = dict[str, Any]


@dataclass
class LocalJob:
    """A Job and its pod."""

    folder: Path
    manifest: Manifest
    config_map: Manifest | None
    uid: str
    pod: LocalPod | None = None
    deleting: bool = False
    overdue: bool = False
    """It ran longer than activeDeadlineSeconds."""
    life: asyncio.Task[None] | None = None
    """Ends when its pod has ended."""

    @classmethod
    def make(cls, folder: Path, action: CreateJob) -> LocalJob:
        folder.mkdir(parents=True, exist_ok=True)
        made = cls(folder, action.manifest, action.config_map, str(uuid4()))
        write_json(
            folder / "job.json", {"uid": made.uid, "manifest": made.manifest, "configMap": made.config_map}
        )  # from now on it exists
        return made

    @classmethod
    def read(cls, folder: Path) -> LocalJob | None:
        """A Job of an earlier sandboxctl; None for one that was not made to its end."""
        if not (folder / "job.json").exists():
            return None
        kept = json.loads((folder / "job.json").read_text())
        job = cls(folder, kept["manifest"], kept["configMap"], kept["uid"])
        job.pod = LocalPod.read(folder, job.name, job.fact().contract)
        return job

    @property
    def name(self) -> str:
        return str(self.manifest["metadata"]["name"])

    @property
    def is_alive(self) -> bool:
        return self.pod is not None and not self.pod.is_over

    def fact(self) -> JobFact:
        fact = job_fact(self.manifest, self.uid)
        if self.pod is None or not self.pod.is_over:
            return replace(fact, deleting=self.deleting)
        if self.overdue:
            return replace(fact, failed="DeadlineExceeded", deleting=self.deleting)
        failed = None if self.pod.code == 0 else "BackoffLimitExceeded"
        return replace(fact, complete=failed is None, failed=failed, deleting=self.deleting)


class LocalCluster:
    """`most` is how many pods may live at a time; None: as many as are asked for."""

    def __init__(self, folder: LocalFolder, machine: Machine, *, most: int | None = None) -> None:
        self._folder = folder
        self._machine = machine
        self._most = most
        self._jobs: dict[str, LocalJob] = {}
        self._claim: Manifest | None = None
        self._news = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._error: BaseException | None = None

    async def load(self) -> None:
        """Take over what an earlier sandboxctl left; pods that nobody waited for have ended."""
        if self._folder.claim.exists():
            self._claim = json.loads(self._folder.claim.read_text())
        for folder in sorted(self._folder.jobs.iterdir()):
            job = LocalJob.read(folder)
            if job is None:
                shutil.rmtree(folder, ignore_errors=True)
                continue
            self._jobs[job.name] = job
            if job.pod is None:  # as a Job controller would
                await self._start(job)
            elif job.is_alive:
                await job.pod.lost("LocalRunEnded: sandboxctl was ended while the hook ran")

    async def act(self, action: Action) -> None:
        """Do one action; doing it twice is doing it once."""
        match action:
            case CreateClaim():
                self._keep_claim({**action.manifest, "uid": str(uuid4())})
            case PatchClaim() if self._claim is not None:
                owners = action.patch["metadata"]["ownerReferences"] or []
                meta = {**self._claim["metadata"], "ownerReferences": owners}
                self._keep_claim({**self._claim, "metadata": meta})
            case CreateJob():
                await self._create(action)
            case DeleteJob():
                if (job := self._jobs.get(action.name)) is not None and not job.deleting:
                    job.deleting = True
                    self._in_background(self._delete(job))
            case DeleteFinishedJobs():
                for job in [job for job in self._jobs.values() if not job.is_alive]:
                    self._forget(job)

    def jobs(self) -> tuple[JobFact, ...]:
        return tuple(job.fact() for job in self._jobs.values())

    def pods(self) -> tuple[PodFact, ...]:
        return tuple(job.pod.fact() for job in self._jobs.values() if job.pod is not None)

    def claims(self, given: str | None) -> dict[str, ClaimFact]:
        """The claim that was made; and the `given` one, which is the workspace folder."""
        made = claim_fact(self._claim, self._claim["uid"]) if self._claim is not None else None
        facts = [made] if made is not None else []
        if given is not None:
            facts.append(ClaimFact(given, "given", "Bound", access_mode="ReadWriteMany"))
        return {fact.name: fact for fact in facts}

    @property
    def is_alive(self) -> bool:
        """Whether any pod runs, or is being removed."""
        return bool(self._tasks)

    async def news(self, seconds: float | None) -> None:
        """Wait until something has changed, or for so many seconds. Raises what a pod's folder would not take."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), seconds)
        self._news.clear()
        if self._error is not None:
            raise self._error

    def wake(self) -> None:
        """Something has changed that the planner should look at."""
        self._news.set()

    def kill_pods(self, words: str) -> None:
        """End every pod at once; `words` say who wanted it."""
        for job in self._alive():
            assert job.pod is not None
            job.pod.kill(words)

    def _alive(self) -> Iterator[LocalJob]:
        return (job for job in self._jobs.values() if job.is_alive)

    def _keep_claim(self, claim: Manifest) -> None:
        self._claim = claim
        write_json(self._folder.claim, claim)

    async def _create(self, action: CreateJob) -> None:
        name = action.manifest["metadata"]["name"]
        if name in self._jobs:
            return
        if self._most is not None and sum(1 for _ in self._alive()) >= self._most:
            return  # the planner asks again for a Job that its status names and that is not there
        job = LocalJob.make(self._folder.jobs / name, action)
        self._jobs[name] = job
        await self._start(job)

    async def _start(self, job: LocalJob) -> None:
        job.pod = LocalPod(job.folder, job.name, job.fact().contract)
        (container,) = job.manifest["spec"]["template"]["spec"]["containers"]
        await job.pod.start(container, job.config_map, self._machine)
        job.life = self._in_background(self._live(job, job.pod))
        self.wake()

    async def _live(self, job: LocalJob, pod: LocalPod) -> None:
        deadline = job.manifest["spec"].get("activeDeadlineSeconds")
        life = asyncio.create_task(pod.wait())
        done, _ = await asyncio.wait({life}, timeout=deadline)
        if not done:
            job.overdue = True
            await pod.end()
        await life

    async def _delete(self, job: LocalJob) -> None:
        if job.pod is not None:
            await job.pod.end()
        if job.life is not None:
            await job.life
        self._forget(job)

    def _forget(self, job: LocalJob) -> None:
        self._jobs.pop(job.name, None)
        shutil.rmtree(job.folder, ignore_errors=True)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._over)
        return task

    def _over(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._error = self._error or (None if task.cancelled() else task.exception())
        self.wake()
