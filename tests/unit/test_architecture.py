# SPDX-License-Identifier: Apache-2.0
"""Rules about the repository itself: who may import whom, how long a module may be, and what no file may say."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LONGEST_MODULE = 410
SPDX = "# SPDX-License-Identifier: Apache-2.0"


def tracked() -> list[Path]:
    """Every file that Git has, or would take."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, check=True,
    )  # fmt: skip
    return [path for name in listed.stdout.decode().split("\0") if name and (path := ROOT / name).is_file()]


FILES = tracked()
PYTHON = [path for path in FILES if path.suffix == ".py"]


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_there_is_something_to_look_at() -> None:
    assert len(PYTHON) > 50
    assert ROOT / "operator/sandbox_operator/plan/experiment.py" in FILES


def test_every_package_imports_only_what_it_may() -> None:
    """The contracts stand in pyproject.toml."""
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


@pytest.mark.parametrize("path", [p for p in PYTHON if "tests" not in p.parts], ids=named)
def test_a_module_holds_one_thing_and_so_stays_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST_MODULE


@pytest.mark.parametrize("path", PYTHON, ids=named)
def test_every_python_file_begins_with_its_licence(path: Path) -> None:
    text = path.read_text()

    assert text.startswith(SPDX) or (text.startswith("#!") and text.splitlines()[1] == SPDX)


@pytest.mark.parametrize("path", [p for p in PYTHON if p.name != "__init__.py"], ids=named)
def test_every_python_file_says_why_it_exists(path: Path) -> None:
    code = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]

    assert code
    assert code[0].startswith('"""')


def test_no_module_is_a_drawer_for_everything() -> None:
    drawers = {"util", "utils", "helper", "helpers", "common", "misc", "manager"}

    assert [named(path) for path in PYTHON if path.stem in drawers] == []


# Each is written so that it does not match itself.
FORBIDDEN = {
    "a path of somebody's machine": r"(?<![\w./-])/(roo[t]|wor[k]|hom[e]/[a-z]+)/",
    "a package registry's address": r"\b(pypi\.or[g]/simple|files\.pythonhoste[d]|proxy\.golan[g]|registry\.npmj[s]|deb\.debian\.or[g]/)",
    "an index for packages": r"--(extra-)?index-ur[l] ?=?https?:",
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_names(what: str) -> None:
    pattern = re.compile(FORBIDDEN[what].encode())
    found = [
        f"{named(path)}:{number}: {line.decode(errors='replace').strip()[:120]}"
        for path in FILES
        if not path.is_symlink()
        for number, line in enumerate(path.read_bytes().splitlines(), 1)
        if pattern.search(line)
    ]

    assert found == []


def test_the_patterns_do_find_what_they_are_for() -> None:
    samples = {
        "a path of somebody's machine": ["see /roo" + "t/.cache/x", "cd /wor" + "k/main", '"/hom' + 'e/ada/x"'],
        "a package registry's address": ["https://pypi.or" + "g/simple/", "https://proxy.golan" + "g.org"],
        "an index for packages": ["--index-ur" + "l https://x", "--extra-index-ur" + "l=https://x"],
    }
    for what, lines in samples.items():
        for line in lines:
            assert re.search(FORBIDDEN[what], line), line
    assert not re.search(FORBIDDEN["a path of somebody's machine"], "/workspace/experiments")
