# SPDX-License-Identifier: Apache-2.0
"""The pieces of a divided job (`shards`) as its merging pod finds them on the volume: one valid success of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox_api.contract import JobContract, contract_digest
from sandbox_api.ranges import ranges_of
from sandbox_api.result import UNKNOWN, Result

from .errors import InputError
from .outputs import output_names
from .recovery import changed_output
from .workspace import Workspace


@dataclass(frozen=True)
class Piece:
    """What one piece came to."""

    number: int
    result: Result
    outputs: tuple[Any, ...]
    """By position, as the hook returned them: an absolute path for an artifact, a value, None for one that was not
    made."""

    @property
    def metrics(self) -> dict[str, float]:
        """Its figures, without the metaName."""
        prefix = f"{self.result.meta_name}."
        return {name.removeprefix(prefix): value for name, value in self.result.metrics.items()}


def pieces_on_volume(contract: JobContract, workspace: Workspace, outputs: int) -> list[Piece]:
    """A result of every piece, in order, whichever attempt made it; a hook returns so many `outputs`.

    Raises InputError, which names this very job, when there is none of some, or what it made is not as it was.
    """
    wanted, found = contract_digest(contract), dict[int, Result]()
    for stored in workspace.results():
        result = stored.result
        if result.shard is None or result.shard in found or result.outcome != "Succeeded" or result.contract != wanted:
            continue
        if changed_output(result, workspace) is None:
            found[result.shard] = result
    if missing := [number for number in range(contract.shards) if number not in found]:
        count = "piece" if len(missing) == 1 else "pieces"
        words = f"{count} {ranges_of(missing)} of {contract.shards}: no result on the volume that is as it was written"
        raise InputError(words, job=contract.job.id)
    names = output_names(contract, outputs)
    return [Piece(number, found[number], _outputs(found[number], names, workspace)) for number in sorted(found)]


def _outputs(result: Result, names: Sequence[str], workspace: Workspace) -> tuple[Any, ...]:
    def value_of(name: str) -> Any:
        output = result.outputs.get(name)
        if output is None:
            return None
        return workspace.root / Path(output.path) if output.kind == "path" and output.path else output.value

    return tuple(map(value_of, names))


def shared_externals(mine: Mapping[str, str], pieces: Sequence[Piece]) -> dict[str, str]:
    """What the whole job depends on: what all have seen alike; the rest can't be told."""
    others = [piece.result.externals for piece in pieces]
    names = dict.fromkeys([*mine, *(name for one in others for name in one)])
    return {
        name: mine[name] if name in mine and all(one.get(name) == mine[name] for one in others) else UNKNOWN
        for name in names
    }
