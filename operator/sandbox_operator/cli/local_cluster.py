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
import socket
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from sandbox_api.ranges import ranges_of

from ..plan.actions import Action, CreateClaim, CreateJob, DeleteFinishedJobs, DeleteJob, PatchClaim
from ..plan.facts import ClaimFact, JobFact, PodFact
from .local_folder import LocalFolder, write_json
from .local_pod import LocalPod, Machine
from .projected import claim_fact, job_fact

Manifest = dict[str, Any]


@dataclass
class LocalJob:
    """A Job and its pods."""

    folder: Path
    manifest: Manifest
    config_map: Manifest | None
    uid: str
    pods: list[LocalPod] = field(default_factory=list)
    deleting: bool = False
    overdue: bool = False
    """It ran longer than activeDeadlineSeconds."""
    life: asyncio.Task[None] | None = None
    """Ends when its pods have ended."""

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
        found = [LocalPod.read(*job.place(index)) for index in job.indices]
        job.pods = [pod for pod in found if pod is not None]
        return job

    @property
    def name(self) -> str:
        return str(self.manifest["metadata"]["name"])

    @property
    def indices(self) -> Sequence[int | None]:
        """Of its pods; a Job that is not indexed has one, without."""
        completions = self.manifest["spec"].get("completions")
        return [None] if completions is None else range(completions)

    def place(self, index: int | None) -> tuple[Path, str, str, int | None, str]:
        """A pod's folder, and who it is."""
        folder = self.folder if index is None else self.folder / str(index)
        fact = job_fact(self.manifest, self.uid)
        return folder, self.name, fact.contract, index, fact.numbers

    @property
    def ends_together(self) -> bool:
        """Whether one pod that fails ends the others."""
        return "backoffLimitPerIndex" not in self.manifest["spec"]

    @property
    def is_alive(self) -> bool:
        return any(not pod.is_over for pod in self.pods)

    def fact(self) -> JobFact:
        fact = replace(job_fact(self.manifest, self.uid), deleting=self.deleting)
        if self.overdue:
            return replace(fact, failed="DeadlineExceeded")
        if not self.pods or self.is_alive:
            return fact
        if fact.numbers:
            done = ranges_of(pod.index or 0 for pod in self.pods if pod.code == 0)
            fact = replace(fact, done_indexes=done)
        failed = any(pod.code != 0 for pod in self.pods)
        return replace(fact, failed="BackoffLimitExceeded") if failed else replace(fact, complete=True)


class LocalCluster:
    """`most` is how many Jobs may have pods at a time; None: as many as are asked for."""

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
            for pod in job.pods:
                if not pod.is_over:
                    await pod.lost("LocalRunEnded: sandboxctl was ended while the hook ran")
            await self._start(job)

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
        return tuple(pod.fact() for job in self._jobs.values() for pod in job.pods)

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
            for pod in job.pods:
                pod.kill(words)

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
        """The pods it does not have yet, as a Job controller would."""
        (container,) = job.manifest["spec"]["template"]["spec"]["containers"]
        known = {pod.index for pod in job.pods}
        new = [LocalPod(*job.place(index)) for index in job.indices if index not in known]
        rendezvous = f"127.0.0.1:{_free_port()}"
        for pod in new:
            job.pods.append(pod)
            await pod.start(container, job.config_map, self._machine, rendezvous)
        if new:
            job.life = self._in_background(self._live(job, new))
            self.wake()

    async def _live(self, job: LocalJob, pods: Sequence[LocalPod]) -> None:
        deadline = job.manifest["spec"].get("activeDeadlineSeconds")
        lives = [asyncio.create_task(self._wait(job, pod)) for pod in pods]
        _, late = await asyncio.wait(lives, timeout=deadline)
        if late:
            job.overdue = True
            await asyncio.gather(*(pod.end() for pod in pods))
        await asyncio.gather(*lives)

    async def _wait(self, job: LocalJob, pod: LocalPod) -> None:
        await pod.wait()
        self.wake()
        if pod.code != 0 and job.ends_together:
            await asyncio.gather(*(other.end() for other in job.pods if other is not pod))

    async def _delete(self, job: LocalJob) -> None:
        await asyncio.gather(*(pod.end() for pod in job.pods))
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


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
