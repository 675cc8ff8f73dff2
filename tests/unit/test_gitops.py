# SPDX-License-Identifier: Apache-2.0
"""What `gitops/` ships: health and actions by Argo CD's interpreter, health by Flux's expressions, over resources that the
operator made (tests/api/test_gitops.py has it make them again), and what kustomize builds of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.gitops import KINDS, Manifest, flux, health

STATES = {
    **dict.fromkeys(("created", "behind", "deleting", "pending", "running", "rerunning", "waiting"), "Progressing"),
    **dict.fromkeys(("claim_missing", "failed", "invalid", "invalid_after_success", "stopped"), "Degraded"),
    **dict.fromkeys(("succeeded", "valid"), "Healthy"),
    **dict.fromkeys(("suspended", "suspended_between"), "Suspended"),
}
"""What each state is in Argo CD."""
IN_FLUX = {
    "Healthy": ("Current",),
    "Degraded": ("Failed",),
    "Progressing": ("InProgress", "Waiting"),
    "Suspended": ("InProgress",),
}


def resource(path: Path) -> Manifest:
    return dict(yaml.safe_load(path.read_text()))


def cases() -> Iterator[Any]:
    """Argo CD's own test files: a resource, and the health that it has."""
    for kind in sorted(KINDS.iterdir()):
        for test in yaml.safe_load((kind / "health_test.yaml").read_text())["tests"]:
            path = kind / test["inputPath"]
            yield pytest.param(path, test["healthStatus"], id=f"{kind.name}-{path.stem}")


def files(*states: str) -> list[Path]:
    return [path for path in sorted(KINDS.glob("*/testdata/*.yaml")) if path.stem in states]


@pytest.mark.parametrize(("path", "expected"), cases())
def test_the_health_in_argo_cd_is_what_its_test_file_says(path: Path, expected: Manifest) -> None:
    assert health(resource(path)) == expected
    assert expected["status"] == STATES[path.stem]


@pytest.mark.parametrize("path", files(*STATES), ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_flux_and_argo_cd_say_the_same(path: Path) -> None:
    assert flux(resource(path)) in IN_FLUX[STATES[path.stem]]
    assert (flux(resource(path)) == "Waiting") == (path.stem == "created")


def test_every_state_of_every_kind_is_in_a_test_file() -> None:
    tested = {case.values[0] for case in cases()}
    recorded = {path for path in KINDS.glob("*/testdata/*.yaml") if not path.stem.startswith("after_")}
    assert tested == recorded
    of_experiments = {path.stem for path in recorded if path.parts[-3] == "SandboxExperiment"}
    assert set(STATES) - of_experiments == {"valid"}
