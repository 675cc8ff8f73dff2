# SPDX-License-Identifier: Apache-2.0
"""A cluster's signing keys, and tokens like those that it projects into pods, right ones and wrong ones."""

from __future__ import annotations

import json
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from sandbox_api.progress import PROGRESS_AUDIENCE

ISSUER = "https://kubernetes.default.svc"


class Signer:
    """One key of a cluster."""

    def __init__(self, key_id: str, algorithm: str = "RS256") -> None:
        self.key_id, self.algorithm = key_id, algorithm
        self._key: Any = (
            rsa.generate_private_key(65537, 2048) if algorithm == "RS256" else ec.generate_private_key(ec.SECP256R1())
        )

    @property
    def published(self) -> dict[str, Any]:
        kind: Any = RSAAlgorithm if self.algorithm == "RS256" else ECAlgorithm
        found = json.loads(kind.to_jwk(self._key.public_key()))
        return {**found, "kid": self.key_id, "alg": self.algorithm, "use": "sig", "key_ops": ["verify"]}

    def token(self, *, pod: dict[str, str] | None = None, kid: str | None = None, **claims: Any) -> str:
        """As the API server makes it; `claims` replaces some, and None leaves one out."""
        now = int(time.time())
        pod = pod if pod is not None else {"name": "a-pod", "uid": "pod-uid"}
        body = {
            "aud": [PROGRESS_AUDIENCE],
            "exp": now + 3600,
            "iat": now,
            "nbf": now,
            "iss": ISSUER,
            "sub": "system:serviceaccount:lab:default",
            "kubernetes.io": {"namespace": "lab", "pod": pod, "serviceaccount": {"name": "default", "uid": "1"}},
            **claims,
        }
        body = {name: value for name, value in body.items() if value is not None}
        return jwt.encode(body, self._key, algorithm=self.algorithm, headers={"kid": kid or self.key_id})


class PublishedKeys:
    """What the API server answers, and how often it was asked."""

    def __init__(self, *signers: Signer) -> None:
        self.signers = list(signers)
        self.asked = 0
        self.error: Exception | None = None

    async def get(self, path: str) -> Any:
        if self.error is not None:
            raise self.error
        if path == "/.well-known/openid-configuration":
            return {"issuer": ISSUER, "jwks_uri": "https://10.0.0.1:6443/openid/v1/jwks"}
        assert path == "/openid/v1/jwks", path
        self.asked += 1
        return {"keys": [signer.published for signer in self.signers]}
