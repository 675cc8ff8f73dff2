# SPDX-License-Identifier: Apache-2.0
"""The step cache: what a hit costs, what is no hit, who waits for whom."""

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.builders import (
    DEFAULTS,
    Play,
    a_claim,
    a_spec,
    about,
    contract_of,
    created,
    four_jobs,
    later,
    plan,
    probe,
    process,
    written,
)

from sandbox_api.status import ExperimentStatus
from sandbox_operator.kube.informer import Key
from sandbox_operator.reconcile.step_cache import StepCache

A, R, P, E = (f"anonymous/1/{place}" for place in ("probe/0", "refine/0", "execution/0", "evaluation/0"))
CLAIM = ("lab", "shared")


class Index(StepCache):
    """An index over statuses that stand as soon as they are told."""

    def __init__(self) -> None:
        self.statuses: dict[Key, ExperimentStatus] = {}
        super().__init__(self.statuses.get)

    def update(self, key: Key, claim: Key, status: ExperimentStatus) -> list[Key]:
        self.statuses[key] = status
        return super().update(key, claim, status)


def index_of(*statuses: tuple[str, ExperimentStatus]) -> StepCache:
    index = Index()
    for name, status in statuses:
        index.update(("lab", name), CLAIM, status)
    return index


def finished(spec: dict[str, Any] | None = None) -> ExperimentStatus:
    play = Play(spec or four_jobs())
    play.step()
    for number in range(4):
        play.succeed(content=f"content {number}", metrics={"analysis.rows": 300.0}, cache_key=key_in(play),
                     externals=(1, 0, 1, 0)[number])  # fmt: skip
    assert play.status.outcome == "Succeeded"
    return play.status


def key_in(play: Play) -> str:
    return contract_of(next(action for step in reversed(play.plans) for action in created(step))).cache_key


def beside(done: ExperimentStatus, spec: dict[str, Any] | None = None) -> Play:
    """An equal experiment on the same claim, after another one."""
    play = Play(spec or four_jobs())
    play.change(cached=index_of(("other", done)).done(CLAIM), claims={"demo-workspace": a_claim()})
    return play


def beside_one_that_reads_another() -> Play:
    """Two jobs: A reads a file of the user's, and E nothing but what A has made."""
    spec = a_spec(
        probes=[probe(metaName="a")],
        evaluations=[probe(metaName="b", djConfigs={"process": [{"text_length_filter": {}}]},
                           input={"djConfigs.dataset_path": "anonymous.a.dataset"})],
    )  # fmt: skip
    spec["probeJobConfigs"][0]["djConfigs"]["export_original_dataset"] = True
    first = Play(spec)
    first.step()
    first.succeed(content="same", outputs={"dataset": "d"}, cache_key=key_in(first), externals=1)
    first.succeed(content="b", cache_key=key_in(first))
    return beside(first.status, spec)


def test_a_hit_on_files_that_no_job_made_is_confirmed_by_a_small_pod() -> None:
    play = beside(finished())
    (check,) = created(play.step())

    contract = contract_of(check)
    assert (contract.task, contract.job.id) == ("check", A)
    assert contract.candidate is not None
    assert contract.candidate.result_path.startswith("experiments/demo-1f2e3d4c/jobs/anonymous/1/probe/0/")
    assert check.manifest["metadata"]["name"].endswith("-a1-check")
    limits = check.manifest["spec"]["template"]["spec"]["containers"][0]["resources"]
    assert limits == {"requests": {"cpu": "100m", "memory": "256Mi"}}
    assert play.states()[A] == "Pending: CheckingCache"
    assert play.status.jobs[0].attempts == 0

    play.succeed(**about(check))
    assert play.states()[A] == "Cached: Cached"
    assert play.status.jobs[0].metrics == {"analysis.rows": 300.0}
    assert (play.status.jobs[0].message or "").startswith("equal to anonymous/1/probe/0 of other, done ")


def test_a_hit_on_results_of_jobs_alone_costs_no_pod() -> None:
    play = beside_one_that_reads_another()
    play.step()
    play.fail("Input", 3)  # the first has to run: its file was changed
    play.succeed_in(A, content="same", outputs={"dataset": "d"})

    assert play.states() == {A: "Succeeded: Completed", E: "Cached: Cached"}
    assert len(play.snapshot.jobs) == 2, "the check and the first job's own"
    assert play.status.outcome == "Succeeded"


def test_a_check_of_another_result_confirms_nothing() -> None:
    """Two experiments have an equal job: what was compared is one's, and the other's stands in the index now."""
    play = beside(finished())
    (check,) = created(play.step())
    (job,) = created(play.succeed(**about(check) | {"sha256": "6" * 64}))

    assert contract_of(job).task == "run"


def test_what_is_older_than_the_claim_is_compared_before_it_is_used() -> None:
    """The claim was deleted and made again, perhaps from a copy."""
    play = beside_one_that_reads_another()
    play.change(claims={"demo-workspace": a_claim(created=written(later(3600)))})
    (check,) = created(play.step())
    (second,) = created(play.succeed(**about(check), outputs={"dataset": "d"}))

    assert contract_of(second).task == "check"
    assert contract_of(second).job.id == E


def test_a_check_that_finds_a_change_runs_the_job() -> None:
    play = beside(finished())
    play.step()
    (job,) = created(play.fail("Input", 3, "inputs/raw/demo.jsonl has changed"))

    assert contract_of(job).task == "run"
    assert contract_of(job).attempt == 1
    assert play.states()[A] == "Pending: Creating"
    assert play.status.jobs[0].failures is None


@pytest.mark.parametrize(
    "change",
    [
        {"cache": "Never"}, {"images": {"data": "registry.example.com/data:2"}},
        {"inputs": [{"name": "raw", "configMapName": "others"}]},
    ],
)  # fmt: skip
def test_what_differs_is_no_hit(change: dict[str, Any]) -> None:
    (job,) = created(beside(finished(), four_jobs(**change)).step())

    assert contract_of(job).task == "run"


def test_another_configuration_is_no_hit() -> None:
    spec = four_jobs()
    spec["probeJobConfigs"][0] |= {"local": {"djConfigs.process.0.text_length_filter.min_len": 11}}

    assert contract_of(created(beside(finished(), spec).step())[0]).task == "run"


def test_a_rerun_and_a_retry_bypass_the_cache() -> None:
    done = finished()
    play = Play(four_jobs(retry={"user": 1}))
    play.step()
    play.fail()
    play.change(cached=index_of(("other", done)).done(CLAIM))
    (retried,) = created(play.step(after=60))
    assert contract_of(retried).task == "run"

    again = beside(done)
    (check,) = created(again.step())
    again.succeed(**about(check))
    assert again.states()[A] == "Cached: Cached"
    again.change_spec(rerun={"token": "1"})
    assert [contract_of(action).task for action in created(again.step(after=1))] == ["run"]


def test_an_equal_job_that_runs_elsewhere_is_waited_for() -> None:
    first = Play(four_jobs())
    first.step()
    first.run_in(A)
    index = index_of(("first", first.status))
    play = Play(four_jobs())
    claims = {"demo-workspace": a_claim()}
    play.change(running_keys=index.running_elsewhere(("lab", "demo"), CLAIM), claims=claims)
    step = play.step()

    assert created(step) == []
    assert play.states()[A] == "Pending: EqualJobRuns"
    assert play.status.jobs[0].message == "an equal job runs in the experiment first"
    assert step.requeue_after is not None
    index.update(("lab", "demo"), CLAIM, play.status)
    first.succeed(cache_key=key_in(first), externals=1)
    assert index.update(("lab", "first"), CLAIM, first.status) == [("lab", "demo")], "it is woken"
    play.change(cached=index.done(CLAIM), running_keys=index.running_elsewhere(("lab", "demo"), CLAIM))
    assert contract_of(created(play.step())[0]).task == "check"


def test_an_equal_job_that_can_not_start_is_not_waited_for() -> None:
    first = Play(four_jobs())
    first.step()
    assert index_of(("first", first.status)).running_elsewhere(("lab", "demo"), CLAIM), "it is about to start"
    first.pod(unschedulable="0/3 nodes are available: 3 Insufficient nvidia.com/gpu")
    first.step(after=5)
    assert first.states()[A] == "Pending: InsufficientGPU"
    index = index_of(("first", first.status))

    assert dict(index.running_elsewhere(("lab", "demo"), CLAIM)) == {}


def test_one_does_not_wait_for_itself() -> None:
    play = Play(four_jobs())
    play.step()
    index = index_of(("demo", play.status))

    assert dict(index.running_elsewhere(("lab", "demo"), CLAIM)) == {}
    assert list(index.running_elsewhere(("lab", "x"), CLAIM).values()) == ["demo"]


def test_an_experiment_that_goes_takes_its_results_out_and_leaves_those_of_others() -> None:
    done = finished()
    index = index_of(("one", done), ("two", done))
    keys = set(index.done(CLAIM))
    assert len(keys) == 4
    index.remove(("lab", "one"))
    assert {name: entry.experiment for name, entry in index.done(CLAIM).items()} == dict.fromkeys(keys, "two")
    index.remove(("lab", "two"))
    assert dict(index.done(CLAIM)) == {}
    assert not index.is_shared(("lab", "x"), CLAIM)


def test_who_is_at_work_shares_the_claim() -> None:
    index = index_of(("one", ExperimentStatus()), ("two", finished()))

    assert not index.is_shared(("lab", "one"), CLAIM)
    assert index.is_shared(("lab", "two"), CLAIM)


def test_a_key_is_the_same_whoever_made_the_inputs_and_when() -> None:
    keys = []
    for prefix in ("first", "second"):
        play = Play(four_jobs())
        play.step()
        play.succeed(
            content="same content",
            outputs={"overall": "o"},
            path=f"experiments/{prefix}/result.json",
            sha256=prefix.rjust(64, "0"),
        )
        keys.append(key_in(play))

    assert keys[0] == keys[1]


def test_a_cached_result_that_its_reader_misses_is_made_for_real() -> None:
    play = beside(finished())
    play.step()
    play.succeed()
    assert play.states()[A].startswith("Cached")
    last = next(name for name in play.states() if play.states()[name].startswith("Pending: C"))
    play.fail_in(last, "Input", 3, "it is gone")  # the check's word: no hit
    assert last == P
    play.fail_in(P, "Input", 3, "recipe is missing", job=R)

    assert play.states()[R] == "Pending: Creating"
    assert contract_of(created(play.plans[-1])[0]).task == "run"


def test_an_image_by_tag_that_may_be_pulled_anew_is_another_key() -> None:
    keys = {
        contract_of(created(plan(Play(a_spec(executions=[process()])).snapshot, defaults=defaults))[0]).cache_key
        for defaults in (
            DEFAULTS,
            replace(DEFAULTS, image_pull_policy="Always"),
            replace(DEFAULTS, images={"data": "registry.example.com/data@sha256:" + "0" * 64}),
        )
    }
    assert len(keys) == 3
