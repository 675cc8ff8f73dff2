# SPDX-License-Identifier: Apache-2.0
"""Where pods may go because of the volume's access mode, and what the status says about it."""

from typing import Any

import pytest
from tests.unit.builders import Play, a_claim, a_spec, created, process

from sandbox_operator.build.names import LABEL_CLAIM
from sandbox_operator.plan.actions import CreateJob

X, Y = "anonymous/1/execution/0", "anonymous/1/execution/1"


def played(mode: str, *, sizes: list[dict[str, Any]] | None = None, **more: Any) -> Play:
    jobs = [process(metaName=name, dependsOn=[], **(sizes or [{}, {}])[n]) for n, name in enumerate(("x", "y"))]
    pods = {"gpu": {"nodeSelector": {"pool": "gpu"}}}
    claim = {"claim": {"size": "1Gi", "accessModes": [mode]}}
    play = Play(a_spec(executions=jobs, workspace=claim, pods=pods))
    play.change(claims={"demo-workspace": a_claim(access_mode=mode)}, **more)
    play.step()
    return play


def pinned(action: CreateJob) -> bool:
    spec = action.manifest["spec"]["template"]
    terms = ((spec["spec"].get("affinity") or {}).get("podAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution", []
    )
    own = spec["metadata"]["labels"][LABEL_CLAIM]
    return any(term.get("labelSelector", {}).get("matchLabels") == {LABEL_CLAIM: own} for term in terms)


def test_any_node_will_do_where_many_can_mount_the_volume() -> None:
    play = played("ReadWriteMany")

    assert [pinned(action) for action in created(play.plans[-1])] == [False, False]


def test_jobs_that_run_at_the_same_time_share_the_node_that_can_mount_it() -> None:
    play = played("ReadWriteOnce")

    assert [pinned(action) for action in created(play.plans[0])] == [False, True]
    assert play.status.workspace is not None
    assert (play.status.workspace.placement or "").startswith(
        "ReadWriteOnce: jobs that run at the same time share a node"
    )


def test_jobs_in_sequence_are_never_pinned() -> None:
    play = Play(a_spec(executions=[process(metaName="x"), process(metaName="y")],
                       workspace={"claim": {"accessModes": ["ReadWriteOnce"]}}))  # fmt: skip
    play.change(claims={"demo-workspace": a_claim(access_mode="ReadWriteOnce")})
    play.step()
    (second,) = created(play.succeed())

    assert not pinned(second)
    assert play.status.workspace is not None
    assert play.status.workspace.placement is not None
    assert "one job runs at a time, so nothing is pinned: the volume follows the pod" in play.status.workspace.placement


def test_jobs_that_are_placed_by_different_rules_wait_for_each_other() -> None:
    play = played("ReadWriteOnce", sizes=[{}, {"pod": "gpu"}])
    assert play.states()[Y] == "Pending: WaitingForVolumeNode"
    play.succeed_in(X)

    assert play.states()[Y] == "Pending: Creating"


def test_one_pod_at_a_time_means_one() -> None:
    play = played("ReadWriteOncePod")
    assert play.states()[Y] == "Pending: WaitingForVolumeNode"
    assert play.status.jobs[1].message == (f"waits for the volume: the claim is ReadWriteOncePod, and {X} uses it")
    play.succeed_in(X)
    assert play.states()[Y] == "Pending: Creating"


@pytest.mark.parametrize(("shared", "expected"), [(True, True), (False, False)])
def test_other_experiments_on_the_claim_count_as_well(shared: bool, expected: bool) -> None:
    play = Play(a_spec(executions=[process()], workspace={"claim": {"accessModes": ["ReadWriteOnce"]}}))
    play.change(claims={"demo-workspace": a_claim(access_mode="ReadWriteOnce")}, claim_is_shared=shared)

    assert [pinned(action) for action in created(play.step())] == [expected]


def test_an_affinity_of_the_users_stays() -> None:
    own = {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "zone"}]}}
    play = Play(a_spec(executions=[process()], pods={"default": {"affinity": own}},
                       workspace={"claim": {"accessModes": ["ReadWriteOnce"]}}))  # fmt: skip
    play.change(claims={"demo-workspace": a_claim(access_mode="ReadWriteOnce")}, claim_is_shared=True)
    (job,) = created(play.step())
    terms = job.manifest["spec"]["template"]["spec"]["affinity"]["podAffinity"]

    assert len(terms["requiredDuringSchedulingIgnoredDuringExecution"]) == 2
    assert pinned(job)
