# SPDX-License-Identifier: Apache-2.0
"""The index of the step cache, as experiments on a claim come, end and go."""

from sandbox_api.status import ExperimentStatus, JobStatus, ResultRef
from sandbox_operator.reconcile.step_cache import StepCache

CLAIM = ("lab", "shared")
OTHER = ("lab", "other")


def a_status(state: str, key: str, *, ended: bool = False) -> ExperimentStatus:
    result = ResultRef(path="p", sha256="0" * 64, bytes=1, cache_key=key) if state == "Succeeded" else None
    job = JobStatus(id="anonymous/1/probe/0", hook="H", meta_name="m", state=state, result=result, cache_key=key)  # type: ignore[arg-type]
    job = job.model_copy(update={"job_name": "j-a1", "attempts": 1})
    return ExperimentStatus(jobs=[job], completion_time="2026-01-31T12:00:00Z" if ended else None)


def test_experiments_that_failed_leave_one_after_another() -> None:
    index = StepCache({}.get)
    for name in ("a", "b", "c"):
        index.update(("lab", name), CLAIM, a_status("Failed", "k", ended=True))
    index.remove(("lab", "a"))
    index.update(("lab", "b"), CLAIM, a_status("Running", "k"))
    assert dict(index.running_elsewhere(("lab", "c"), CLAIM)) == {"k": "b"}
    for name in ("b", "c", "never seen"):
        index.remove(("lab", name))
    assert not index._claims
    assert not index._shares


def test_one_that_comes_back_on_another_claim_has_left_the_first() -> None:
    index = StepCache({}.get)
    waiting = a_status("Pending", "k")
    waiting.jobs[0] = waiting.jobs[0].model_copy(update={"reason": "EqualJobRuns", "job_name": None})
    index.update(("lab", "a"), CLAIM, a_status("Running", "k"))
    index.update(("lab", "b"), CLAIM, waiting)
    assert index.update(("lab", "a"), OTHER, a_status("Running", "k")) == [("lab", "b")]
    assert not index.running_elsewhere(("lab", "b"), CLAIM)
    assert not index.is_shared(("lab", "b"), CLAIM)
    index.remove(("lab", "b"))
    assert list(index._claims) == [OTHER]


def test_a_result_whose_files_go_is_offered_to_nobody_from_the_moment_it_is_marked() -> None:
    status = {("lab", "a"): a_status("Succeeded", "k", ended=True)}
    index = StepCache(status.get)
    index.update(("lab", "a"), CLAIM, status["lab", "a"])
    assert list(index.done(CLAIM)) == ["k"]
    (job,) = status["lab", "a"].jobs
    assert job.result is not None
    marked = job.model_copy(update={"result": job.result.model_copy(update={"removed": True})})
    status["lab", "a"] = status["lab", "a"].model_copy(update={"jobs": [marked]})
    assert list(index.done(CLAIM)) == []  # before its own experiment's change is heard
    index.update(("lab", "a"), CLAIM, status["lab", "a"])
    assert list(index.done(CLAIM)) == []
    index.update(("lab", "b"), CLAIM, a_status("Succeeded", "k", ended=True))
    status["lab", "b"] = a_status("Succeeded", "k", ended=True)
    assert index.done(CLAIM)["k"].experiment == "b"
