# SPDX-License-Identifier: Apache-2.0
"""From what a hook returned to the named, digested outputs of a result, and to the links its user asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sandbox_api.contract import JobContract
from sandbox_api.digest import canonical_json, sha256_of
from sandbox_api.hooks import known_hook
from sandbox_api.result import Element, Output

from .digests import digest_of
from .errors import ConfigError, UserError
from .files import link_atomic
from .hooks.base import Artifact, HookResult
from .workspace import Workspace


@dataclass(frozen=True)
class Collected:
    outputs: dict[str, Output]
    content: str
    """Digest of the outputs alone: equal for two runs that gave the same, wherever their files lie."""


def collect_outputs(
    contract: JobContract, workspace: Workspace, done: HookResult, named: Mapping[str, Path] | None = None
) -> Collected:
    """Outputs by name, artifacts fsynced and digested; `named` are files beside the hook's own outputs.

    Raises ConfigError when the job names more than there are.
    """
    names = output_names(contract, len(done.outputs))
    outputs: dict[str, Output] = {}
    contents: dict[str, Any] = {}
    for name, value in zip(names, done.outputs, strict=True):
        if value is not None:
            outputs[name], contents[name] = _output(value, workspace)
    for name, path in (named or {}).items():
        if name not in outputs:
            outputs[name], contents[name] = _output(Artifact(path), workspace)
    return Collected(outputs, sha256_of(contents))


def output_names(contract: JobContract, count: int) -> list[str]:
    """Names by position: the job's own, then the catalogue's, then the position itself."""
    own = contract.outputs
    if len(own) > count:
        raise ConfigError(f"output: {len(own)} names are given, but {contract.job.hook} returns {count}")
    known = known_hook(contract.job.hook, contract.job.type)
    default = [*(known.outputs if known else ()), *(str(position) for position in range(count))]
    names = [*own, *default[len(own) : count]]
    if len(set(names)) < len(names):
        raise ConfigError(f"output: the names {', '.join(names)} are not all different")
    return names


def publish(outputs: Mapping[str, Output], workspace: Workspace) -> None:
    """Make the links that users named, each replacing an older one; what is not a link is theirs and stays."""
    for name, output in outputs.items():
        elements = [(element.published, output.value[element.index]) for element in output.elements or ()]
        for published, path in [(output.published, output.path), *elements]:
            if published and path:
                link = workspace.publishable(published, name)
                if not link_atomic(link, workspace.root / path):
                    print(f"{link} is not a link of ours and stays; the job's own is {path}", flush=True)


def _output(value: Any, workspace: Workspace) -> tuple[Output, list[Any]]:
    """An output, and what of it counts for the digest of contents."""
    if isinstance(value, Artifact):
        if not value.path.absolute().is_relative_to(workspace.out):
            raise ValueError(f"an artifact must lie in the attempt's own folder: {value.path}")
        digest = digest_of(value.path, durable=True)
        path = workspace.relative(value.path)
        output = Output(
            kind="path",
            path=path,
            sha256=digest.sha256,
            bytes=digest.bytes,
            rows=value.rows,
            published=workspace.user_name(value.publish) if value.publish else None,
        )
        return output, ["path", digest.content]
    if isinstance(value, Path):  # what another job has made, and this one has chosen
        digest = digest_of(value, durable=True)
        path = workspace.relative(value)
        return Output(kind="path", path=path, sha256=digest.sha256, bytes=digest.bytes), ["path", digest.content]
    plain, contents = value, value
    elements: list[Element] = []
    if isinstance(value, list):
        plain, elements, contents = _list(value, workspace)
    kind: Literal["list", "value"] = "list" if isinstance(value, list) else "value"
    try:
        canonical_json(plain).encode()
    except (TypeError, ValueError) as error:
        raise UserError(f"the hook returned a value that JSON can't hold: {error}") from error
    return Output(kind=kind, value=plain, elements=elements or None), [kind, contents]


def _list(items: list[Any], workspace: Workspace) -> tuple[list[Any], list[Element], list[Any]]:
    """A list as its result holds it, digests of the paths in it, and what of it counts for the contents."""
    plain: list[Any] = []
    elements: list[Element] = []
    contents: list[Any] = []
    for index, item in enumerate(items):
        path = item.path if isinstance(item, Artifact) else item
        if isinstance(path, Path):
            digest = digest_of(path, durable=True)
            element = Element(index=index, sha256=digest.sha256, bytes=digest.bytes)
            if isinstance(item, Artifact):
                published = workspace.user_name(item.publish) if item.publish else None
                element = element.model_copy(update={"rows": item.rows, "published": published})
            elements.append(element)
            plain.append(workspace.relative(path))
            contents.append(["path", digest.content])
        else:
            plain.append(item)
            contents.append(item)
    return plain, elements, contents
