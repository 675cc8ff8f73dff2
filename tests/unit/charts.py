# SPDX-License-Identifier: Apache-2.0
"""Renders the Helm charts for tests, with the Helm that the cluster tool installs. Holds no expectation itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
OPERATOR = ROOT / "helm/sandbox-operator"
CRDS = ROOT / "helm/sandbox-operator-crds"
IMAGE = "registry.example.com/sandbox-operator@sha256:" + "0" * 64
# A Helm built by `go install` takes the cluster for 1.20 when there is none to ask.
KUBE_VERSION = "--kube-version=1.34.4"

Manifest = dict[str, Any]


@cache
def helm_binary() -> str:
    own_cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sandbox-operator"
    folder = Path(os.environ.get("SANDBOX_CACHE") or own_cache) / "bin"
    installed = sorted(str(path) for path in folder.glob("helm-*/helm"))
    found = installed[-1] if installed else shutil.which("helm")
    if not found:
        pytest.fail(f"no helm in {folder}/helm-*/ and none on PATH: run `cluster/cluster tools`, which installs it")
    return found


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([helm_binary(), *arguments], capture_output=True, text=True, timeout=60, check=False)


@cache
def defined() -> tuple[Manifest, ...]:
    """The names of every kind that crds/ defines."""
    return tuple(yaml.safe_load(path.read_text())["spec"]["names"] for path in sorted((ROOT / "crds").glob("*.yaml")))


def settings(**values: Any) -> list[str]:
    """`--set-json` for each value; `__` in its name stands for the dot of a path."""
    return [f"--set-json={name.replace('__', '.')}={json.dumps(value)}" for name, value in values.items()]


def render(chart: Path, **values: Any) -> list[Manifest]:
    answer = helm("template", "sandbox-operator", str(chart), "-n", "tools", KUBE_VERSION, *settings(**values))
    assert answer.returncode == 0, answer.stderr
    return [manifest for manifest in yaml.safe_load_all(answer.stdout) if manifest]


def operator_chart(**values: Any) -> list[Manifest]:
    return render(OPERATOR, **{"image": IMAGE, **values})
