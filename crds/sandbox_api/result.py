# SPDX-License-Identifier: Apache-2.0
"""The result contract, pod -> operator: `result.json` on the volume, and the short message that names it.

The message is the container's termination message: compressed, at most `MESSAGE_BYTES` long, complete or absent. What
does not fit is cut by a fixed rule (metrics from the end, those the operator needs never) and `truncated` says so.
"""

from __future__ import annotations

import base64
import json
import zlib
from typing import Annotated, Any, Literal

from pydantic import Field

from .base import ContractModel
from .digest import canonical_json

RESULT_VERSION = 1
MESSAGE_PREFIX = "sandbox1:"
MESSAGE_BYTES = 3584
ERROR_BYTES = 800

ErrorClass = Literal["User", "Config", "Input", "Infra", "Preempted", "OutOfMemory", "Timeout"]

EXIT_SUCCESS = 0
EXIT_CODES: dict[str, int] = {
    "User": 1,
    "Config": 2,
    "Input": 3,
    "Infra": 4,
    "Preempted": 143,
    "OutOfMemory": 1,
    "Timeout": 1,
}
"""Exit code of the wrapper for each class it knows of."""


class Output(ContractModel):
    kind: Literal["path", "value", "list"]
    path: str | None = None
    """For kind path: relative to the volume's root, inside an attempt's folder."""
    value: Any = None
    """For kind value and list: the value. Elements of a list that are paths are relative to the volume's root."""
    sha256: str | None = None
    bytes: int | None = None
    rows: int | None = None


class ResultError(ContractModel):
    class_: Annotated[ErrorClass, Field(alias="class")]
    type: str
    """Exception or signal."""
    message: str
    """The hook's own last error, one sentence or a few lines."""


class RuntimeInfo(ContractModel):
    image: str | None = None
    versions: dict[str, str] = {}
    gpu_seconds: float = 0.0
    peak_memory_bytes: int | None = None
    wrapper_seconds: float | None = None
    """From the process's start to the hook's first line."""
    hook_seconds: float | None = None


class Result(ContractModel):
    version: int = RESULT_VERSION
    job: str
    attempt: int
    pod_uid: str
    contract: str
    """Digest of the job contract."""
    outcome: Literal["Succeeded", "Failed"]
    started_at: str
    finished_at: str
    cache_key: str = ""
    meta_name: str = ""
    """Its metrics begin with it; a refine job that shares it with its probe adds an infix."""
    message: str = ""
    """A sentence for people: what was done."""
    recovered: bool = False
    outputs: dict[str, Output] = {}
    metrics: dict[str, float] = {}
    """In the order of their importance: a cut keeps the first."""
    tables: list[str] = []
    error: ResultError | None = None
    runtime: RuntimeInfo = RuntimeInfo()
    inputs: dict[str, str] = {}
    """Digests of what was read, by target."""


class Message(ContractModel):
    """What the operator learns of a result without reading the volume."""

    version: int = RESULT_VERSION
    job: str
    attempt: int
    pod_uid: str
    contract: str
    path: str
    """result.json, relative to the volume's root."""
    sha256: str
    """Digest of result.json."""
    bytes: int
    outcome: Literal["Succeeded", "Failed"]
    started_at: str
    finished_at: str
    message: str = ""
    recovered: bool = False
    cache_key: str = ""
    error: ResultError | None = None
    outputs: dict[str, Any] = {}
    """Path, value or list by name."""
    metrics: dict[str, float] = {}
    truncated: bool = False


def message_of(result: Result, *, path: str, sha256: str, size: int) -> Message:
    """The message that stands for a result which lies at `path`."""
    return Message(
        job=result.job,
        attempt=result.attempt,
        pod_uid=result.pod_uid,
        contract=result.contract,
        path=path,
        sha256=sha256,
        bytes=size,
        outcome=result.outcome,
        started_at=result.started_at,
        finished_at=result.finished_at,
        message=plain_text(result.message, 300),
        recovered=result.recovered,
        cache_key=result.cache_key,
        error=result.error
        and result.error.model_copy(update={"message": plain_text(result.error.message, ERROR_BYTES)}),
        outputs={name: out.path if out.kind == "path" else out.value for name, out in result.outputs.items()},
        metrics=result.metrics,
    )


def encode_message(message: Message, *, needs: tuple[str, ...] = (), limit: int = MESSAGE_BYTES) -> str:
    """The message as text of at most `limit` bytes; metrics are cut from the end, then outputs that are long values.

    Metrics named in `needs` are kept to the last. Raises ValueError when even the bare result does not fit.
    """
    first = [name for name in needs if name in message.metrics]
    order = first + [name for name in message.metrics if name not in needs]
    text = _pack(message.model_copy(update={"metrics": {name: message.metrics[name] for name in order}}))
    if len(text) <= limit:
        return text
    short = {name: value for name, value in message.outputs.items() if len(canonical_json(value)) <= 512}
    if len(_pack(_cut(message, first))) > limit:
        message = message.model_copy(update={"outputs": short})
    low, high = len(first), len(order)
    while low < high:  # the most metrics that fit; size grows with their number
        middle = (low + high + 1) // 2
        if len(_pack(_cut(message, order[:middle]))) <= limit:
            low = middle
        else:
            high = middle - 1
    text = _pack(_cut(message, order[:low]))
    if len(text) > limit:
        raise ValueError(f"a result's message of {len(text)} bytes does not fit into {limit}")
    return text


def decode_message(text: str) -> Message | None:
    """The message in a termination message, or None when there is none (empty, cut, or somebody else's text)."""
    if not text.startswith(MESSAGE_PREFIX):
        return None
    try:
        inflater = zlib.decompressobj()
        body = inflater.decompress(base64.b64decode(text[len(MESSAGE_PREFIX) :], validate=True), 1 << 20)
        return Message.model_validate(json.loads(body))
    except (ValueError, zlib.error):
        return None


def plain_text(text: str, limit: int) -> str:
    """Text that is safe to show: no control characters, at most `limit` characters, the end kept (it says most)."""
    clean = "".join(c if c == "\n" or c.isprintable() else " " for c in text).strip()
    return clean if len(clean) <= limit else "... " + clean[-(limit - 4) :]


def _cut(message: Message, metrics: list[str]) -> Message:
    return message.model_copy(update={"metrics": {name: message.metrics[name] for name in metrics}, "truncated": True})


def _pack(message: Message) -> str:
    body = json.dumps(message.model_dump(mode="json", exclude_defaults=True), separators=(",", ":"), allow_nan=False)
    return MESSAGE_PREFIX + base64.b64encode(zlib.compress(body.encode(), 9)).decode()
