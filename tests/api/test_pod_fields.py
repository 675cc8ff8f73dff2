# SPDX-License-Identifier: Apache-2.0
"""The planner and the API server agree about what a user may say of pods: the planner says it before the first Job."""

import json
from typing import Any

import pytest
from tests.api.conftest import Plane
from tests.unit.pod_profiles import MISTAKES, TAKEN

ELSEWHERE = ("resources", "patch", "fieldOfAYearToCome")


def answer(plane: Plane, profile: dict[str, Any]) -> str:
    """What the API server says of a Job with a pod of this profile; nothing when it takes it."""
    placed = {name: value for name, value in {**profile, **profile.get("patch", {})}.items() if name not in ELSEWHERE}
    hook = {"name": "hook", "image": "data", "resources": profile.get("resources", {})}
    body = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "demo", "namespace": "default"},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [hook], **placed}}},
    }
    asked = ("create", "--dry-run=server", "--validate=strict", "--filename=-")
    told = plane.kubectl(*asked, stdin=json.dumps(body), check=False)
    return told.stderr if told.returncode else ""


@pytest.mark.parametrize(("profile", "where"), [(profile, where) for profile, where, _ in MISTAKES])
def test_the_api_server_refuses_what_the_planner_refuses(plane: Plane, profile: dict[str, Any], where: str) -> None:
    assert answer(plane, profile) != "", where


def test_the_api_server_takes_what_the_planner_takes(plane: Plane) -> None:
    assert answer(plane, TAKEN) == ""
