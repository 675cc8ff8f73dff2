# SPDX-License-Identifier: Apache-2.0
"""Decides about the shared volume: which claim it is, whether to make it, and whether jobs may start on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from sandbox_api.experiment import Workspace
from sandbox_api.status import Reason

from ..build.defaults import Defaults
from ..build.names import claim_name
from ..build.volume import SWEEP, claim_owners, workspace_claim
from .actions import CreateClaim, PatchClaim
from .facts import ClaimFact, Refusal, WarningFact
from .waiting import claim_words


class Claimant(Protocol):
    """Who works on a claim: an experiment, or a sweep for all its trials."""

    @property
    def kind(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def namespace(self) -> str: ...
    @property
    def uid(self) -> str: ...
    @property
    def claims(self) -> Mapping[str, ClaimFact]: ...
    @property
    def refusals(self) -> Mapping[str, Refusal]: ...
    @property
    def warnings(self) -> tuple[WarningFact, ...]: ...
    @property
    def has_results(self) -> bool:
        """Whether there is something on the volume that is still to be read."""

    @property
    def after_a_loss(self) -> str:
        """What a person may do when the claim has gone with all results."""


@dataclass(frozen=True)
class ClaimDecision:
    name: str
    ready: bool
    """Whether jobs may start; a claim need not be bound for that, its first pod may be what binds it."""
    reason: Reason
    message: str
    action: CreateClaim | PatchClaim | None = None
    access_mode: str | None = None


def decide_claim(workspace: Workspace, snapshot: Claimant, defaults: Defaults) -> ClaimDecision:
    """The claim of an experiment or a sweep.

    A claim of our name and label without an owner is adopted (apply the same file again and go on); one that is
    terminating is waited for; any other is refused.
    """
    name = workspace.claim_name or claim_name(snapshot.name)
    claim = snapshot.claims.get(name)
    if claim is not None and claim.deleting:
        return ClaimDecision(name, False, Reason.CLAIM_TERMINATING, f"waits until the old claim {name} is gone")
    if workspace.claim is None:
        if claim is None:
            return ClaimDecision(
                name, False, Reason.CLAIM_NOT_FOUND,
                f"spec.workspace.claimName: there is no claim {name!r} in the namespace {snapshot.namespace};"
                " create it, or write workspace.claim to have one made",
            )  # fmt: skip
        return _bound(claim, snapshot)
    if claim is None and snapshot.has_results:
        return ClaimDecision(
            name, False, Reason.CLAIM_LOST,
            f"the claim {name} is gone, and the results of what is done went with it; restore it, "
            + snapshot.after_a_loss,
        )  # fmt: skip
    refusal = snapshot.refusals.get(name)
    if claim is None and refusal is not None and refusal.final:
        return ClaimDecision(name, False, Reason.CLAIM_REFUSED, f"spec.workspace.claim: {refusal.message}")
    if claim is None:
        manifest = workspace_claim(
            name=snapshot.name, namespace=snapshot.namespace, uid=snapshot.uid, claim=workspace.claim,
            retention=workspace.retention, defaults=defaults, kind=snapshot.kind,
        )  # fmt: skip
        mode = workspace.claim.access_modes[0]
        if refusal is not None:  # a quota may be raised: it is asked for again, and no job starts before
            return ClaimDecision(
                name,
                False,
                Reason.CLAIM_REFUSED,
                f"spec.workspace.claim: {refusal.message}",
                CreateClaim(manifest),
                mode,
            )
        return ClaimDecision(
            name, True, Reason.CLAIM_PENDING, f"the claim {name} is being made", CreateClaim(manifest), mode
        )
    made_for = claim.sweep if snapshot.kind == SWEEP else claim.experiment
    if made_for != snapshot.name or claim.owner_uid not in (None, snapshot.uid):
        return ClaimDecision(
            name, False, Reason.CLAIM_NOT_OURS,
            f"a claim {name!r} that belongs to something else is in the way; remove or rename it, or use it as"
            " workspace.claimName",
        )  # fmt: skip
    decision = _bound(claim, snapshot)
    owners = claim_owners(snapshot.name, snapshot.uid, workspace.retention, snapshot.kind)
    if bool(owners) != (claim.owner_uid is not None):
        patch: Mapping[str, object] = {"metadata": {"uid": claim.uid, "ownerReferences": owners or None}}
        return ClaimDecision(
            name, decision.ready, decision.reason, decision.message, PatchClaim(name, dict(patch)), decision.access_mode
        )
    return decision


def _bound(claim: ClaimFact, snapshot: Claimant) -> ClaimDecision:
    if claim.phase == "Lost":
        return ClaimDecision(
            claim.name,
            False,
            Reason.CLAIM_LOST,
            f"the volume of the claim {claim.name} is gone",
            None,
            claim.access_mode,
        )
    if claim.phase == "Bound":
        return ClaimDecision(
            claim.name, True, Reason.CLAIM_BOUND, f"the claim {claim.name} is bound", None, claim.access_mode
        )
    words = claim_words(snapshot.warnings, claim.name) or f"the claim {claim.name} waits for a volume"
    return ClaimDecision(claim.name, True, Reason.CLAIM_PENDING, words, None, claim.access_mode)
