# SPDX-License-Identifier: Apache-2.0
"""Numbers that a hook may give and the API server can't keep: none of them may reach a status as they are."""

import base64
import json
import zlib
from typing import Any

import pytest
from tests.unit.builders import Play, a_message, a_spec

from sandbox_api.result import MESSAGE_PREFIX, Message, decode_message, encode_piece, join_pieces


def a_text(**changes: Any) -> str:
    """A message as a program of somebody else may write it."""
    play = Play(a_spec())
    play.step()
    body = a_message(*play.newest).model_dump(mode="json") | changes
    return MESSAGE_PREFIX + base64.b64encode(zlib.compress(json.dumps(body).encode())).decode()


@pytest.mark.parametrize(("given", "kept"), [(2**63 - 1, 2**63 - 1), (2**63, 2.0**63), (-(2**70), -(2.0**70))])
def test_a_whole_number_that_64_bits_cannot_hold_is_a_float(given: int, kept: float) -> None:
    message = decode_message(a_text(outputs={"n": given, "deep": [{"n": given}]}))
    assert message is not None
    assert message.outputs == {"n": kept, "deep": [{"n": kept}]}
    assert type(message.outputs["n"]) is type(kept)


@pytest.mark.parametrize("given", [10**400, float("nan"), float("-inf"), "\ud800"])
def test_what_no_json_can_hold_makes_it_no_message(given: Any) -> None:
    assert decode_message(a_text(outputs={"n": given})) is None


def test_so_it_is_with_what_comes_in_pieces() -> None:
    whole = decode_message(a_text(outputs={"n": 1}))
    assert whole is not None
    whole = whole.model_copy(update={"outputs": {"n": [2**65, 7]}})
    piece = decode_message(encode_piece(whole, 1, needs=["n"]))
    assert isinstance(piece, Message)
    assert join_pieces([piece]) == ({"n": [2.0**65, 7]}, {})
