# SPDX-License-Identifier: Apache-2.0
"""Connections as a pod and as a person have them, tried on a TLS server with certificates of its own."""

import json
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.api.fakeapi import FakeAPI

from sandbox_operator.kube import config
from sandbox_operator.kube.client import Client
from sandbox_operator.kube.config import ConfigError, Connection, connect, from_kubeconfig, in_cluster
from sandbox_operator.kube.errors import Unauthorized, Unreachable


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca.crt, and server.crt with server.key for the names `api.example.com` and 127.0.0.1."""
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=authority")
    openssl(
        *[
            "req",
            "-x509",
            *key,
            "-CA",
            "ca.crt",
            "-CAkey",
            "ca.key",
            "-keyout",
            "server.key",
            "-out",
            "server.crt",
        ],
        *["-subj", "/CN=server", "-addext", "subjectAltName=DNS:api.example.com,IP:127.0.0.1"],
        *["-addext", "basicConstraints=critical,CA:FALSE"],
    )
    return folder


def secure_api(certificates: Path, token: str) -> FakeAPI:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificates / "server.crt", certificates / "server.key")
    return FakeAPI(token=token, tls=tls)


@pytest.fixture
def account(tmp_path: Path, certificates: Path) -> Path:
    """A service account's mounted folder."""
    (tmp_path / "token").write_text("first\n")
    (tmp_path / "namespace").write_text("lab")
    (tmp_path / "ca.crt").write_bytes((certificates / "ca.crt").read_bytes())
    return tmp_path


def in_pod(monkeypatch: pytest.MonkeyPatch, api: FakeAPI) -> None:
    host, _, port = api.url.removeprefix("https://").partition(":")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)


async def version(connection: Connection) -> Any:
    """What a request that needs the token is answered."""
    async with Client(connection, field_manager="tester") as client:
        return await client.get_raw("/api/v1/pods")


async def test_a_pod_uses_its_service_account_and_follows_the_token_when_it_is_replaced(
    account: Path, certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with secure_api(certificates, "first") as api:
        in_pod(monkeypatch, api)
        connection = in_cluster(account)
        assert connection.namespace == "lab"
        async with Client(connection, field_manager="tester") as client:
            await client.get_raw("/api/v1/pods")
            api.token = "second"
            with pytest.raises(Unauthorized, match="check the token"):
                await client.get_raw("/api/v1/pods")
            (account / "token").write_text("second")
            assert (await client.get_raw("/api/v1/pods"))["items"] == []


async def test_a_token_is_read_again_in_time_even_when_nobody_refuses_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    reads: list[float] = []

    def read() -> str:
        reads.append(clock[0])
        return f"Bearer {len(reads)}"

    credential = config.Credential(read)
    for clock[0] in (0.0, 30.0, 59.0, 61.0, 62.0):
        await credential.header()
    assert reads == [0.0, 61.0]
    assert await credential.header() == ("Bearer 2", 61.0)


def test_outside_a_pod_or_without_a_token_the_sentence_says_what_to_do(
    account: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ConfigError, match="does not run in a pod; use a kubeconfig"):
        in_cluster(account)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    assert in_cluster(account).server == "https://[fd00::1]:443"
    (account / "token").unlink()
    with pytest.raises(ConfigError, match="token is missing: mount the service account"):
        in_cluster(account)


def kubeconfig(folder: Path, server: str, *, cluster: dict[str, Any], user: dict[str, Any]) -> str:
    context = {"cluster": "there", "user": "me"}
    body = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "plain",
        "clusters": [{"name": "there", "cluster": {"server": server, **cluster}}],
        "users": [{"name": "me", "user": user}],
        "contexts": [
            {"name": "plain", "context": context},
            {"name": "lab", "context": {**context, "namespace": "lab"}},
        ],
    }
    (folder / "kubeconfig").write_text(yaml.safe_dump(body))
    return str(folder / "kubeconfig")


async def test_a_kubeconfig_gives_server_authority_token_and_namespace(tmp_path: Path, certificates: Path) -> None:
    async with secure_api(certificates, "secret") as api:
        authority = {"certificate-authority": str(certificates / "ca.crt")}
        path = kubeconfig(tmp_path, api.url + "/", cluster=authority, user={"token": "secret"})
        assert (await version(from_kubeconfig(path)))["items"] == []
        assert from_kubeconfig(path).namespace == "default"
        assert from_kubeconfig(path, "lab").namespace == "lab"
        with pytest.raises(ConfigError, match="nowhere"):
            from_kubeconfig(path, "nowhere")


async def test_an_exec_plugin_is_asked_for_the_token(tmp_path: Path, certificates: Path) -> None:
    answer = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": "minted"},
    }
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": sys.executable,
        "args": ["-c", f"print({json.dumps(json.dumps(answer))})"],
        "interactiveMode": "Never",
    }
    async with secure_api(certificates, "minted") as api:
        authority = {"certificate-authority": str(certificates / "ca.crt")}
        path = kubeconfig(tmp_path, api.url, cluster=authority, user={"exec": plugin})
        assert (await version(from_kubeconfig(path)))["items"] == []


async def test_a_server_with_a_strangers_certificate_is_not_trusted_unless_told_so(
    tmp_path: Path, certificates: Path
) -> None:
    async with secure_api(certificates, "secret") as api:
        path = kubeconfig(tmp_path, api.url, cluster={}, user={"token": "secret"})
        with pytest.raises(Unreachable, match="certificate"):
            await version(from_kubeconfig(path))
        careless = kubeconfig(tmp_path, api.url, cluster={"insecure-skip-tls-verify": True}, user={"token": "secret"})
        assert (await version(from_kubeconfig(careless)))["items"] == []


async def test_the_certificate_is_checked_against_the_name_the_kubeconfig_expects(
    tmp_path: Path, certificates: Path
) -> None:
    async with secure_api(certificates, "secret") as api:
        for name, trusted in [("api.example.com", True), ("other.example.com", False)]:
            cluster = {"certificate-authority": str(certificates / "ca.crt"), "tls-server-name": name}
            connection = from_kubeconfig(kubeconfig(tmp_path, api.url, cluster=cluster, user={"token": "secret"}))
            if trusted:
                assert (await version(connection))["items"] == []
            else:
                with pytest.raises(Unreachable, match=r"other\.example\.com"):
                    await version(connection)


def test_a_kubeconfig_that_is_missing_empty_or_broken_is_told_with_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = tmp_path / "none"
    with pytest.raises(ConfigError, match=f"no kubeconfig at {missing}"):
        from_kubeconfig(str(missing))
    monkeypatch.setenv("KUBECONFIG", str(missing))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ConfigError, match=f"no kubeconfig at {missing}"):
        connect()
    for text in ["", "a: [", "apiVersion: v1\nkind: Config\n"]:
        (tmp_path / "broken").write_text(text)
        with pytest.raises(ConfigError, match="broken can't be used"):
            from_kubeconfig(str(tmp_path / "broken"))
    unreadable = {"certificate-authority": str(tmp_path / "absent.crt")}
    path = kubeconfig(tmp_path, "https://127.0.0.1:1", cluster=unreadable, user={"token": "x"})
    with pytest.raises(ConfigError, match=r"absent\.crt"):
        from_kubeconfig(path)


def test_without_the_kubernetes_package_the_sentence_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "kubernetes"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    with pytest.raises(ConfigError, match='"kubernetes"; install it'):
        from_kubeconfig("anything")


async def test_a_pods_account_comes_before_the_usual_kubeconfig_and_after_one_that_is_named(
    account: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = kubeconfig(tmp_path, "http://127.0.0.1:1", cluster={}, user={"token": "x"})
    monkeypatch.setenv("KUBECONFIG", path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setattr(config, "SERVICE_ACCOUNT", account)
    assert connect().server == "https://10.0.0.1:443"
    assert connect(context="lab").server == "http://127.0.0.1:1"
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST")
    assert connect().server == "http://127.0.0.1:1"


def test_importing_the_wall_costs_no_kubernetes_package() -> None:
    modules = "sandbox_operator.kube.informer, sandbox_operator.kube.queue"
    code = f"import sys, {modules}; print('kubernetes' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": "operator"})
    assert run.stdout == "False\n", run.stderr
