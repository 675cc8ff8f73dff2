# SPDX-License-Identifier: Apache-2.0
"""What the model has found and is rare in it, each as short as it can be told."""

from dataclasses import replace

from tests.model.kube_model import Kube
from tests.model.specs import SPECS, undisturbed
from tests.unit.builders import DEFAULTS, OWN_HOOKS, a_spec, an_experiment, condition, later, plan

from sandbox_operator.plan.compile import compile_spec
from sandbox_operator.plan.experiment import plan_experiment
from sandbox_operator.plan.facts import CacheEntry


def look(kube: Kube) -> None:
    seen = kube.observed()
    step = plan_experiment(seen, compile_spec(kube.stored.spec, OWN_HOOKS), DEFAULTS, kube.now)
    if kube.has_left(seen, step):
        return
    kube.stored = replace(kube.stored, status=step.status)
    for action in step.actions:
        kube.act(action)


def test_a_job_that_was_deleted_is_not_made_again_while_its_pod_which_nobody_has_heard_of_works() -> None:
    """Two pods would work in the folder of one attempt; one that has succeeded would be repeated."""
    kube = Kube.of(a_spec())
    look(kube)
    (name,) = kube.jobs
    kube.make_pod(name)
    kube.begin(name)
    del kube.jobs[name]  # kubectl delete job: its pod has half a minute to end
    kube.tell_to_go(name, stays=True)
    kube.view.jobs.pop(name)  # the watch of Jobs is ahead of that of pods
    look(kube)  # the model itself says when two attempts live


def test_a_result_that_lay_on_a_claim_which_is_gone_is_no_hit() -> None:
    """The files of the hit are nowhere; and an operator killed between the status and its next call, which makes the
    claim, leaves an experiment that says ClaimLost for ever."""
    name = "one after another"
    cached = {key: CacheEntry("neighbour", job) for key, job in undisturbed(name, "ReadWriteMany").done.items()}
    first = plan(an_experiment(SPECS[name], cached=cached))
    second = plan(an_experiment(SPECS[name], cached=cached, status=first.status), later(5))
    assert [job.state for job in first.status.jobs if job.state == "Cached"] == []
    assert condition(second.status, "Stalled") is None


def test_everything_can_be_run_again_after_its_claim_was_deleted() -> None:
    """What the old results were to be replaced by was never begun: it said ClaimLost for ever."""
    kube = Kube.of(a_spec())
    look(kube)
    while kube.stored.status.completion_time is None:
        kube.go_well()
        look(kube)
    kube.delete_claim()
    look(kube)  # the pods that have ended hold it until their Jobs are deleted
    kube.go_well()
    assert kube.claim is None

    spec = {**kube.stored.spec, "rerun": {"token": "again"}}
    kube.stored = replace(kube.stored, spec=spec, generation=kube.stored.generation + 1)
    look(kube)
    look(kube)
    assert kube.claim is not None
    assert kube.open_jobs


def test_a_claim_that_went_between_two_iterations_is_not_made_again_empty() -> None:
    """The jobs of the second one read what the first one has left, which stands in the history alone."""
    kube = Kube.of(SPECS["iterations"])
    look(kube)
    while kube.stored.status.iteration != 2:
        kube.go_well()
        look(kube)
    kube.jobs.clear()  # all of it by hand
    kube.pods.clear()
    kube.lose_claim()
    kube.relist()
    look(kube)
    assert condition(kube.stored.status, "Stalled") == "True: ClaimLost"
    assert kube.claim is None


def test_a_clock_that_jumps_back_does_not_end_the_wait_for_a_pod_that_is_made_late() -> None:
    """The Job was deleted a moment ago, and its controller, which is behind, makes its pod all the same."""
    kube = Kube.of(a_spec())
    look(kube)
    (name,) = kube.jobs
    for suspend, jump in ((True, -3600), (False, 3600)):
        spec = {**kube.stored.spec, "suspend": suspend, "suspendPolicy": "Now"}
        kube.stored = replace(kube.stored, spec=spec, generation=kube.stored.generation + 1)
        look(kube)
        kube.pass_time(jump)
    kube.make_pod(name)
    assert len(kube.live) == len(set(kube.live))


def test_a_rerun_waits_for_the_pod_of_a_job_whose_deletion_took_several_tries() -> None:
    """The attempt was given up a minute before; its Job has gone only now, and its controller is behind."""
    kube = Kube.of(a_spec())
    look(kube)
    (name,) = kube.jobs
    kube.stored = replace(kube.stored, spec={**kube.stored.spec, "stop": "Now"}, generation=kube.stored.generation + 1)
    step = plan_experiment(kube.observed(), compile_spec(kube.stored.spec, OWN_HOOKS), DEFAULTS, kube.now)
    kube.stored = replace(kube.stored, status=step.status)  # the API server refuses the deletion
    kube.pass_time(60)
    look(kube)
    assert not kube.jobs

    spec = {**a_spec(), "rerun": {"token": "again"}}
    kube.stored = replace(kube.stored, spec=spec, generation=kube.stored.generation + 1)
    look(kube)
    look(kube)
    kube.make_pod(name)
    assert kube.live == [kube.stored.status.jobs[0].id]


def test_a_pod_that_looks_at_the_cache_does_not_wait_for_ever_for_a_claim_that_is_gone() -> None:
    name = "one after another"
    kube = Kube.of(SPECS[name])
    for key, done in undisturbed(name, "ReadWriteMany").done.items():
        assert done.result is not None
        checked = done.model_copy(update={"result": done.result.model_copy(update={"externals": 1})})
        if not done.id.endswith("probe/0"):
            kube.cached[key] = CacheEntry("neighbour", checked)
    look(kube)
    kube.go_well()
    look(kube)
    assert [job.reason for job in kube.stored.status.jobs if job.helper_job] == ["CheckingCache"]
    kube.lose_claim()
    kube.relist()
    look(kube)
    assert condition(kube.stored.status, "Stalled") == "True: ClaimLost"
    kube.pass_time(3700)
    kube.relist()
    look(kube)
    look(kube)
    assert kube.open_jobs == []
