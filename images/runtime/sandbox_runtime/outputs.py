# SPDX-License-Identifier: Apache-2.0
"""From what a hook returned to the named, digested outputs of a result, and to the links its user asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from sandbox_api.contract import JobContract
from sandbox_api.digest import canonical_json
from sandbox_api.hooks import HOOKS
from sandbox_api.result import Output

from .errors import ConfigError, UserError
from .files import digest_of, link_atomic
from .hooks.base import Artifact, HookResult
from .workspace import Workspace


def collect_outputs(contract: JobContract, workspace: Workspace, done: HookResult) -> dict[str, Output]:
    """Outputs by name, artifacts fsynced and digested. Raises ConfigError when the job names more than there are."""
    names = output_names(contract, len(done.outputs))
    return {
        name: _output(value, workspace) for name, value in zip(names, done.outputs, strict=True) if value is not None
    }


def output_names(contract: JobContract, count: int) -> list[str]:
    """Names by position: the job's own, then the catalogue's, then the position itself."""
    own = contract.outputs
    if len(own) > count:
        raise ConfigError(f"output: {len(own)} names are given, but {contract.job.hook} returns {count}")
    known = HOOKS.get(contract.job.hook)
    default = [*(known.outputs if known else ()), *(str(position) for position in range(count))]
    names = [*own, *default[len(own) : count]]
    if len(set(names)) < len(names):
        raise ConfigError(f"output: the names {', '.join(names)} are not all different")
    return names


def publish(done: HookResult) -> None:
    """Make the links that users named, each replacing an older one; what is not a link is theirs and stays."""
    for artifact in done.outputs:
        if isinstance(artifact, Artifact) and artifact.publish and not link_atomic(artifact.publish, artifact.path):
            print(f"{artifact.publish} is not a link of ours and stays; the job's own is {artifact.path}", flush=True)


def _output(value: Any, workspace: Workspace) -> Output:
    if isinstance(value, Artifact):
        if not value.path.absolute().is_relative_to(workspace.out):
            raise ValueError(f"an artifact must lie in the attempt's own folder: {value.path}")
        digest = digest_of(value.path, durable=True)
        return Output(
            kind="path", path=workspace.relative(value.path), sha256=digest.sha256, bytes=digest.bytes, rows=value.rows
        )
    kind: Literal["list", "value"] = "list" if isinstance(value, list) else "value"
    plain = [_element(item, workspace) for item in value] if isinstance(value, list) else value
    try:
        canonical_json(plain).encode()
    except (TypeError, ValueError) as error:
        raise UserError(f"the hook returned a value that JSON can't hold: {error}") from error
    return Output(kind=kind, value=plain)


def _element(item: Any, workspace: Workspace) -> Any:
    path = item.path if isinstance(item, Artifact) else item
    return workspace.relative(path) if isinstance(path, Path) else path
