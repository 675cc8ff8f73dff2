# SPDX-License-Identifier: Apache-2.0
"""What a job takes from results of other jobs: found by the contract's path and digest, never by a name on the volume.

Everything is verified before the hook sees it, so that a hook never works on half a file or on somebody's later edit.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sandbox_api.contract import InputRef, JobContract
from sandbox_api.digest import sha256_of
from sandbox_api.result import Result

from .errors import InputError
from .workspace import Workspace

INFIX = "refineRecipe"
"""Stands between a metaName that a refine job shares with its probe and the refine job's figures."""


@dataclass(frozen=True)
class ResolvedInput:
    """One input, verified. `value` is an absolute path as text, a number, or whatever JSON the producer returned."""

    reference: InputRef
    value: Any
    digest: str
    producer: Result

    @property
    def path(self) -> Path:
        """The value as a path. Raises InputError when it is none."""
        if not isinstance(self.value, str):
            raise InputError(f"{told(self.reference)} is {self.value!r}, where a file is needed")
        return Path(self.value)


def resolve_inputs(contract: JobContract, workspace: Workspace) -> dict[str, ResolvedInput]:
    """All inputs of a contract by target. Raises InputError, which names the job and the output that went bad."""
    results: dict[tuple[str, str], Result] = {}
    found: dict[str, ResolvedInput] = {}
    for target, reference in contract.inputs.items():
        key = (reference.result_path, reference.sha256)
        if key not in results:
            results[key] = _committed_result(reference, workspace)
        found[target] = _verified(reference, results[key], workspace)
    return found


def told(reference: InputRef) -> str:
    """How an input is named in messages."""
    return f"the output {reference.output!r} of job {reference.job}"


def _committed_result(reference: InputRef, workspace: Workspace) -> Result:
    path = workspace.root / reference.result_path
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{told(reference)}: its result {reference.result_path} can't be read ({error.strerror});"
            " the job must run again"
        ) from error
    if hashlib.sha256(content).hexdigest() != reference.sha256:
        raise InputError(
            f"{told(reference)}: its result {reference.result_path} is not the one that was committed;"
            " the job must run again"
        )
    try:
        return Result.model_validate_json(content)
    except ValidationError as error:
        raise InputError(f"{told(reference)}: {reference.result_path} is not a result this image can read") from error


def _verified(reference: InputRef, result: Result, workspace: Workspace) -> ResolvedInput:
    output = result.outputs.get(reference.output)
    if output is None:
        figure = _metric(result, reference.output)
        return ResolvedInput(reference, figure, sha256_of(figure), result)
    if output.kind != "path" or output.path is None:
        value = [_absolute(item, workspace) for item in output.value] if output.kind == "list" else output.value
        return ResolvedInput(reference, value, sha256_of(output.value), result)
    path = workspace.root / output.path
    if not path.exists():
        raise InputError(f"{told(reference)}: {output.path} is missing from the workspace; the job must run again")
    if not workspace.is_intact(output):
        raise InputError(
            f"{told(reference)}: {output.path} was changed after the job wrote it (its digest differs);"
            " the job must run again"
        )
    return ResolvedInput(reference, str(path), output.sha256 or sha256_of([output.path, output.bytes]), result)


def _metric(result: Result, name: str) -> float:
    for key in (name, f"{result.meta_name}.{name}", f"{result.meta_name}.{INFIX}.{name}"):
        if key in result.metrics:
            return result.metrics[key]
    known = ", ".join(sorted(result.outputs)) or "none"
    raise InputError(f"job {result.job} returned neither an output nor a figure named {name!r}; its outputs: {known}")


def _absolute(item: Any, workspace: Workspace) -> Any:
    """Elements of a list that are paths name them from the volume's root."""
    if isinstance(item, str) and item.startswith("experiments/") and (workspace.root / item).exists():
        return str(workspace.root / item)
    return item
