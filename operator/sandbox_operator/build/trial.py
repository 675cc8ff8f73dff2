# SPDX-License-Identifier: Apache-2.0
"""The experiment that is one trial of a sweep: the sweep's template with what the sweep decides for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sandbox_api.base import API_VERSION

from .names import sweep_labels, trial_name
from .volume import SWEEP, owner_reference


def trial_spec(
    *,
    sweep: str,
    number: int,
    template: Mapping[str, Any],
    claim: str,
    keep: Mapping[str, Any],
    trial: Mapping[str, Any],
) -> dict[str, Any]:
    """The spec of trial `number`: all trials work on one claim, in one project, each under a name of its own."""
    name, own = template.get("experimentName"), template.get("keep")
    return {
        "projectName": sweep,
        **template,
        **({"experimentName": f"{name}-{number:04d}"} if isinstance(name, str) else {}),
        "workspace": {"claimName": claim},
        **({"keep": {**(own or {}), **keep}} if keep and isinstance(own, Mapping | None) else {}),
        "trial": dict(trial),
    }


def trial_experiment(*, sweep: str, namespace: str, uid: str, number: int, spec: Mapping[str, Any]) -> dict[str, Any]:
    """The experiment of trial `number`. The sweep's own labels are never copied: GitOps tools own those."""
    return {
        "apiVersion": API_VERSION,
        "kind": "SandboxExperiment",
        "metadata": {
            "name": trial_name(sweep, number),
            "namespace": namespace,
            "labels": sweep_labels(sweep, uid),
            "ownerReferences": [owner_reference(sweep, uid, SWEEP)],
        },
        "spec": dict(spec),
    }
