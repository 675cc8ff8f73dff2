# SPDX-License-Identifier: Apache-2.0
"""Ports that nobody listens on."""

from __future__ import annotations

import contextlib
import random
import socket


def free_ports(count: int = 1) -> int:
    """The first of so many free ports of this machine in a row. Below those that outgoing connections get: one of them
    might take a port before its server does."""
    while True:
        first = random.randrange(20_000, 32_000)
        with contextlib.suppress(OSError), contextlib.ExitStack() as probes:
            for port in range(first, first + count):
                probes.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first
