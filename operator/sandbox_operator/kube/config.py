# SPDX-License-Identifier: Apache-2.0
"""Where the API server is and who we are to it: from the pod's service account, or from a kubeconfig.

It speaks to nobody. The kubeconfig is read by the `kubernetes` package (exec plugins, cloud logins), imported
only then: the image of a process that always runs in a pod does without it, and without its 20 MiB of memory.
"""

import asyncio
import os
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TOKEN_LIFE = 60.0
"""Seconds after which a token is read again, as in client-go; the kubelet replaces it before it expires."""


class ConfigError(Exception):
    """There is no usable way to the API server; the sentence says what is missing and where to put it."""


class Credential:
    """The `Authorization` header, read anew when it is `TOKEN_LIFE` old or when the server answered 401.

    `read` gives the header's value, or None for an anonymous request; it may block (a file, an exec plugin)
    and runs in a thread.
    """

    def __init__(self, read: Callable[[], str | None]) -> None:
        self._read = read
        self._value: str | None = None
        self._read_at: float | None = None
        self._lock = asyncio.Lock()

    async def header(self, *, after: float | None = None) -> tuple[str | None, float]:
        """The header's value, and when it was read (monotonic, seconds): later than `after` if given."""
        oldest = time.monotonic() - TOKEN_LIFE if after is None else after
        async with self._lock:
            if self._read_at is None or self._read_at <= oldest:
                self._value = await asyncio.to_thread(self._read)
                self._read_at = time.monotonic()
            return self._value, self._read_at

    async def __call__(self, request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        """aiohttp's client middleware: sign the request, and once more with a newer token after a 401."""
        value, read_at = await self.header()
        if value is not None:
            request.headers["Authorization"] = value
        response = await send(request)
        if response.status == 401:
            newer, _ = await self.header(after=read_at)
            if newer is not None and newer != value:
                response.release()
                request.headers["Authorization"] = newer
                response = await send(request)
        return response


@dataclass(frozen=True)
class Connection:
    """One API server as one user.

    `server` is its address without a slash at the end; `namespace` is the one meant where none is named.
    """

    server: str
    namespace: str = "default"
    tls: ssl.SSLContext | None = None
    credential: Credential | None = None
    proxy: str | None = None

    def session(self, **options: Any) -> aiohttp.ClientSession:
        """A new HTTP session with these certificates and this credential; the caller closes it."""
        # A proxy from the environment never applies to this machine itself: Go's rule, so kubectl's.
        loopback = urlsplit(self.server).hostname in {"localhost", "127.0.0.1", "::1"}
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self.tls if self.tls is not None else True, limit=0),
            middlewares=() if self.credential is None else (self.credential,),
            proxy=self.proxy,
            trust_env=not loopback,
            **options,
        )


def connect(*, kubeconfig: str | None = None, context: str | None = None) -> Connection:
    """The kubeconfig that is named; else the pod's own service account where there is one; else the usual
    kubeconfig.

    Raises ConfigError.
    """
    if (
        kubeconfig is None
        and context is None
        and os.environ.get("KUBERNETES_SERVICE_HOST")
        and SERVICE_ACCOUNT.exists()
    ):
        return in_cluster(SERVICE_ACCOUNT)
    return from_kubeconfig(kubeconfig, context)


def in_cluster(account: Path = SERVICE_ACCOUNT) -> Connection:
    """The API server that runs this pod, as the pod's service account.

    Raises ConfigError outside a pod, and in one without a mounted token.
    """
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise ConfigError("KUBERNETES_SERVICE_HOST is not set: this process does not run in a pod; use a kubeconfig")
    token, authority, namespace = account / "token", account / "ca.crt", account / "namespace"
    for file in (token, authority):
        if not file.is_file():
            raise ConfigError(
                f"{file} is missing: mount the service account's token (automountServiceAccountToken: true)"
            )
    return Connection(
        server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
        namespace=namespace.read_text().strip() if namespace.is_file() else "default",
        tls=_tls(authority=str(authority)),
        credential=Credential(lambda: f"Bearer {token.read_text().strip()}"),
    )


def from_kubeconfig(path: str | None = None, context: str | None = None) -> Connection:
    """What kubectl would use with `--kubeconfig PATH --context CONTEXT`; by default $KUBECONFIG, then
    ~/.kube/config.

    Runs the user's exec plugin if there is one, so it may block for seconds. Raises ConfigError.
    """
    try:
        from kubernetes.client import Configuration
        from kubernetes.config import ConfigException, list_kube_config_contexts, load_kube_config
        from yaml import YAMLError
    except ImportError as error:
        raise ConfigError(
            'reading a kubeconfig needs the Python package "kubernetes"; install it, or run in a pod'
        ) from error
    where = path or os.environ.get("KUBECONFIG") or str(Path("~/.kube/config").expanduser())
    files = [Path(file).expanduser() for file in where.split(os.pathsep) if file]
    if not any(file.is_file() for file in files):
        raise ConfigError(f"there is no kubeconfig at {where}; set KUBECONFIG or name the file")
    configuration = Configuration()
    configuration.proxy = (
        None  # otherwise filled from the environment without its exceptions; the session does that right
    )
    try:
        contexts, current = list_kube_config_contexts(where)  # type: ignore[no-untyped-call]
        load_kube_config(  # type: ignore[no-untyped-call]
            where, context, client_configuration=configuration, persist_config=False
        )
    except (ConfigException, YAMLError, OSError, ValueError) as error:
        raise ConfigError(f"the kubeconfig {where} can't be used: {error}") from error
    chosen = next((entry for entry in contexts if entry["name"] == context), current) if context else current
    tls = None
    if configuration.host.startswith("https"):
        tls = _tls(
            authority=configuration.ssl_ca_cert,
            certificate=configuration.cert_file,
            key=configuration.key_file,
            verify=configuration.verify_ssl,
            name=configuration.tls_server_name,
        )
    return Connection(
        server=configuration.host.rstrip("/"),
        namespace=chosen["context"].get("namespace") or "default",
        tls=tls,
        credential=Credential(lambda: configuration.get_api_key_with_prefix("BearerToken")),
        proxy=configuration.proxy,
    )


class _Context(ssl.SSLContext):
    """TLS settings that can ask for, and check, another name than the address's (`tls-server-name`)."""

    expected_name: str | None = None

    def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
        if self.expected_name is not None:
            options["server_hostname"] = self.expected_name
        return super().wrap_bio(*args, **options)


def _tls(
    *,
    authority: str | None = None,
    certificate: str | None = None,
    key: str | None = None,
    verify: bool = True,
    name: str | None = None,
) -> ssl.SSLContext:
    # Not create_default_context: since Python 3.13 it demands extensions that the authorities of many
    # clusters (kubeadm's among them) lack.
    context = _Context(ssl.PROTOCOL_TLS_CLIENT)
    context.expected_name = name
    try:
        if authority is not None:
            context.load_verify_locations(cafile=authority)
        else:
            context.load_default_certs()
        if certificate is not None:
            context.load_cert_chain(certificate, key)
    except OSError as error:  # ssl.SSLError is one
        files = ", ".join(file for file in (authority, certificate, key) if file)
        raise ConfigError(f"the certificates can't be read ({files}): {error}") from error
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
