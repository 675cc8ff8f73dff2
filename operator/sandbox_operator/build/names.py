# SPDX-License-Identifier: Apache-2.0
"""Names and labels of the objects we make: functions of identity alone, so that making one twice is making it once."""

from __future__ import annotations

import hashlib

from sandbox_api.base import GROUP

MANAGED_BY = "sandbox-operator"
LABEL_MANAGED = "app.kubernetes.io/managed-by"
LABEL_EXPERIMENT = f"{GROUP}/experiment"
LABEL_UID = f"{GROUP}/experiment-uid"
LABEL_JOB = f"{GROUP}/job"
LABEL_ATTEMPT = f"{GROUP}/attempt"
LABEL_HOOK = f"{GROUP}/hook"
LABEL_TASK = f"{GROUP}/task"
LABEL_CLAIM = f"{GROUP}/claim"
LABEL_SWEEP = f"{GROUP}/sweep"
LABEL_SWEEP_UID = f"{GROUP}/sweep-uid"
ANNOTATION_JOB_ID = f"{GROUP}/job-id"
ANNOTATION_CONTRACT = f"{GROUP}/contract"
ANNOTATION_NUMBERS = f"{GROUP}/pod-numbers"
"""Of a Job with several pods, and on each of them: what the pods are by their index, ranks of one group (`0-3`) or
pieces of the job (`1,3`)."""
TASKS = ("run", "read", "pieces", "check", "merge")
_NAME_CUT = 40  # with -<hash10>-a<n> and a pod's suffix it stays under 63
_LABEL_CUT = 30  # with -<hash10>-a<n>-pieces-<n>


def job_hash(uid: str, job_id: str) -> str:
    """Ten hex digits that stand for (experiment, job) where a job's id can't stand."""
    return hashlib.sha256(f"{uid}/{job_id}".encode()).hexdigest()[:10]


def job_name(experiment: str, uid: str, job_id: str, attempt: int, *, indexed: bool = False) -> str:
    """Name of the Kubernetes Job of one attempt.

    `indexed`: its pods are numbered, and the name with a number must be a host's name, so it has no dots.
    """
    name = experiment[:_NAME_CUT].rstrip("-.")
    return f"{name.replace('.', '-') if indexed else name}-{job_hash(uid, job_id)}-a{attempt}"


def helper_name(name: str, task: str) -> str:
    """Name of the Job that reads a result, checks the cache or merges pieces for an attempt's Job of this name.

    Pods of `pieces` are numbered: the name and a number must be a DNS label, so it has no dots and is shorter.
    """
    if task == "pieces":
        experiment, job, attempt = name.rsplit("-", 2)
        return f"{experiment.replace('.', '-')[:_LABEL_CUT].rstrip('-')}-{job}-{attempt}-{task}"
    return name if task == "run" else f"{name}-{task}"


def service_name(experiment: str, uid: str) -> str:
    """Name of the headless Service by which pods of one experiment find each other; a letter comes first."""
    return f"sandbox-{experiment[:_NAME_CUT].replace('.', '-').rstrip('-')}-{uid[:8]}"


def claim_hash(claim: str) -> str:
    """Ten hex digits that stand for a claim: its name may be too long for a label."""
    return hashlib.sha256(claim.encode()).hexdigest()[:10]


def claim_name(owner: str) -> str:
    """Name of the claim that is made for an experiment, or for all trials of a sweep."""
    return f"{owner}-workspace"


def trial_name(sweep: str, number: int) -> str:
    """Name of the experiment that is a sweep's trial."""
    return f"{sweep}-{number:04d}"


def experiment_labels(name: str, uid: str) -> dict[str, str]:
    """Labels of everything that belongs to an experiment. Its own labels are never copied: GitOps tools own those."""
    return {LABEL_MANAGED: MANAGED_BY, LABEL_EXPERIMENT: name, LABEL_UID: uid}


def sweep_labels(name: str, uid: str) -> dict[str, str]:
    """Labels of everything that is made for a sweep."""
    return {LABEL_MANAGED: MANAGED_BY, LABEL_SWEEP: name, LABEL_SWEEP_UID: uid}
