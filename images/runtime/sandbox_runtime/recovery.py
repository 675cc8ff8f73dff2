# SPDX-License-Identifier: Apache-2.0
"""Results that are there already and may stand for a run: of earlier attempts, of a namesake that was deleted, of a
cache candidate. Each is verified as an input would be; what does not hold is not used.
"""

from __future__ import annotations

from sandbox_api.contract import JobContract, contract_digest
from sandbox_api.result import Result

from .errors import InputError
from .externals import OF_INPUT, difference
from .inputs import paths_of_inputs
from .place import Place
from .workspace import Stored, Workspace


def earlier_success(contract: JobContract, workspace: Workspace, place: Place) -> Stored | None:
    """A result of this very contract that an earlier pod of this job wrote, its artifacts still as they were.

    Of a piece: one of that piece. Of pods that work as one: where all of an attempt have succeeded.

    In the first generation it may also be one of an experiment of the same name whose claim this one has taken over,
    with the same cache key: apply, delete, apply goes on where it was. Later generations were asked for to run again.
    """
    wanted = contract_digest(contract)
    if contract.nodes > 1:
        return _success_of_all(contract, workspace, place.rank)
    for stored in workspace.results():
        result = stored.result
        if result.outcome != "Succeeded" or result.contract != wanted or result.shard != place.shard:
            continue
        if changed_output(result, workspace) is None:
            return stored
    if contract.generation == 1 and contract.cache_key and place.shard is None:
        for stored in workspace.results_of_namesakes():
            if why_unusable(stored.result, contract, workspace) is None:
                return stored
    return None


def left_by_attempt(contract: JobContract, workspace: Workspace) -> tuple[Stored | None, list[str]]:
    """What an attempt of this contract left, a success first; and in words what was there but does not count."""
    wanted = contract_digest(contract)
    if contract.nodes > 1:
        left = _success_of_all(contract, workspace, 0, contract.attempt)
        return left, [] if left else [f"not all of its {contract.nodes} pods have left a success"]
    found = sorted(workspace.results(contract.attempt), key=lambda stored: stored.result.outcome != "Succeeded")
    problems: list[str] = []
    for stored in found:
        if stored.result.contract != wanted:
            problems.append(f"{workspace.relative(stored.path)} is of another contract")
        elif (changed := changed_output(stored.result, workspace)) is not None:
            problems.append(changed)
        else:
            return stored, problems
    return None, problems


def _success_of_all(
    contract: JobContract, workspace: Workspace, rank: int, attempt: int | None = None
) -> Stored | None:
    """What the pod of this rank left in the newest attempt (or the given one) in which the pods of all ranks have
    succeeded, and what rank 0 made is as it was."""
    wanted = contract_digest(contract)
    by_attempt: dict[int, dict[int, Stored]] = {}
    for stored in workspace.results(attempt):
        if stored.result.outcome == "Succeeded" and stored.result.contract == wanted:
            by_attempt.setdefault(stored.result.attempt, {}).setdefault(stored.result.rank, stored)
    for ranks in by_attempt.values():
        if set(ranks) >= set(range(contract.nodes)) and changed_output(ranks[0].result, workspace) is None:
            return ranks[rank]
    return None


def why_unusable(result: Result, contract: JobContract, workspace: Workspace) -> str | None:
    """Why a result may not stand for a run of the contract, as a sentence; None when it may.

    The digest of the result itself is the caller's to compare.
    """
    if result.outcome != "Succeeded":
        return "the result is a failure"
    if not contract.cache_key or result.cache_key != contract.cache_key:
        return "the result is of another configuration, image or input (its cache key differs)"
    if result.meta_name != contract.job.meta_name:
        return f"the result is named {result.meta_name!r}, the job {contract.job.meta_name!r}"
    return changed_output(result, workspace) or _changed_external(result, contract, workspace)


def changed_output(result: Result, workspace: Workspace) -> str | None:
    """The first output that is missing or is not what the result says, in words."""
    for name, output in result.outputs.items():
        if not workspace.is_intact(output):
            return f"the output {name!r} ({output.path or 'a list'}) is missing or was changed after it was written"
    return None


def _changed_external(result: Result, contract: JobContract, workspace: Workspace) -> str | None:
    paths: dict[str, tuple[str, ...]] = {}
    if any(name.startswith(OF_INPUT) for name in result.externals):
        try:
            paths = paths_of_inputs(contract, workspace)
        except InputError as error:
            return str(error)
    for name, was in result.externals.items():
        told = difference(name, was, paths.get(name.removeprefix(OF_INPUT), ()), workspace)
        if told is not None:
            return told
    return None
