# SPDX-License-Identifier: Apache-2.0
"""Who sends a report: the token that the kubelet put into its pod, verified with the keys that the cluster publishes.

Offline: the API server is asked for its keys when one is unknown, at most twice a minute, and never about a token.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jwt

from sandbox_api.progress import PROGRESS_AUDIENCE

from ..kube.errors import ApiError

log = logging.getLogger(__name__)

KEYS_PATH = "/openid/v1/jwks"
ISSUER_PATH = "/.well-known/openid-configuration"
"""Every service account may read both (`system:service-account-issuer-discovery`)."""
ALGORITHMS = ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "EdDSA")
"""With a public key; which one it is hangs on the key, not on the token."""
LEEWAY = 30
"""Seconds by which two clocks may differ."""
FRESH = 3600.0
"""Seconds after which keys are read again: one may have been withdrawn."""
PAUSE = 30.0
"""Least seconds between two looks for keys, whatever tokens ask for."""
REMEMBERED = 20_000
"""Tokens that are known to be right: a pod tells with the same one for an hour, and verifying it is the greater part of
the work on a report."""


class TokenRefused(Exception):
    """Not a token that counts here; the message says why, in words for who sent it."""


class KeysUnavailable(Exception):
    """The cluster's keys can't be had, so that no token can be verified."""


@dataclass(frozen=True, slots=True)
class PodIdentity:
    """A pod, as a token that is bound to it says."""

    namespace: str
    name: str
    uid: str


@dataclass(frozen=True)
class Keys:
    """The cluster's public keys by their id, and who signs with them."""

    issuer: str
    by_id: Mapping[str, jwt.PyJWK]


def keys_of(configuration: Any, published: Any) -> Keys:
    """The keys in the two documents that the API server publishes. Raises KeysUnavailable."""
    try:
        issuer, found = str(configuration["issuer"]), jwt.PyJWKSet.from_dict(published)
    except (jwt.PyJWTError, KeyError, TypeError, ValueError) as error:
        raise KeysUnavailable(f"what the API server publishes at {KEYS_PATH} holds no keys: {error}") from error
    return Keys(issuer, {key.key_id: key for key in found.keys if key.key_id and key.algorithm_name in ALGORITHMS})


def key_id_of(token: str) -> str:
    """Which key a token says it was signed with. Raises TokenRefused."""
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, UnicodeError) as error:  # a header may hold any byte
        raise TokenRefused(f"the token can't be read: {error}") from error
    if header.get("alg") not in ALGORITHMS:
        raise TokenRefused(f"the token is signed by {header.get('alg')!r}, which counts for nothing here")
    if not isinstance(header.get("kid"), str):
        raise TokenRefused("the token names no key of this cluster")
    return str(header["kid"])


@lru_cache(REMEMBERED)
def identity_of(token: str, key: jwt.PyJWK, issuer: str) -> tuple[PodIdentity, float]:
    """The pod that a token is bound to, if all is right about it, and until when (seconds since 1970) it counts.

    Raises TokenRefused. Keys that were read anew are other objects, with which a token is verified again.
    """
    try:
        claims = jwt.decode(
            token,
            key.key,
            algorithms=[key.algorithm_name],
            audience=PROGRESS_AUDIENCE,
            issuer=issuer,
            leeway=LEEWAY,
            options={"require": ["exp", "iat", "iss", "aud"]},
        )
    except jwt.PyJWTError as error:
        raise TokenRefused(f"the token does not count: {str(error)[:1].lower()}{str(error)[1:]}") from error
    if claims["aud"] not in (PROGRESS_AUDIENCE, [PROGRESS_AUDIENCE]):
        raise TokenRefused(f"the token is for others too; its one audience must be {PROGRESS_AUDIENCE}")
    bound = claims.get("kubernetes.io")
    pod = bound.get("pod") if isinstance(bound, Mapping) else None
    try:
        identity = PodIdentity(str(bound["namespace"]), str(pod["name"]), str(pod["uid"]))  # type: ignore[index]
    except (KeyError, TypeError) as error:
        raise TokenRefused("the token is not bound to a pod; take the one that the kubelet projects") from error
    return identity, float(claims["exp"]) + LEEWAY


class TokenVerifier:
    """`get`: reads a path of the API server. `clock`: seconds, of this process alone."""

    def __init__(self, get: Callable[[str], Awaitable[Any]], clock: Callable[[], float] = time.monotonic) -> None:
        self._get = get
        self._clock = clock
        self._keys: Keys | None = None
        self._read_at = -math.inf
        """When keys were looked for last, whatever came of it."""
        self._trouble = ""
        self._reading = asyncio.Lock()

    async def verify(self, token: str) -> PodIdentity:
        """The pod that holds this token. Raises TokenRefused, KeysUnavailable."""
        key_id = key_id_of(token)
        if self._is_due(key_id):
            async with self._reading:
                if self._is_due(key_id):
                    await self._read()
        if self._keys is None:
            raise KeysUnavailable(f"the cluster's keys can't be read, so no token can be verified: {self._trouble}")
        if (key := self._keys.by_id.get(key_id)) is None:
            raise TokenRefused("the token is signed with a key that this cluster does not publish")
        identity, until = identity_of(token, key, self._keys.issuer)
        if time.time() >= until:
            raise TokenRefused("the token does not count: it has expired since it was verified")
        return identity

    def _is_due(self, key_id: str) -> bool:
        """Whether to look for keys: there are none, or not this one, or they are old; but never all the time."""
        is_known = self._keys is not None and key_id in self._keys.by_id
        return self._clock() - self._read_at >= (FRESH if is_known else PAUSE)

    async def _read(self) -> None:
        self._read_at = self._clock()
        try:
            self._keys = keys_of(await self._get(ISSUER_PATH), await self._get(KEYS_PATH))
            self._trouble = ""
        except (ApiError, KeysUnavailable) as error:
            if str(error) != self._trouble:
                log.warning("pods' tokens are verified with the keys that were read before, if any: %s", error)
            self._trouble = str(error)
