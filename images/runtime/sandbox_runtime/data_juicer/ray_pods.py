# SPDX-License-Identifier: Apache-2.0
"""One Ray over the pods of a job (`nodes`): rank 0 is its head and runs the recipe, the others lend it what they have
until it says that it is done.

They meet by a connection each, which is also how either side knows of the other's end: what one has lost, all have.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from ..errors import InfraError, PeerLost
from ..place import Place

DONE = b"done\n"
AUTH_MODE, TOKEN = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"
LEAVE_AT_ONCE = {"RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0"}
"""For `ray start`: at SIGTERM it would wait half a minute for work that is none of this run's any more."""
RETRY_SECONDS = 0.5
JOIN_SECONDS = 300
"""From when all have met to when Ray knows of all of them."""


def lend_to_ray(place: Place, *, np: int, object_store_bytes: int) -> None:
    """What the pods of other ranks do: join the Ray of rank 0 with `np` CPUs, until that has ended well.

    Raises PeerLost when it has not.
    """
    with _connected(place) as connection:
        lines = connection.makefile("rb")
        address, _, token = lines.readline().decode().strip().partition(" ")
        if not token:
            raise PeerLost("the pod of rank 0 has gone before its Ray was there")
        start = [sys.executable, "-m", "ray.scripts.scripts", "start", f"--address={address}", "--block"]
        amounts = [f"--num-cpus={np}", f"--object-store-memory={object_store_bytes}", "--disable-usage-stats"]
        ray = subprocess.Popen([*start, *amounts], env=os.environ | LEAVE_AT_ONCE | {AUTH_MODE: "token", TOKEN: token})
        try:
            connection.settimeout(1.0)
            while (said := _next_word(connection)) is None:
                if ray.poll() is not None:
                    raise InfraError(f"Ray has ended in this pod with exit code {ray.returncode}; see the job's log")
            if said != DONE:
                raise PeerLost("the pod of rank 0 has gone, or its run has failed")
        finally:
            ray.terminate()  # what it leaves behind is ended with the hook
            with contextlib.suppress(subprocess.TimeoutExpired):
                ray.wait(10)


def take_token() -> None:
    """A secret of this run's own, before Ray is imported: whoever can reach the head's port may not use it."""
    os.environ |= {AUTH_MODE: "token", TOKEN: secrets.token_hex(32)}


@contextlib.contextmanager
def joined_by_others(place: Place) -> Iterator[None]:
    """Around the run of rank 0, which has started a Ray: it goes on when that has all pods, and lets them go at its
    end. Raises PeerLost when one goes before."""
    _, port = place.address()
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("", port)))
        connections = []
        while len(connections) < place.nodes - 1:
            connection, _ = server.accept()
            connections.append(stack.enter_context(connection))
            _keep_alive(connection)
        address = f"{_ray().get_runtime_context().gcs_address} {os.environ[TOKEN]}\n".encode()
        for connection in connections:
            connection.sendall(address)
        _wait_for_all(place, connections)
        yield
        for connection in connections:
            connection.sendall(DONE)


def _wait_for_all(place: Place, connections: list[socket.socket]) -> None:
    deadline = time.monotonic() + JOIN_SECONDS
    while sum(node["Alive"] for node in _ray().nodes()) < place.nodes:
        for connection in connections:
            connection.settimeout(0.1)
            if _next_word(connection) is not None:
                raise PeerLost("another pod of the job has gone before it had joined Ray")
            connection.settimeout(None)
        if time.monotonic() > deadline:
            raise InfraError(f"Ray has not all of the {place.nodes} pods after {JOIN_SECONDS} s; see their logs")


def _connected(place: Place) -> socket.socket:
    """The connection to rank 0, which may have no address yet, or not be listening."""
    while True:
        try:
            connection = socket.create_connection(place.address())
        except OSError:
            time.sleep(RETRY_SECONDS)
            continue
        _keep_alive(connection)
        return connection


def _keep_alive(connection: socket.socket) -> None:
    """A node that falls silent is noticed after a minute."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3)):
        connection.setsockopt(socket.IPPROTO_TCP, option, value)


def _next_word(connection: socket.socket) -> bytes | None:
    """What the other side says; empty when it has gone, None when it says nothing within the timeout."""
    try:
        return connection.recv(len(DONE))
    except TimeoutError:
        return None
    except OSError:
        return b""


def _ray() -> Any:
    import ray

    return ray
