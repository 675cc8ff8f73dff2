# SPDX-License-Identifier: Apache-2.0
"""Which tokens say who a pod is: real signatures, by keys of this cluster and of others."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from tests.unit.tokens import PublishedKeys, Signer

from sandbox_api.progress import PROGRESS_AUDIENCE
from sandbox_operator.kube.errors import Forbidden
from sandbox_operator.reconcile.tokens import (
    FRESH,
    LEEWAY,
    PAUSE,
    KeysUnavailable,
    PodIdentity,
    TokenRefused,
    TokenVerifier,
)

OURS = Signer("one")
CURVED = Signer("two", "ES256")
STRANGER = Signer("one")
"""With another key of the same name."""
POD = PodIdentity("lab", "a-pod", "pod-uid")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys() -> PublishedKeys:
    return PublishedKeys(OURS, CURVED)


@pytest.fixture
def verifier(keys: PublishedKeys, clock: Clock) -> TokenVerifier:
    return TokenVerifier(keys.get, clock)


@pytest.mark.parametrize("signer", [OURS, CURVED])
async def test_a_projected_token_says_which_pod_holds_it(verifier: TokenVerifier, signer: Signer) -> None:
    assert await verifier.verify(signer.token()) == POD


def unsigned() -> str:
    """`alg: none`, with the body of a right one."""
    header = base64.urlsafe_b64encode(json.dumps({"alg": "none", "kid": "one"}).encode()).rstrip(b"=").decode()
    return f"{header}.{OURS.token().split('.')[1]}."


def signed_with_the_public_key() -> str:
    """HMAC with what everybody knows."""
    claims = jwt.decode(OURS.token(), options={"verify_signature": False})
    return jwt.encode(claims, OURS.published["n"], algorithm="HS256", headers={"kid": "one"})


def changed() -> str:
    head, body, signature = OURS.token().split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    claims["kubernetes.io"]["pod"]["uid"] = "another"
    return ".".join([head, base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode(), signature])


def bound_to_no_pod() -> str:
    return OURS.token(**{"kubernetes.io": {"namespace": "lab", "serviceaccount": {"name": "default", "uid": "1"}}})


@pytest.mark.parametrize(
    ("token", "why"),
    [
        (lambda: OURS.token(aud=["https://kubernetes.default.svc"]), "audience"),
        (lambda: OURS.token(aud=[PROGRESS_AUDIENCE, "https://kubernetes.default.svc"]), "for others too"),
        (lambda: OURS.token(aud=None), 'missing the "aud" claim'),
        (lambda: OURS.token(exp=int(time.time()) - 60), "expired"),
        (lambda: OURS.token(exp=None), 'missing the "exp" claim'),
        (lambda: OURS.token(nbf=int(time.time()) + 600), "not yet valid"),
        (lambda: OURS.token(iss="https://other.example"), "invalid issuer"),
        (lambda: OURS.token(kid="unknown"), "a key that this cluster does not publish"),
        (lambda: OURS.token(kid="two"), "does not count"),
        (lambda: STRANGER.token(), "signature verification failed"),
        (changed, "signature verification failed"),
        (unsigned, "'none'"),
        (signed_with_the_public_key, "'HS256'"),
        (bound_to_no_pod, "not bound to a pod"),
        (lambda: OURS.token(pod={"name": "a-pod"}), "not bound to a pod"),
        (lambda: "x.y.z", "can't be read"),
        (lambda: "", "can't be read"),
    ],
)
async def test_any_other_token_is_refused_with_the_reason(
    verifier: TokenVerifier, token: Callable[[], str], why: str
) -> None:
    with pytest.raises(TokenRefused, match=why):
        await verifier.verify(token())
    assert await verifier.verify(OURS.token()) == POD, "and a right one counts all the same"


async def test_the_api_server_is_asked_once_and_for_an_unknown_key_at_a_bounded_rate(
    verifier: TokenVerifier, keys: PublishedKeys, clock: Clock
) -> None:
    for _ in range(50):
        await verifier.verify(OURS.token())
    assert keys.asked == 1
    rotated = Signer("three")
    keys.signers = [rotated, OURS]
    for number in range(50):
        with pytest.raises(TokenRefused):
            await verifier.verify(rotated.token(kid=f"made up {number}"))
    assert keys.asked == 1, "too soon after the last look"
    clock.now += PAUSE
    assert await verifier.verify(rotated.token()) == POD, "the cluster signs with a new key"
    assert keys.asked == 2


async def test_a_key_that_was_withdrawn_stops_counting(
    verifier: TokenVerifier, keys: PublishedKeys, clock: Clock
) -> None:
    await verifier.verify(OURS.token())
    keys.signers = [CURVED]
    clock.now += FRESH
    with pytest.raises(TokenRefused, match="does not publish"):
        await verifier.verify(OURS.token())


async def test_a_token_that_was_right_counts_until_it_expires(verifier: TokenVerifier) -> None:
    expires = int(time.time()) + 1
    token = OURS.token(exp=expires - LEEWAY)
    assert await verifier.verify(token) == POD
    assert await verifier.verify(token) == POD
    await asyncio.sleep(expires - time.time() + 0.01)
    with pytest.raises(TokenRefused, match="expired"):
        await verifier.verify(token)


async def test_a_right_token_is_verified_once_and_any_change_of_it_is_refused(
    verifier: TokenVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified: list[str] = []
    decode = jwt.decode
    monkeypatch.setattr(
        jwt, "decode", lambda token, *args, **more: verified.append(token) or decode(token, *args, **more)
    )
    token = OURS.token()
    assert [await verifier.verify(token) for _ in range(10)] == [POD] * 10
    assert verified == [token]
    head, body, signature = token.split(".")
    for wrong in (f"{head}.{body}.{signature[1:]}", f"{head}.{body}.", f"{token}\udcff"):
        with pytest.raises(TokenRefused):
            await verifier.verify(wrong)


async def test_what_is_told_while_keys_are_read_anew_does_not_outlive_the_old_ones(
    keys: PublishedKeys, clock: Clock
) -> None:
    is_read, may_answer = asyncio.Event(), asyncio.Event()
    may_answer.set()

    async def get(path: str) -> Any:
        is_read.set()
        await may_answer.wait()
        return await keys.get(path)

    verifier, token = TokenVerifier(get, clock), OURS.token()
    assert await verifier.verify(CURVED.token()) == POD
    keys.signers = [CURVED]
    clock.now += FRESH
    is_read.clear()
    may_answer.clear()
    reader = asyncio.create_task(verifier.verify(CURVED.token()))
    await is_read.wait()
    assert await verifier.verify(token) == POD, "the old keys count until there are new ones"
    may_answer.set()
    await reader
    with pytest.raises(TokenRefused, match="does not publish"):
        await verifier.verify(token)


async def test_without_keys_nobody_is_believed_and_the_reason_is_told(
    verifier: TokenVerifier, keys: PublishedKeys, clock: Clock
) -> None:
    keys.error = Forbidden("no right to read /openid/v1/jwks", status=403, reason="Forbidden")
    with pytest.raises(KeysUnavailable, match="no right to read"):
        await verifier.verify(OURS.token())
    keys.error = None
    clock.now += PAUSE
    assert await verifier.verify(OURS.token()) == POD
    keys.error = Forbidden("no right any more", status=403, reason="Forbidden")
    clock.now += FRESH
    assert await verifier.verify(OURS.token()) == POD, "those that were read before still count"


async def test_what_is_no_list_of_keys_is_told(clock: Clock) -> None:
    async def html(_: str) -> str:
        return "<html>"

    with pytest.raises(KeysUnavailable, match="holds no keys"):
        await TokenVerifier(html, clock).verify(OURS.token())
