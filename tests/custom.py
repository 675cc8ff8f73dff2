# SPDX-License-Identifier: Apache-2.0
"""The worked examples of configs/custom, built as their READMEs say: wheels by uv, the program by go."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from sandbox_api.hook import Hook
from sandbox_api.hook_resource import extra_problems, hooks_in, merged_extra

REPOSITORY = Path(__file__).resolve().parents[1]
CUSTOM = REPOSITORY / "configs" / "custom"
ROUTES = ("own-image", "entry-point", "raw-go")


def documents(route: str) -> list[dict[str, Any]]:
    """All documents of a route's files."""
    return [
        document
        for name in ("hook.yaml", "experiment.yaml")
        for document in yaml.safe_load_all((CUSTOM / route / name).read_text())
    ]


def hook_in(route: str) -> Hook:
    hooks, problems = hooks_in(documents(route))
    assert not problems
    (hook,) = hooks.values()
    return hook


def extra_of(route: str, **settings: Any) -> dict[str, Any]:
    """`extraConfigs` as the hook gets them: checked, with the defaults in."""
    hook = hook_in(route)
    assert extra_problems(hook, settings) == []
    return dict(merged_extra(hook, settings))


def wheel(route: str, folder: Path) -> Path:
    """A route's wheel, built without a network: uv brings the build backend along."""
    own_cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sandbox-operator"
    own = Path(os.environ.get("SANDBOX_CACHE") or own_cache) / "bin/uv/bin/uv"
    uv = str(own) if own.exists() else shutil.which("uv")
    assert uv, f"no uv at {own} and none on PATH: `make setup` installs it"
    _run([uv, "build", "--quiet", "--offline", "--wheel", "--out-dir", str(folder)], CUSTOM / route)
    (made,) = folder.glob("*.whl")
    return made


def go_program(folder: Path) -> Path:
    """The raw route's program, as small and static as its image wants it."""
    go = shutil.which("go")
    assert go, "no go on PATH: install Go 1.24 or newer, which the cluster tool needs as well"
    made = folder / "exact-dedup"
    _run([go, "build", "-trimpath", "-ldflags=-s -w", "-o", str(made), "."], CUSTOM / "raw-go", CGO_ENABLED="0")
    return made


def _run(command: list[str], folder: Path, **environ: str) -> None:
    done = subprocess.run(command, cwd=folder, env={**os.environ, **environ}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
