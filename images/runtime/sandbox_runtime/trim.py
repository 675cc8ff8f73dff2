# SPDX-License-Identifier: Apache-2.0
"""Removes the large files of trials that a sweep does not keep. Doing it twice is doing it once.

What tells how a trial went stays: result.json, metrics.jsonl, configs.jsonl, logs, and whatever is small. A result
whose artifacts have gone is found changed by whoever wants to use it again, so its job is done anew.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from sandbox_api.result import Result
from sandbox_api.trim import REMOVED, SMALL_BYTES, TRIM_ENV, TrimContract, TrimFolder, decode_trim

from .files import write_atomic
from .settings import Settings
from .workspace import RESULT

EXIT_CONTRACT, EXIT_LEFT = 2, 1
STATE, SCRATCH, OUT = "state", "work", "out"


def trim(environ: Mapping[str, str]) -> int:
    """Do what the contract in the environment says; returns the exit code, and prints what was done.

    0: all is done. 1: some could not be removed. 2: there is no contract that could be read.
    """
    try:
        contract = decode_trim(environ.get(TRIM_ENV, ""))
    except ValueError as error:
        print(f"{TRIM_ENV}: {error}", file=sys.stderr, flush=True)
        return EXIT_CONTRACT
    freed, left = 0, 0
    for folder in contract.folders:
        try:
            freed += trim_folder(Settings.of(environ).workspace, folder, contract)
        except (OSError, ValueError) as error:
            left += 1
            print(f"{folder.path}: {error}", file=sys.stderr, flush=True)
    print(f"{freed} bytes removed from {len(contract.folders) - left} jobs' folders", flush=True)
    return EXIT_LEFT if left else 0


def trim_folder(root: Path, folder: TrimFolder, contract: TrimContract) -> int:
    """Remove what one job's folder need not keep; gives its bytes.

    Raises ValueError where the folder is none of a job of an experiment on this volume, OSError where it can't be
    changed.
    """
    job = _job_folder(root, folder.path)
    named = {job / PurePosixPath(name) for name in folder.results}
    freed, is_at_work = 0, False
    for attempt in sorted((job / "attempts").glob("*/*")):
        number = int(attempt.parent.name) if attempt.parent.name.isdigit() else 0
        is_at_work |= number > folder.attempts  # somebody has it run again
        if attempt not in named and (number > folder.attempts or _has_succeeded(attempt)):
            continue
        if attempt.is_dir() and not attempt.is_symlink():
            freed += _trim_attempt(root, attempt, contract)
    state = job / STATE
    if state.is_dir() and not state.is_symlink() and not is_at_work:  # nothing is resumed any more
        freed += _size(state)
        shutil.rmtree(state)
    return freed


def _job_folder(root: Path, path: str) -> Path:
    parts = PurePosixPath(path).parts
    if len(parts) < 4 or parts[0] != "experiments" or parts[2] != "jobs" or ".." in parts:
        raise ValueError("is no job's folder")
    job = root / path
    if job.resolve() != root.resolve() / path:
        raise ValueError("a link leads elsewhere from it")
    return job


def _has_succeeded(attempt: Path) -> bool:
    """Whether a result lies there that others may have taken; one that can't be read is left alone as well."""
    try:
        return Result.model_validate_json((attempt / RESULT).read_bytes()).outcome == "Succeeded"
    except FileNotFoundError:
        return False
    except ValidationError:
        return True


def _trim_attempt(root: Path, attempt: Path, contract: TrimContract) -> int:
    before = _removed_before(attempt)
    begun = [path for name in before if os.path.lexists(path := attempt / name)]  # by a pod that came to no end
    large = sorted({*_large(attempt), *begun})
    if not large:
        return 0
    sizes = {entry: _size(entry) for entry in large}
    told = {str(entry.relative_to(attempt)): size for entry, size in sizes.items()}
    words = f"spec.keep.bestTrials of the sweep {contract.sweep}: the trial is not among the best"
    write_atomic(attempt / REMOVED, json.dumps({"removed": {**before, **told}, "why": words}, indent=1).encode())
    for entry in large:
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink(missing_ok=True)
    _unpublish(root, attempt, large)
    return sum(sizes.values())


def _large(attempt: Path) -> Iterator[Path]:
    """What lies in `out` or `work` and is not small, whole: half a data set helps nobody."""
    for name in (OUT, SCRATCH):
        folder = attempt / name
        if folder.is_dir() and not folder.is_symlink():
            yield from (entry for entry in sorted(folder.iterdir()) if _size(entry) > SMALL_BYTES)


def _removed_before(attempt: Path) -> dict[str, int]:
    try:
        found = json.loads((attempt / REMOVED).read_bytes())["removed"]
        return {str(name): int(size) for name, size in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _unpublish(root: Path, attempt: Path, gone: list[Path]) -> None:
    """Names that users gave to what has gone lead nowhere: they go too, unless a later attempt has taken them over."""
    try:
        result = Result.model_validate_json((attempt / RESULT).read_bytes())
    except (OSError, ValidationError):
        return
    experiment = root / PurePosixPath(*attempt.relative_to(root).parts[:2])
    for output in result.outputs.values():
        for entry in (output, *(output.elements or ())):
            if entry.published is None:
                continue
            link = experiment / entry.published
            if link.is_symlink() and any(link.resolve().is_relative_to(path.resolve()) for path in gone):
                link.unlink(missing_ok=True)


def _size(path: Path) -> int:
    """Bytes of a file, or of all in a folder; links are not followed."""
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size
    return sum((Path(folder) / name).lstat().st_size for folder, _, names in os.walk(path) for name in names)
