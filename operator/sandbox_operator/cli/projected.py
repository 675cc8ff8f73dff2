# SPDX-License-Identifier: Apache-2.0
"""The planner's facts of a Job or a claim that was asked for, as a cluster would show them right after."""

from __future__ import annotations

from typing import Any

from sandbox_api.contract import CONTRACT_ENV, JobContract, decode_contract

from ..build.job import CONTRACT_KEY
from ..build.names import ANNOTATION_CONTRACT, ANNOTATION_JOB_ID, ANNOTATION_NUMBERS, LABEL_ATTEMPT, LABEL_EXPERIMENT
from ..plan.facts import ClaimFact, JobFact

Manifest = dict[str, Any]


def job_fact(manifest: Manifest, uid: str) -> JobFact:
    """A Job that has just been made."""
    meta = manifest["metadata"]
    return JobFact(
        name=meta["name"],
        uid=uid,
        owner_uid=meta["ownerReferences"][0]["uid"],
        job_id=meta["annotations"][ANNOTATION_JOB_ID],
        attempt=int(meta["labels"][LABEL_ATTEMPT]),
        contract=meta["annotations"][ANNOTATION_CONTRACT],
        numbers=meta["annotations"].get(ANNOTATION_NUMBERS, ""),
    )


def claim_fact(manifest: Manifest, uid: str) -> ClaimFact:
    """A claim that has a volume."""
    meta = manifest["metadata"]
    owners = meta.get("ownerReferences") or ()
    return ClaimFact(
        name=meta["name"],
        uid=uid,
        phase="Bound",
        access_mode=manifest["spec"]["accessModes"][0],
        experiment=meta["labels"].get(LABEL_EXPERIMENT),
        owner_uid=next((owner["uid"] for owner in owners), None),
    )


def contract_of(manifest: Manifest, config_map: Manifest | None) -> JobContract:
    """What a Job asks of its pod."""
    if config_map is not None:
        return decode_contract(config_map["data"][CONTRACT_KEY])
    (container,) = manifest["spec"]["template"]["spec"]["containers"]
    return decode_contract(next(entry["value"] for entry in container["env"] if entry["name"] == CONTRACT_ENV))
