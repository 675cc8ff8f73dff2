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

from .base import ContractModel, Timestamp
from .digest import canonical_json

RESULT_VERSION = 1
MESSAGE_PREFIX = "sandbox1:"
MESSAGE_BYTES = 3584
BODY_BYTES = 64 * 1024
"""Most that a message may hold before compression: what it says goes into `.status`, which has limits of its own."""
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


class Element(ContractModel):
    index: int
    sha256: str | None = None
    bytes: int


class Output(ContractModel):
    kind: Literal["path", "value", "list"]
    path: str | None = None
    """For kind path: relative to the volume's root, inside an attempt's folder."""
    value: Any = None
    """For kind value and list: the value. Elements of a list that are paths are relative to the volume's root."""
    sha256: str | None = None
    bytes: int | None = None
    rows: int | None = None
    elements: list[Element] | None = None
    """For kind list: digests of the elements that are paths, by their place in `value`."""


class ResultError(ContractModel):
    class_: Annotated[ErrorClass, Field(alias="class")]
    type: str
    """Exception or signal."""
    message: str
    """The hook's own last error, one sentence or a few lines."""
    job: str | None = None
    """For class Input: id of the job whose result is missing or was changed."""


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
    started_at: Timestamp
    finished_at: Timestamp
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
    externals: dict[str, str] = {}
    """Digests of files and folders that no job made, by their path in the configuration; `-` for what was absent."""
    content: str = ""
    """Digest of the outputs alone: equal for two runs that gave the same."""


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
    started_at: Timestamp
    finished_at: Timestamp
    message: str = ""
    recovered: bool = False
    cache_key: str = ""
    content: str = ""
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
        content=result.content,
        error=result.error
        and result.error.model_copy(update={"message": plain_text(result.error.message, ERROR_BYTES)}),
        outputs={name: out.path if out.kind == "path" else out.value for name, out in result.outputs.items()},
        metrics=result.metrics,
    )


def encode_message(message: Message, *, needs: tuple[str, ...] = (), limit: int = MESSAGE_BYTES) -> str:
    """The message as text of at most `limit` bytes; metrics are cut from the end, then outputs that are long values.

    Metrics named in `needs` are kept to the last. Raises ValueError when even the bare result does not fit, or holds a
    number that is not finite.
    """
    first = [name for name in dict.fromkeys(needs) if name in message.metrics]
    order = first + [name for name in message.metrics if name not in needs]
    text = _pack(message.model_copy(update={"metrics": {name: message.metrics[name] for name in order}}), limit)
    if text is not None:
        return text
    if _pack(_cut(message, first), limit) is None:
        short = {name: value for name, value in message.outputs.items() if len(canonical_json(value)) <= 512}
        message = message.model_copy(update={"outputs": short})
    low, high = len(first), len(order)
    while low < high:  # the most metrics that fit; size grows with their number
        middle = (low + high + 1) // 2
        if _pack(_cut(message, order[:middle]), limit) is not None:
            low = middle
        else:
            high = middle - 1
    text = _pack(_cut(message, order[:low]), limit)
    if text is None:
        raise ValueError(f"the message of the result of {message.job} does not fit into {limit} bytes")
    return text


def decode_message(text: str) -> Message | None:
    """The message in a termination message, or None when there is none: empty, cut, of another version or another's."""
    if not text.startswith(MESSAGE_PREFIX):
        return None
    try:
        inflater = zlib.decompressobj()
        packed = base64.b64decode(text[len(MESSAGE_PREFIX) :], validate=True)
        body = json.loads(inflater.decompress(packed, BODY_BYTES))
        if not inflater.eof:  # cut, or longer than a message may be
            return None
        canonical_json(body).encode()  # a number or a character that JSON can't hold must not reach the status
        message = Message.model_validate(body)
    except (ValueError, RecursionError, zlib.error):
        return None
    return message if RESULT_VERSION - 1 <= message.version <= RESULT_VERSION else None


def plain_text(text: str, limit: int) -> str:
    """Text that is safe to show: no control characters, at most `limit` characters, the end kept (it says most)."""
    clean = "".join(c if c == "\n" or c.isprintable() else " " for c in text).strip()
    return clean if len(clean) <= limit else "... " + clean[-(limit - 4) :]


def _cut(message: Message, metrics: list[str]) -> Message:
    return message.model_copy(update={"metrics": {name: message.metrics[name] for name in metrics}, "truncated": True})


def _pack(message: Message, limit: int) -> str | None:
    """The message as text, or None when it is too long."""
    said = {"version": message.version, **message.model_dump(mode="json", exclude_defaults=True)}
    body = json.dumps(said, separators=(",", ":"), allow_nan=False)
    if len(body) > BODY_BYTES:
        return None
    text = MESSAGE_PREFIX + base64.b64encode(zlib.compress(body.encode(), 9)).decode()
    return text if len(text) <= limit else None
