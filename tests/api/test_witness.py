# SPDX-License-Identifier: Apache-2.0
"""The witness itself: for each rule a history that breaks it, and one that breaks none."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests import progress
from tests.api.fakestore import FakeStore, Manifest
from tests.api.witness import Witness
from tests.unit.builders import Play, a_message, created, four_jobs

from sandbox_api.result import encode_message
from sandbox_operator.plan.facts import JobFact, PodFact

GROUP = "sandbox.datajuicer.io"
EXPERIMENT = {"name": "demo", "namespace": "lab", "uid": "1f2e3d4c-5b6a-4789-8abc-def012345678"}


class Told:
    """A history, told step by step: what a planned experiment of four jobs writes, and what its pods do."""

    def __init__(self) -> None:
        self.store = FakeStore()
        self.witness = Witness(self.store)
        self.play = Play(four_jobs())
        self.play.step()
        self.store.put(GROUP, "sandboxexperiments", {"metadata": dict(EXPERIMENT), "spec": self.play.spec})

    @property
    def newest(self) -> Manifest:
        return created(self.play.plans[-1])[-1].manifest

    def status(self, **changes: Any) -> None:
        """The newest planned status is written; `changes` are those of its first job."""
        body = self.play.status.model_dump(mode="json", exclude_none=True)
        body["jobs"][0] |= changes
        stored = self.store.kind_of(GROUP, "sandboxexperiments")["lab", "demo"]
        self.store.put(GROUP, "sandboxexperiments", {**stored, "status": body})

    def job(self, **metadata: Any) -> Manifest:
        """The newest planned Job is made."""
        body = json.loads(json.dumps(self.newest))
        body["metadata"] |= metadata
        return self.store.put("batch", "jobs", body)

    def pod(self, job: Manifest, *, name: str = "", says: str | None = None, phase: str = "Running") -> None:
        """A pod of a Job runs, or ends with these words."""
        ended = {"terminated": {"exitCode": 0, "message": says}} if says is not None else {"running": {}}
        status = {"phase": "Succeeded" if says is not None else phase, "containerStatuses": [{"name": "hook", "state": ended}]}  # fmt: skip
        template = job["spec"]["template"]
        owner = {"name": job["metadata"]["name"], "uid": job["metadata"]["uid"]}
        meta = {**template["metadata"], "name": name or f"{job['metadata']['name']}-x", "namespace": "lab",
                "uid": f"pod-of-{job['metadata']['uid']}{name}", "ownerReferences": [owner]}  # fmt: skip
        self.store.put("", "pods", {"metadata": meta, "spec": template["spec"], "status": status})

    def success(self, job: Manifest, **more: Any) -> str:
        """The words of a success of a Job's pod; the plan learns of it too."""
        fact, pod = self.play.newest
        fact = JobFact(**{**{n: getattr(fact, n) for n in fact.__slots__}, "uid": job["metadata"]["uid"]})
        pod = PodFact(**{**{n: getattr(pod, n) for n in pod.__slots__}, "uid": f"pod-of-{job['metadata']['uid']}"})
        self.play.change(jobs=(*self.play.snapshot.jobs[:-1], fact), pods=(*self.play.snapshot.pods[:-1], pod))
        sha256 = job["metadata"]["uid"].replace("-", "") * 2
        text = encode_message(a_message(fact, pod, sha256=sha256, outputs={"refined_recipe": "r"}, **more))
        self.play.succeed(sha256=sha256, outputs={"refined_recipe": "r"}, **more)
        return text

    def first_job_done(self) -> Manifest:
        self.status()
        job = self.job()
        self.pod(job)
        self.pod(job, says=self.success(job))
        self.status()
        return job

    def broken(self) -> str:
        with pytest.raises(AssertionError) as caught:
            self.witness.check()
        return str(caught.value)


async def test_a_history_as_it_should_be_breaks_no_rule() -> None:
    told = Told()
    told.first_job_done()
    second = told.job()
    told.pod(second)
    told.pod(second, says=told.success(second))
    told.status()
    told.witness.check()
    assert told.witness.counts == Counter({"Jobs": 2, "pods": 2, "results": 2, "status writes": 3})


async def test_a_second_job_for_an_attempt() -> None:
    told = Told()
    told.status()
    told.store.remove("batch", "jobs", "lab", told.job()["metadata"]["name"])
    told.job()
    assert "a second Job for attempt 1" in told.broken()
    assert told.witness.counts["duplicates"] == 1


async def test_a_job_made_again_because_it_vanished_is_none() -> None:
    told = Told()
    told.status()
    name = told.job()["metadata"]["name"]
    gone = told.store.kind_of("batch", "jobs").pop(("lab", name))
    for witness in told.store.witnesses:
        witness(type(told.store.history[-1])(0, 0.0, ("batch", "jobs"), "VANISHED", gone, gone))
    told.job()
    told.witness.check()
    assert told.witness.counts["Jobs made again because they vanished"] == 1


async def test_a_job_that_no_status_has_named() -> None:
    told = Told()
    told.job()
    assert "no status named this Job before it was made" in told.broken()


async def test_an_attempt_while_another_ones_pod_may_write() -> None:
    told = Told()
    told.status()
    told.pod(told.job())
    told.play.fail("Infra", 4)
    told.play.step(after=700)
    told.status()
    told.job()
    assert "attempt 1 of the same job may still write" in told.broken()


async def test_two_pods_for_an_attempt() -> None:
    told = Told()
    told.status()
    job = told.job()
    told.pod(job)
    told.pod(job, name="second")
    assert "a second pod" in told.broken()


async def test_a_hook_that_has_succeeded_runs_again() -> None:
    told = Told()
    told.status()
    job = told.job()
    told.pod(job)
    told.pod(job, says=told.success(job))
    told.play = Play(four_jobs())
    told.play.step()
    told.play.fail("Infra", 4)
    told.play.step(after=700)
    told.status()
    told.job()
    assert "the hook has succeeded already" in told.broken()
    assert told.witness.counts["run again"] == 1


async def test_a_result_that_is_nowhere_when_all_is_over() -> None:
    told = Told()
    told.status()
    job = told.job()
    told.pod(job)
    told.pod(job, says=told.success(job))
    assert "is nowhere" in told.broken()
    assert told.witness.counts["lost"] == 1


async def test_a_job_deleted_before_its_result_was_committed() -> None:
    told = Told()
    told.status()
    job = told.job()
    told.pod(job)
    told.pod(job, says=told.success(job))
    told.store.remove("batch", "jobs", "lab", job["metadata"]["name"])
    assert "deleted before its result was committed" in told.broken()


async def test_a_result_that_no_pod_has_given() -> None:
    told = Told()
    told.status()
    job = told.job()
    told.pod(job)
    told.success(job)
    told.status()
    assert "a result that no pod has given" in told.broken()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"result": None}, "its committed result is lost"),
        ({"attempts": 0}, "attempts fell from 1 to 0"),
        ({"state": "Running"}, "it was over, and state changed"),
        ({"metrics": {"x": 2.0}}, "it was over, and metrics changed"),
    ],
)
async def test_a_status_that_goes_back(changes: Manifest, words: str) -> None:
    told = Told()
    told.first_job_done()
    told.status(**changes)
    assert words in told.broken()


async def test_an_input_that_is_not_what_is_committed() -> None:
    told = Told()
    told.first_job_done()
    told.store.kind_of(GROUP, "sandboxexperiments")["lab", "demo"]["status"]["jobs"][0]["result"]["sha256"] = "f" * 64
    told.witness._seen = {EXPERIMENT["uid"]: told.store.kind_of(GROUP, "sandboxexperiments")["lab", "demo"]["status"]}
    told.job()
    assert "is not the committed result of anonymous/1/probe/0" in told.broken()


async def test_finished_pieces_are_not_done_again_and_those_of_other_code_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "FOLDER", tmp_path)
    done: list[int] = []

    async def piece(seed: int) -> Counter[str]:
        if seed == 2 and len(done) < 3:
            await asyncio.sleep(0.01)
            raise RuntimeError("row 17")
        done.append(seed)
        return Counter(seeds=1, losses=0)

    async def run() -> Counter[str]:
        return await progress.in_pieces("a test", range(4), piece, say=lambda _: None, deep=True, at_once=4)

    with pytest.raises(ExceptionGroup):
        await run()
    assert sorted(done) == [0, 1, 3]
    assert await run() == Counter(seeds=4, losses=0)
    assert done[3:] == [2]
    monkeypatch.setattr(progress, "fingerprint", lambda _: "of other code")
    await run()
    assert len(done) == 8
