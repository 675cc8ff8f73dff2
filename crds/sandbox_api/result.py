# SPDX-License-Identifier: Apache-2.0
"""The result contract, pod -> operator: `result.json` on the volume, and the short message that names it.

The message is the container's termination message: compressed, at most `MESSAGE_BYTES` long, complete or absent. What
does not fit is cut by a fixed rule (metrics from the end, then outputs; what the operator needs last of all) and
`truncated` says so. Needs that are too long even alone are read in numbered `pieces`.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Sequence
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
LONG_VALUE = 512
"""Bytes from which a value among the outputs is cut before short ones are."""
PIECE_BYTES = 1800
"""Compressed bytes of a piece's own text: base64 and the rest of its message fit beside it."""
MAX_NOT_FINITE = 4
"""Names in a message: a sweep asks for one."""
MAX_PIECES = 32
"""More than the status could take. What needs more pieces is not offered."""

ABSENT = "-"
"""Among `externals`: there was no such file or folder."""
UNKNOWN = "?"
"""Among `externals`: it can't be told what was read, so the result is never used again."""

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
PEER_LOST = "PeerLost"
"""Type of the error of a pod that failed because another one of its job (`nodes`) had gone: not the cause."""


class Element(ContractModel):
    index: int
    sha256: str | None = None
    bytes: int
    rows: int | None = None
    published: str | None = None
    """As an output's."""


class Output(ContractModel):
    kind: Literal["path", "value", "list"]
    path: str | None = None
    """For kind path: relative to the volume's root, inside an attempt's folder."""
    value: Any = None
    """For kind value and list: the value. Elements of a list that are paths are relative to the volume's root."""
    sha256: str | None = None
    bytes: int | None = None
    rows: int | None = None
    published: str | None = None
    """The name its user gave it, where a link leads to it; relative to the experiment's folder."""
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
    rank: int = 0
    """Which of the pods that work as one (`nodes`) wrote it; the job's result is that of rank 0."""
    shard: int | None = None
    """The piece it is the result of (`shards`); of the whole job: none."""
    meta_name: str = ""
    """Its metrics begin with it; a refine job that shares it with its probe adds an infix."""
    message: str = ""
    """A sentence for people: what was done."""
    recovered: bool = False
    outputs: dict[str, Output] = {}
    metrics: dict[str, float] = {}
    """In the order of their importance: a cut keeps the first."""
    not_finite: list[str] = []
    """Metrics that were left out: JSON and a comparison can't hold what is no finite number."""
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
    rank: int = 0
    """As in the result."""
    shard: int | None = None
    """As in the result."""
    started_at: Timestamp
    finished_at: Timestamp
    message: str = ""
    recovered: bool = False
    cache_key: str = ""
    content: str = ""
    error: ResultError | None = None
    externals: int = 0
    """How many files and folders that no job made it depends on: with none, a cache hit needs no check."""
    outputs: dict[str, Any] = {}
    """Path, value or list by name."""
    metrics: dict[str, float] = {}
    not_finite: list[str] = []
    """As in the result, those that are needed."""
    truncated: bool = False
    pieces: int = 0
    """When needs were cut: in how many pieces a reader gives them; 0 with `truncated` and a need missing: too many."""
    piece: int = 0
    """Which of the pieces this is, from 1; it then has a `part` and neither outputs nor metrics."""
    part: str = ""
    """Text whose parts, joined in order, are JSON: `{"outputs": {...}, "metrics": {...}}` of what is needed."""


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
        rank=result.rank,
        shard=result.shard,
        started_at=result.started_at,
        finished_at=result.finished_at,
        message=plain_text(result.message, 300),
        recovered=result.recovered,
        cache_key=result.cache_key,
        content=result.content,
        externals=len(result.externals),
        error=result.error
        and result.error.model_copy(update={"message": plain_text(result.error.message, ERROR_BYTES)}),
        outputs={name: out.path if out.kind == "path" else out.value for name, out in result.outputs.items()},
        metrics=result.metrics,
        not_finite=result.not_finite,
    )


def encode_message(message: Message, *, needs: Sequence[str] = (), limit: int = MESSAGE_BYTES) -> str:
    """The message as text of at most `limit` bytes.

    What does not fit is cut: metrics from the end, then outputs that are long values, then outputs from the end. What
    `needs` names (outputs and metrics) is kept to the last; where it does not fit either, `pieces` says how to get it.
    Raises ValueError when even the bare result does not fit, or holds a number that is not finite.
    """
    few = [name for name in message.not_finite if name in needs][:MAX_NOT_FINITE]
    message = message.model_copy(update={"not_finite": few})
    first = [name for name in dict.fromkeys(needs) if name in message.metrics]
    metrics = first + [name for name in message.metrics if name not in needs]
    needed = [name for name in dict.fromkeys(needs) if name in message.outputs]
    others = [name for name in message.outputs if name not in needs]
    text = _pack(_kept(message, needed + others, metrics), limit)
    if text is not None:
        return text
    message = message.model_copy(update={"truncated": True})
    short = [name for name in others if len(canonical_json(message.outputs[name])) <= LONG_VALUE]
    for outputs in (needed + others, *(needed + kept for kept in _shorter(short))):
        if _pack(_kept(message, outputs, first), limit) is not None:
            return _with_metrics(message, outputs, metrics, len(first), limit)
    if needed or first:
        message = message.model_copy(update={"pieces": len(needed_parts(message, needs))})
    short = [name for name in needed + others if len(canonical_json(message.outputs[name])) <= LONG_VALUE]
    for outputs in _shorter(short):
        if _pack(_kept(message, outputs, []), limit) is not None:
            return _with_metrics(message, outputs, metrics, 0, limit)
    raise ValueError(f"the message of the result of {message.job} does not fit into {limit} bytes")


def needed_parts(message: Message, needs: Sequence[str]) -> list[str]:
    """What is needed of a whole message, as texts that each fit into a message of their own; joined they are JSON.

    Empty where it is more than `MAX_PIECES`, or than a message may hold before compression. They depend on nothing but
    the values: whoever computes them again gets the same.
    """
    body = {
        "outputs": {name: value for name, value in message.outputs.items() if name in needs},
        "metrics": {name: value for name, value in message.metrics.items() if name in needs},
    }
    left = canonical_json(body)
    if len(left) > BODY_BYTES:
        return []
    parts: list[str] = []
    while left and len(parts) <= MAX_PIECES:
        size = _piece_size(left)
        parts.append(left[:size])
        left = left[size:]
    return parts if not left else []


def encode_piece(message: Message, number: int, *, needs: Sequence[str]) -> str:
    """Piece `number`, from 1, of what is needed of a whole message. Raises ValueError when there is none."""
    parts = needed_parts(message, needs)
    if not 1 <= number <= len(parts):
        raise ValueError(f"there is no piece {number} of the result of {message.job}; at most {MAX_PIECES} are given")
    piece = {"outputs": {}, "metrics": {}, "not_finite": [], "message": "", "pieces": len(parts), "piece": number}
    text = _pack(message.model_copy(update={**piece, "truncated": True, "part": parts[number - 1]}), MESSAGE_BYTES)
    if text is None:
        raise ValueError(f"piece {number} of the result of {message.job} does not fit into {MESSAGE_BYTES} bytes")
    return text


def join_pieces(pieces: Sequence[Message]) -> tuple[dict[str, Any], dict[str, float]] | None:
    """Outputs and metrics that are needed, from all pieces in any order; None while one is missing or of another."""
    ordered = sorted(pieces, key=lambda message: message.piece)
    if not ordered or [message.piece for message in ordered] != list(range(1, ordered[0].pieces + 1)):
        return None
    if len({(message.sha256, message.contract, message.pieces) for message in ordered}) > 1:
        return None
    try:
        body = json.loads("".join(message.part for message in ordered), parse_int=_whole)
        return dict(body["outputs"]), {str(name): float(value) for name, value in body["metrics"].items()}
    except (ValueError, TypeError, KeyError):
        return None


def decode_message(text: str) -> Message | None:
    """The message in a termination message, or None when there is none: empty, cut, of another version or another's."""
    if not text.startswith(MESSAGE_PREFIX):
        return None
    try:
        inflater = zlib.decompressobj()
        packed = base64.b64decode(text[len(MESSAGE_PREFIX) :], validate=True)
        body = json.loads(inflater.decompress(packed, BODY_BYTES), parse_int=_whole)
        if not inflater.eof:  # cut, or longer than a message may be
            return None
        canonical_json(body).encode()  # a number or a character that JSON can't hold must not reach the status
        message = Message.model_validate(body)
    except (ValueError, RecursionError, zlib.error):
        return None
    return message if RESULT_VERSION - 1 <= message.version <= RESULT_VERSION else None


def _whole(text: str) -> int | float:
    """A whole number as the API server can keep it: one that 64 bits can't hold becomes a float, as there."""
    number = int(text)
    return number if -(2**63) <= number < 2**63 else float(text)


_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\n]{0,256}(?:\x07|\x1b\\))")
"""Terminals' own sequences: colours, movements, titles."""


def plain_text(text: str, limit: int) -> str:
    """Text that is safe to show: no control characters, at most `limit` characters, the end kept (it says most)."""
    clean = "".join(c if c == "\n" or c.isprintable() else " " for c in _ESCAPES.sub("", text)).strip()
    return clean if len(clean) <= limit else "... " + clean[-(limit - 4) :]


def _kept(message: Message, outputs: Sequence[str], metrics: Sequence[str]) -> Message:
    kept = {name: message.outputs[name] for name in outputs}
    return message.model_copy(update={"outputs": kept, "metrics": {name: message.metrics[name] for name in metrics}})


def _shorter(names: list[str]) -> list[list[str]]:
    """All of them, then ever fewer from the beginning."""
    return [names[:count] for count in range(len(names), -1, -1)]


def _with_metrics(message: Message, outputs: list[str], metrics: list[str], fewest: int, limit: int) -> str:
    """The message with these outputs and the most metrics that fit beside them; the first `fewest` do."""
    count = fewest
    highest = len(metrics)
    while count < highest:  # size grows with their number
        middle = (count + highest + 1) // 2
        if _pack(_kept(message, outputs, metrics[:middle]), limit) is not None:
            count = middle
        else:
            highest = middle - 1
    text = _pack(_kept(message, outputs, metrics[:count]), limit)
    if text is None:
        raise ValueError(f"the message of the result of {message.job} does not fit into {limit} bytes")
    return text


def _piece_size(text: str) -> int:
    """How many characters of the beginning fit into one piece."""
    size, highest = 1, min(len(text), BODY_BYTES)
    while size < highest:
        middle = (size + highest + 1) // 2
        body = json.dumps(text[:middle])
        if len(body) <= BODY_BYTES * 3 // 4 and len(zlib.compress(body.encode(), 9)) <= PIECE_BYTES:
            size = middle
        else:
            highest = middle - 1
    return size


def _pack(message: Message, limit: int) -> str | None:
    """The message as text, or None when it is too long."""
    said = {"version": message.version, **message.model_dump(mode="json", exclude_defaults=True)}
    body = json.dumps(said, separators=(",", ":"), allow_nan=False)
    if len(body) > BODY_BYTES:
        return None
    text = MESSAGE_PREFIX + base64.b64encode(zlib.compress(body.encode(), 9)).decode()
    return text if len(text) <= limit else None
