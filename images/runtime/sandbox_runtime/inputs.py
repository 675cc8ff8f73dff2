# SPDX-License-Identifier: Apache-2.0
"""What a job takes from results of other jobs: found by the contract's path and digest, never by a name on the volume.

Everything is verified before the hook sees it, so that a hook never works on half a file or on somebody's later edit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox_api.contract import InputRef, JobContract, figure_names
from sandbox_api.digest import sha256_of
from sandbox_api.result import Output, Result

from .errors import ConfigError, InputError
from .workspace import NotStored, Workspace


@dataclass(frozen=True)
class ResolvedInput:
    """One input, verified. `value` is an absolute path as text, a number, whatever JSON the producer returned, or the
    list of those where several jobs made it.
    """

    told: str
    """How it is named in messages."""
    value: Any
    digest: str
    producer: Result | None
    """None when several jobs made it."""
    paths: tuple[str, ...] = ()
    """The files and folders in `value`, absolute."""

    @property
    def path(self) -> Path:
        """The value as a path. Raises ConfigError when it is none."""
        if not isinstance(self.value, str):
            raise ConfigError(f"{self.told} is {self.value!r}, where a file is needed")
        return Path(self.value)


def resolve_inputs(contract: JobContract, workspace: Workspace) -> dict[str, ResolvedInput]:
    """All inputs of a contract by target. Raises InputError, which names the job and the output that went bad."""
    results = _Results(workspace)
    return {target: _resolved(reference, results, workspace) for target, reference in contract.inputs.items()}


def paths_of_inputs(contract: JobContract, workspace: Workspace) -> dict[str, tuple[str, ...]]:
    """The files and folders that inputs name, by target; their content is not verified. Raises InputError."""
    results = _Results(workspace)
    found: dict[str, tuple[str, ...]] = {}
    for target, references in contract.inputs.items():
        paths: list[str] = []
        for reference in references if isinstance(references, list) else [references]:
            output = results.of(reference).outputs.get(reference.output)
            paths += [path for _, path in _paths_in(output, reference.element, workspace)] if output else []
        found[target] = tuple(paths)
    return found


def told(reference: InputRef) -> str:
    """How an output of a job is named in messages."""
    element = "" if reference.element is None else f"element {reference.element} of "
    return f"{element}the output {reference.output!r} of job {reference.job}"


class _Results:
    """Results that inputs name, each read and verified once."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._found: dict[tuple[str, str], Result] = {}

    def of(self, reference: InputRef) -> Result:
        key = (reference.result_path, reference.sha256)
        if key not in self._found:
            self._found[key] = committed_result(reference, self._workspace)
        return self._found[key]


def committed_result(reference: InputRef, workspace: Workspace) -> Result:
    try:
        return workspace.committed(reference.result_path, reference.sha256).result
    except NotStored as error:
        where = f"{told(reference)}: its result {reference.result_path}"
        raise InputError(f"{where} {error}; the job must run again", reference.job) from error


def _resolved(references: InputRef | list[InputRef], results: _Results, workspace: Workspace) -> ResolvedInput:
    if isinstance(references, InputRef):
        return _verified(references, results.of(references), workspace)
    parts = [_verified(reference, results.of(reference), workspace) for reference in references]
    return ResolvedInput(
        told=f"the list of {len(parts)} results ({', '.join(part.told for part in parts[:3])}, ...)",
        value=[part.value for part in parts],
        digest=sha256_of([part.digest for part in parts]),
        producer=None,
        paths=tuple(path for part in parts for path in part.paths),
    )


def _verified(reference: InputRef, result: Result, workspace: Workspace) -> ResolvedInput:
    name, output = told(reference), result.outputs.get(reference.output)
    if output is None:
        figure = _metric(reference, result)
        return ResolvedInput(name, figure, sha256_of(figure), result)
    if reference.element is not None and (output.kind != "list" or reference.element >= len(output.value)):
        raise ConfigError(f"{name}: there is no such element; the job returned {_short(output)}")
    paths = dict(_paths_in(output, reference.element, workspace))
    for index, path in paths.items():
        where = f"{name}: {workspace.relative(Path(path))}"
        if not Path(path).exists():
            raise InputError(f"{where} is missing from the workspace; the job must run again", reference.job)
        if not workspace.is_intact(output, index):
            changed = "was changed after the job wrote it (its digest differs)"
            raise InputError(f"{where} {changed}; the job must run again", reference.job)
    value = _value(output, reference.element, paths)
    return ResolvedInput(name, value, _digest(output, reference.element), result, tuple(paths.values()))


def _paths_in(output: Output, element: int | None, workspace: Workspace) -> list[tuple[int | None, str]]:
    """Absolute paths of an output, or of one element of it, each with its place in the list."""
    if output.kind == "path" and output.path is not None:
        return [(None, str(workspace.root / output.path))]
    return [
        (entry.index, str(workspace.root / output.value[entry.index]))
        for entry in output.elements or ()
        if element in (None, entry.index)
    ]


def _value(output: Output, element: int | None, paths: Mapping[int | None, str]) -> Any:
    if output.kind == "path":
        return paths[None]
    if output.kind != "list":
        return output.value
    values = [paths.get(index, item) for index, item in enumerate(output.value)]
    return values if element is None else values[element]


def _digest(output: Output, element: int | None) -> str:
    if output.kind == "path":
        return output.sha256 or sha256_of([output.path, output.bytes])
    entries = {entry.index: [entry.sha256, entry.bytes] for entry in output.elements or ()}
    if element is not None:
        return sha256_of(entries.get(element, output.value[element]))
    if entries:
        return sha256_of([entries.get(index, item) for index, item in enumerate(output.value)])
    return sha256_of(output.value)


def _metric(reference: InputRef, result: Result) -> float:
    name = reference.output
    for key in figure_names(result.meta_name, name):
        if key in result.metrics:
            return result.metrics[key]
    known = ", ".join(sorted(result.outputs)) or "none"
    # running that job again would give the same
    raise ConfigError(
        f"job {reference.job} returned neither an output nor a figure named {name!r}; its outputs: {known}"
    )


def _short(output: Output) -> str:
    return f"a list of {len(output.value)}" if output.kind == "list" else f"a {output.kind}"
