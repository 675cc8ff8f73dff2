# SPDX-License-Identifier: Apache-2.0
"""The message of a result: what is written can be read, what does not fit is cut by the rule, and nothing crashes it."""

import base64
import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox_api.result import (
    BODY_BYTES,
    ERROR_BYTES,
    MAX_PIECES,
    MESSAGE_BYTES,
    MESSAGE_PREFIX,
    Message,
    Output,
    Result,
    ResultError,
    decode_message,
    encode_message,
    encode_piece,
    join_pieces,
    message_of,
    plain_text,
)


def a_message(**more: Any) -> Message:
    fields: dict[str, Any] = {
        "job": "anonymous/1/probe/0", "attempt": 1, "pod_uid": "pod", "contract": "c" * 64, "path": "a/result.json",
        "sha256": "5" * 64, "bytes": 100, "outcome": "Succeeded", "started_at": "2026-01-31T12:00:00.123Z",
        "finished_at": "2026-01-31T12:00:05Z",
    }  # fmt: skip
    return Message(**(fields | more))


def packed(body: str | bytes) -> str:
    data = body if isinstance(body, bytes) else body.encode()
    return MESSAGE_PREFIX + base64.b64encode(zlib.compress(data, 9)).decode()


def read(text: str) -> Message:
    message = decode_message(text)
    assert message is not None
    return message


# What is written can be read


def test_a_message_comes_back_as_it_was() -> None:
    error = ResultError(class_="User", type="ValueError", message="column 'text' is missing\nin row 5")
    message = a_message(
        outcome="Failed", error=error, outputs={"a": "x/y", "n": 1.5, "l": [1, "b"]}, metrics={"m": 0.1}
    )

    assert read(encode_message(message)) == message


def test_a_writer_of_the_version_before_is_read_and_a_newer_one_is_not() -> None:
    assert read(encode_message(a_message(version=0))).version == 0
    assert decode_message(encode_message(a_message(version=2))) is None


def test_what_a_newer_writer_adds_is_ignored() -> None:
    body = json.loads(zlib.decompress(base64.b64decode(encode_message(a_message())[len(MESSAGE_PREFIX) :])))

    assert read(packed(json.dumps({**body, "mood": "good"}))) == a_message()


def test_the_message_of_a_result_says_what_the_controller_needs() -> None:
    result = Result(
        job="j", attempt=2, pod_uid="p", contract="c", outcome="Succeeded", started_at="2026-01-31T12:00:00Z",
        finished_at="2026-01-31T12:00:05Z", message="x" * 500, metrics={"m": 1.0},
        outputs={"file": Output(kind="path", path="a/b"), "n": Output(kind="value", value=3),
                 "l": Output(kind="list", value=["a/c"])},
    )  # fmt: skip
    message = message_of(result, path="r.json", sha256="5", size=9)

    assert (message.job, message.attempt, message.path, message.bytes) == ("j", 2, "r.json", 9)
    assert message.outputs == {"file": "a/b", "n": 3, "l": ["a/c"]}
    assert len(message.message) == 300


def test_an_errors_words_are_kept_from_the_end_and_made_safe_to_show() -> None:
    error = ResultError(class_="User", type="E", message="\x1b[31m" + "x" * 2000 + " the cause")
    result = Result(
        job="j", attempt=1, pod_uid="p", contract="c", outcome="Failed", error=error,
        started_at="2026-01-31T12:00:00Z", finished_at="2026-01-31T12:00:05Z",
    )  # fmt: skip
    told = message_of(result, path="r", sha256="", size=0).error

    assert told is not None
    assert len(told.message) == ERROR_BYTES
    assert told.message.startswith("... ")
    assert told.message.endswith(" the cause")


# What does not fit is cut by the rule


def many_metrics(number: int) -> dict[str, float]:
    return {f"probe.statistic_{n * 7919 % 104729}.mean": n / 7 for n in range(number)}


def test_metrics_are_cut_from_the_end() -> None:
    metrics = many_metrics(2000)
    told = read(encode_message(a_message(metrics=metrics, outputs={"file": "a/b"})))

    assert told.truncated
    assert told.outputs == {"file": "a/b"}
    assert 50 < len(told.metrics) < 2000
    assert list(told.metrics.items()) == list(metrics.items())[: len(told.metrics)]


def test_metrics_that_are_needed_come_first_and_stay() -> None:
    metrics = many_metrics(2000)
    last = list(metrics)[-3:]
    told = read(encode_message(a_message(metrics=metrics), needs=(*reversed(last), "absent", last[0])))

    assert list(told.metrics)[:3] == list(reversed(last))
    assert list(told.metrics)[3] == next(iter(metrics))


def test_outputs_that_are_needed_stay_before_metrics_and_other_outputs() -> None:
    """A list that a forEach fans out over."""
    pools = [f"experiments/demo-1f2e3d4c/jobs/split/1/execution/0/attempts/1/abcdef01/out/{n}" for n in range(200)]
    others = {f"other{n}": f"{n * 7919 % 104729:x}" * 12 for n in range(60)}
    metrics = many_metrics(500)
    message = a_message(outputs={**others, "pools": pools}, metrics=metrics)

    told = read(encode_message(message, needs=("pools", list(metrics)[-1])))

    assert told.truncated
    assert told.pieces == 0
    assert next(iter(told.outputs)) == "pools"
    assert told.outputs["pools"] == pools
    assert next(iter(told.metrics)) == list(metrics)[-1]


def test_what_is_needed_and_does_not_fit_comes_in_pieces() -> None:
    words = [f"{n * 7919 % 104729:x}é" for n in range(1500)]
    message = a_message(outputs={"file": "a/b", "list": words}, metrics={"m": 0.1, "n": 2.0})
    needs = ("m", "list", "absent")

    told = read(encode_message(message, needs=needs))
    assert told.truncated
    assert told.outputs == {"file": "a/b"}
    assert told.metrics == {"m": 0.1, "n": 2.0}
    assert 1 < told.pieces < MAX_PIECES

    texts = [encode_piece(message, number + 1, needs=needs) for number in range(told.pieces)]
    assert max(map(len, texts)) <= MESSAGE_BYTES
    pieces = [read(text) for text in texts]
    assert join_pieces(pieces[::-1]) == ({"list": words}, {"m": 0.1})
    assert texts == [encode_piece(message, number + 1, needs=needs) for number in range(told.pieces)]


def test_pieces_that_are_not_all_of_one_result_are_no_whole() -> None:
    message = a_message(outputs={"list": [f"{n * 7919 % 104729:x}" for n in range(1500)]})
    first, *rest = (read(encode_piece(message, number, needs=["list"])) for number in (1, 2, 3))

    assert join_pieces([]) is None
    assert join_pieces([first]) is None
    assert join_pieces([first, first, *rest]) is None
    assert join_pieces([first, *(piece.model_copy(update={"sha256": "6" * 64}) for piece in rest)]) is None
    assert join_pieces([first.model_copy(update={"part": "{"}), *rest]) is None


def test_what_is_longer_than_the_status_may_be_is_not_offered() -> None:
    message = a_message(outputs={"list": [f"{n * 104723 % 999983:x}" for n in range(60_000)]})

    told = read(encode_message(message, needs=["list"]))

    assert told.truncated
    assert told.pieces == 0
    assert told.outputs == {}
    with pytest.raises(ValueError, match="at most 32"):
        encode_piece(message, 1, needs=["list"])


def test_no_more_is_cut_than_must_be() -> None:
    metrics = many_metrics(2000)
    kept = len(read(encode_message(a_message(metrics=metrics))).metrics)
    one_more = a_message(metrics=dict(list(metrics.items())[: kept + 2]), truncated=True)

    assert read(encode_message(one_more)).metrics != one_more.metrics


def test_a_long_list_goes_before_the_result_does() -> None:
    words = [f"{n * 7919 % 104729:x}" for n in range(4000)]
    told = read(encode_message(a_message(outputs={"file": "a/b", "list": words}, metrics={"m": 1.0})))

    assert told.truncated
    assert told.outputs == {"file": "a/b"}
    assert told.metrics == {"m": 1.0}


def test_what_compresses_well_is_cut_too_before_it_fills_the_status() -> None:
    """A reader inflates no more than it is sure to hold."""
    metrics = {f"probe.m{n:06d}": 0.0 for n in range(20_000)}
    told = read(encode_message(a_message(metrics=metrics, outputs={"text": "a" * 10**6, "file": "a/b"})))

    assert told.outputs == {"file": "a/b"}
    assert 0 < len(told.metrics) < 20_000


def test_a_bare_result_that_does_not_fit_is_an_error_and_not_half_a_message() -> None:
    with pytest.raises(ValueError, match="does not fit into 100 bytes"):
        encode_message(a_message(), limit=100)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_none_is_an_error(number: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        encode_message(a_message(metrics={"m": number}))


numbers = st.floats(allow_nan=False, allow_infinity=False)
names = st.text(max_size=60)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | numbers | st.text(max_size=80),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(names, inner, max_size=5),
    max_leaves=60,
)
errors = st.none() | st.builds(
    ResultError, class_=st.sampled_from(["User", "Config", "Infra"]), type=names, message=st.text(max_size=ERROR_BYTES)
)


@given(
    metrics=st.dictionaries(names, numbers, max_size=200),
    outputs=st.dictionaries(names, values, max_size=12),
    error=errors,
    words=st.text(max_size=300),
    needs=st.lists(names, max_size=3),
    needed_output=st.booleans(),
)
def test_any_message_fits_or_is_an_error_and_comes_back_up_to_the_cut(
    metrics: dict[str, float],
    outputs: dict[str, Any],
    error: ResultError | None,
    words: str,
    needs: list[str],
    needed_output: bool,
) -> None:
    message = a_message(metrics=metrics, outputs=outputs, error=error, message=words)
    needed = (*needs, *list(metrics)[-2:], *list(outputs)[-1 if needed_output else len(outputs) :])
    try:
        text = encode_message(message, needs=needed)
    except ValueError:
        return
    assert len(text.encode()) <= MESSAGE_BYTES
    told = read(text)
    if told.pieces:  # it can't be told in one message: then whole and in pieces
        pieces = [read(encode_piece(message, number + 1, needs=needed)) for number in range(told.pieces)]
        expected = [{name: value for name, value in part.items() if name in needed} for part in (outputs, metrics)]
        assert join_pieces(pieces) == tuple(expected)
    else:
        assert set(told.metrics) >= set(needed) & set(metrics)
        assert set(told.outputs) >= set(needed) & set(outputs)
    assert told.metrics.items() <= metrics.items()
    assert all(told.outputs[name] == outputs[name] for name in told.outputs)
    bare = {"metrics": {}, "outputs": {}, "truncated": False, "pieces": 0}
    assert told.model_copy(update=bare) == message.model_copy(update=bare)
    if not told.truncated:
        assert told == message


# Nothing crashes the reader


@given(st.text() | st.binary().map(lambda body: MESSAGE_PREFIX + base64.b64encode(body).decode()))
def test_arbitrary_text_is_no_message(text: str) -> None:
    assert decode_message(text) is None


@given(values)
def test_arbitrary_json_is_no_message(value: Any) -> None:
    assert decode_message(packed(json.dumps(value))) is None


def test_a_message_that_was_cut_is_no_message() -> None:
    text = encode_message(a_message(metrics=many_metrics(20)))

    assert all(decode_message(text[:end]) is None for end in range(len(text)))


HOSTILE = {
    "deep": "[" * 60_000,
    "deep outputs": '{"outputs": {"a": ' + "[" * 5000 + "]" * 5000 + "}}",
    "endless": b"0" * 200_000_000,
    "infinite": json.dumps({"metrics": {"m": float("inf")}}),
    "too great": '{"metrics": {"m": 1e999}}',
    "no number": '{"outputs": {"a": NaN}}',
    "half a character": '{"message": "\\ud800"}',
    "half a character in an output": '{"outputs": {"a": "\\ud800"}}',
    "no time": '{"startedAt": "yesterday"}',
    "time without a zone": '{"startedAt": "2026-01-31T12:00:00"}',
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_message_is_no_message(case: str) -> None:
    body = HOSTILE[case]
    if isinstance(body, str) and body.startswith("{"):  # all else in it is as it should be
        good = json.dumps(a_message().model_dump(mode="json"))
        body = good[:-1] + ", " + body[1:]

    assert decode_message(packed(body)) is None


def test_nothing_is_inflated_beyond_what_a_message_may_hold() -> None:
    good = a_message(message="x" * (BODY_BYTES + 1))

    assert decode_message(packed(json.dumps(good.model_dump(mode="json")))) is None


@pytest.mark.parametrize(
    ("text", "limit", "shown"),
    [
        ("plain", 10, "plain"),
        ("  padded \n", 10, "padded"),
        ("a\x00b\x1bc", 10, "a b c"),
        ("\x1b[1;31mred\x1b[0m \x1b]0;title\x07x", 10, "red x"),
        ("\x1b]0;never closed", 20, "]0;never closed"),
        ("two\nlines", 20, "two\nlines"),
        ("0123456789", 10, "0123456789"),
        ("0123456789x", 10, "... 56789x"),
    ],
)
def test_plain_text_is_safe_to_show(text: str, limit: int, shown: str) -> None:
    assert plain_text(text, limit) == shown
