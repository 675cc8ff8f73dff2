# SPDX-License-Identifier: Apache-2.0
"""A waiting job's trouble is told with the field that a user can change."""

from typing import Any

import pytest
from tests.unit.builders import a_spec, probe

from sandbox_api.status import Reason
from sandbox_operator.plan.address import addressed
from sandbox_operator.plan.compile import compile_spec
from sandbox_operator.plan.waiting import Waiting

INPUTS = [{"name": "raw", "configMapName": "texts"}, {"name": "more", "claimName": "datasets"}]
JOB = "spec.probeJobConfigs[0]"


@pytest.mark.parametrize(
    ("spec", "reason", "message", "field"),
    [
        ({}, Reason.IMAGE_UNAVAILABLE, "not found", "spec.images.data"),
        ({}, Reason.INSUFFICIENT_GPU, "no GPU", "spec.pods.default.resources"),
        ({"pods": {"big": {}}, "probes": [probe(pod="big")]}, Reason.INSUFFICIENT_GPU, "no GPU", "spec.pods.big.resources"),
        ({"probes": [probe(resources={"limits": {"cpu": 1}})]}, Reason.INSUFFICIENT_GPU, "no GPU", f"{JOB}.resources"),
        ({}, Reason.VOLUME_UNBOUND, "unbound", "spec.workspace.claim"),
        ({"workspace": {"claimName": "mine"}}, Reason.VOLUME_UNBOUND, "unbound", "spec.workspace.claimName"),
        ({}, Reason.VOLUME_UNBOUND, "the claim datasets waits: no class", "spec.inputs[1].claimName"),
        ({}, Reason.VOLUME_MOUNT, 'configmap "texts" not found', "spec.inputs[0].configMapName"),
        ({}, Reason.VOLUME_MOUNT, 'persistentvolumeclaim "datasets" not found', "spec.inputs[1].claimName"),
        ({}, Reason.VOLUME_MOUNT, "timed out", None),
        ({}, Reason.QUOTA_EXCEEDED, "exceeded quota", None),
        ({}, Reason.STARTING, "the pod starts", None),
    ],
)  # fmt: skip
def test_the_field_behind_a_reason(spec: dict[str, Any], reason: Reason, message: str, field: str | None) -> None:
    compiled = compile_spec(a_spec(**{"inputs": INPUTS, **spec}))
    assert compiled.spec is not None

    words = addressed(Waiting(reason, message), compiled.jobs[0], compiled.spec)
    assert words == (f"{field}: {message}" if field else message)
