# SPDX-License-Identifier: Apache-2.0
"""What users of a namespace may do with the cluster's own roles, once the chart of the definitions has added to them."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from tests.api.conftest import Plane
from tests.api.lab import Lab
from tests.api.sweep_lab import a_sweep, the_sweep
from tests.unit.charts import CRDS, KUBE_VERSION, helm

EDITOR, VIEWER = "--as=editor", "--as=viewer"


@pytest.fixture
def roles(plane: Plane, lab: Lab) -> Iterator[None]:
    """The chart's roles, and a user with each of the cluster's `edit` and `view` in the test's namespace."""
    shown = ("--show-only", "templates/user-roles.yaml")
    answer = helm("template", f"users-{lab.namespace}", str(CRDS), KUBE_VERSION, *shown)
    assert answer.returncode == 0, answer.stderr
    plane.kubectl("apply", "-f", "-", stdin=answer.stdout)
    for role, user in (("edit", "editor"), ("view", "viewer")):
        plane.kubectl("create", "rolebinding", user, f"--clusterrole={role}", f"--user={user}", "-n", lab.namespace)
    yield
    plane.kubectl("delete", "-f", "-", stdin=answer.stdout)


@pytest.mark.usefixtures("roles")
async def test_editors_make_sweeps_and_viewers_look_at_them(plane: Plane, lab: Lab) -> None:
    """Of each kind `tests/unit/test_helm_chart.py` tells the rules; here the cluster's own roles take them up."""
    where = ("-n", lab.namespace)

    def may(user: str, verb: str) -> bool:
        return plane.kubectl("auth", "can-i", verb, "sandboxsweeps", user, *where, check=False).stdout.strip() == "yes"

    await lab.until(lambda: may(EDITOR, "create"), "edit may create sweeps")
    await lab.until(lambda: may(VIEWER, "get"), "view may get sweeps")
    sweep = json.dumps(the_sweep("tuned", a_sweep()))
    refused = plane.kubectl("create", "-f", "-", VIEWER, *where, stdin=sweep, check=False)
    assert "Forbidden" in refused.stderr
    plane.kubectl("create", "-f", "-", EDITOR, *where, stdin=sweep)
    assert plane.kubectl("get", "sbsw", "tuned", "-o", "name", VIEWER, *where).stdout.startswith("sandboxsweep")
    plane.kubectl("delete", "sbsw", "tuned", EDITOR, *where)
