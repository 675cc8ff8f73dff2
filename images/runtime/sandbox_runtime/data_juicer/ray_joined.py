# SPDX-License-Identifier: Apache-2.0
"""The Ray of others (`ray_address`): this pod is a node of it for the time of a run, which lends it no CPU of its own.

A driver has to stand on a node of its Ray. So all work is done by that Ray's own nodes, which have what the run needs:
the same versions of Python, Ray and Data-Juicer, and the volume under the same path. It is left as it was found.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import InfraError
from .errors import ConfigurationError
from .ray_pods import LEAVE_AT_ONCE

FIELD = "ray_address"
OWN = ("", "auto", "local")
"""What upstream's configurations say where no Ray is meant that others have started."""
CONNECT_SECONDS = 10


def address_of(raw: Mapping[str, Any]) -> str | None:
    """`host:port` of the Ray to join; None for one of the job's own. Raises ConfigurationError."""
    address = raw.get(FIELD) or ""
    if address in OWN:
        return None
    if str(address).startswith("ray://"):
        raise ConfigurationError(
            f"{address} is the address for Ray's client; give the head's own, e.g. head:6379", FIELD
        )
    if not re.fullmatch(r"[A-Za-z0-9._-]+:[0-9]{1,5}", str(address)):
        raise ConfigurationError(f"{address!r} is no host:port of a Ray's head, e.g. head:6379", FIELD)
    return str(address)


@contextlib.contextmanager
def member_of(address: str, *, object_store_bytes: int) -> Iterator[None]:
    """Be a node of that Ray, and connected to it. Raises InfraError when it can't be joined."""
    import ray
    from data_juicer.utils.constant import RAY_JOB_ENV_VAR

    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except OSError as error:
        raise InfraError(f"djConfigs.{FIELD}: nothing answers at {address}: {error}") from error
    start = [sys.executable, "-m", "ray.scripts.scripts", "start", f"--address={address}", "--block", "--num-cpus=0"]
    start += [f"--object-store-memory={object_store_bytes}", "--disable-usage-stats"]
    node = subprocess.Popen(start, env=os.environ | LEAVE_AT_ONCE)
    try:
        try:  # it waits a minute for a node in this pod
            ray.init(address=address, runtime_env={"env_vars": {RAY_JOB_ENV_VAR: os.environ[RAY_JOB_ENV_VAR]}})
        except (RuntimeError, ConnectionError, TimeoutError) as error:
            if "AuthenticationError" in f"{error} {error.__cause__}":
                raise ConfigurationError(
                    f"the Ray at {address} wants a token, or another one; give it to the pod as RAY_AUTH_TOKEN, from a"
                    " Secret, beside RAY_AUTH_MODE: token",
                    FIELD,
                ) from error
            raise InfraError(
                f"djConfigs.{FIELD}: this pod can't join the Ray at {address}; the job's log says why, e.g. that it has"
                f" another version of Ray or Python: {error}"
            ) from error
        yield
    finally:
        ray.shutdown()
        node.terminate()  # it ends what it has started; what is left is ended with the hook
        with contextlib.suppress(subprocess.TimeoutExpired):
            node.wait(20)
