# SPDX-License-Identifier: Apache-2.0
"""The shared volume: which claim it is, whether it is made, and whether jobs may start on it."""

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.builders import UID, a_claim, an_experiment

from sandbox_api.experiment import Workspace
from sandbox_api.status import ExperimentStatus, JobStatus, Reason, ResultRef
from sandbox_operator.build.defaults import Defaults
from sandbox_operator.plan.actions import CreateClaim, PatchClaim
from sandbox_operator.plan.claim import ClaimDecision, decide_claim
from sandbox_operator.plan.facts import ClaimFact, Refusal

MADE = {"claim": {"size": "1Gi"}}
GIVEN = {"claimName": "mine"}


def decide(workspace: dict[str, Any], *claims: ClaimFact, **known: Any) -> ClaimDecision:
    snapshot = an_experiment(claims={claim.name: claim for claim in claims}, **known)
    return decide_claim(Workspace.model_validate(workspace), snapshot, Defaults())


def test_a_claim_that_is_asked_for_is_made_and_jobs_start_at_once() -> None:
    """Where a claim binds with its first pod, waiting for it would be waiting for ever."""
    decision = decide(MADE)

    assert decision.ready
    assert isinstance(decision.action, CreateClaim)
    assert decision.access_mode == "ReadWriteMany"


def test_a_claim_that_is_given_is_used_as_it_is() -> None:
    decision = decide(GIVEN, a_claim("mine", experiment=None, access_mode="ReadWriteOnce", owner_uid="somebody"))

    assert (decision.name, decision.ready, decision.reason) == ("mine", True, Reason.CLAIM_BOUND)
    assert (decision.action, decision.access_mode) == (None, "ReadWriteOnce")


def test_a_given_claim_that_does_not_exist_is_named_with_its_field() -> None:
    decision = decide(GIVEN)

    assert (decision.ready, decision.reason, decision.action) == (False, Reason.CLAIM_NOT_FOUND, None)
    assert decision.message.startswith("spec.workspace.claimName: there is no claim 'mine' in the namespace lab")


@pytest.mark.parametrize(
    ("workspace", "claim", "ready", "reason"),
    [
        (MADE, a_claim(), True, Reason.CLAIM_BOUND),
        (MADE, a_claim(phase="Pending"), True, Reason.CLAIM_PENDING),
        (MADE, a_claim(phase="Lost"), False, Reason.CLAIM_LOST),
        (MADE, a_claim(deleting=True), False, Reason.CLAIM_TERMINATING),
        (GIVEN, a_claim("mine", deleting=True), False, Reason.CLAIM_TERMINATING),
        (GIVEN, a_claim("mine", phase="Lost"), False, Reason.CLAIM_LOST),
        (MADE, a_claim(experiment=None), False, Reason.CLAIM_NOT_OURS),
        (MADE, a_claim(experiment="another"), False, Reason.CLAIM_NOT_OURS),
        (MADE, a_claim(owner_uid="another"), False, Reason.CLAIM_NOT_OURS),
    ],
)
def test_what_a_claim_of_that_name_means(
    workspace: dict[str, Any], claim: ClaimFact, ready: bool, reason: Reason
) -> None:
    decision = decide(workspace, claim)

    assert (decision.ready, decision.reason, decision.action) == (ready, reason, None)


def test_a_retained_claim_of_an_earlier_experiment_of_that_name_is_adopted() -> None:
    decision = decide(MADE, a_claim())

    assert (decision.name, decision.ready, decision.action) == ("demo-workspace", True, None)


@pytest.mark.parametrize(
    ("retention", "owner", "owners"),
    [("Delete", None, [UID]), ("Retain", UID, None)],
)
def test_a_change_of_retention_changes_the_owner(retention: str, owner: str | None, owners: list[str] | None) -> None:
    decision = decide({**MADE, "retention": retention}, a_claim(owner_uid=owner))

    assert isinstance(decision.action, PatchClaim)
    patched = decision.action.patch["metadata"]
    assert patched["uid"] == "uid-of-demo-workspace"
    assert (patched["ownerReferences"] and [o["uid"] for o in patched["ownerReferences"]]) == owners


@pytest.mark.parametrize(("retention", "owner"), [("Delete", UID), ("Retain", None)])
def test_a_retention_that_already_holds_changes_nothing(retention: str, owner: str | None) -> None:
    assert decide({**MADE, "retention": retention}, a_claim(owner_uid=owner)).action is None


def test_a_refusal_that_may_pass_is_told_and_asked_again_and_no_job_starts() -> None:
    refusal = Refusal(Reason.QUOTA_EXCEEDED, "exceeded quota: storage", final=False)
    decision = decide(MADE, refusals={"demo-workspace": refusal})

    assert (decision.ready, decision.reason) == (False, Reason.CLAIM_REFUSED)
    assert decision.message == "spec.workspace.claim: exceeded quota: storage"
    assert isinstance(decision.action, CreateClaim)


def test_a_final_refusal_is_told_and_not_asked_again() -> None:
    decision = decide(MADE, refusals={"demo-workspace": Refusal(Reason.CONFIG_ERROR, "bad size", final=True)})

    assert (decision.ready, decision.reason, decision.action) == (False, Reason.CLAIM_REFUSED, None)


def test_a_claim_that_vanished_with_results_is_not_made_again_empty() -> None:
    done = JobStatus(
        id="a", hook="h", meta_name="m", state="Succeeded", result=ResultRef(path="p", sha256="s", bytes=1)
    )
    begun = replace(an_experiment(), status=ExperimentStatus(start_time="2026-01-31T12:00:00Z", jobs=[done]))

    decision = decide_claim(Workspace.model_validate(MADE), begun, Defaults())
    assert (decision.ready, decision.reason, decision.action) == (False, Reason.CLAIM_LOST, None)


def test_a_claim_whose_creation_was_cut_short_is_made() -> None:
    status = ExperimentStatus(start_time="2026-01-31T12:00:00Z", jobs=[JobStatus(id="a", hook="h", meta_name="m")])

    assert isinstance(decide(MADE, status=status).action, CreateClaim)
