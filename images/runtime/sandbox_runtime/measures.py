# SPDX-License-Identifier: Apache-2.0
"""What a run cost and what it ran on, for the result's `runtime`. Nothing is imported to find a version."""

from __future__ import annotations

import os
import platform
import resource
import time
from datetime import UTC, datetime
from pathlib import Path

PACKAGES = (
    "sandbox-operator", "py-data-juicer", "datasets", "torch", "ray", "transformers", "peft", "modelscope", "ms-swift",
    "vbench",
)  # fmt: skip


def now() -> str:
    """This moment as results tell it."""
    return at(time.time())


def at(moment: float) -> str:
    """A moment, in seconds since 1970, as results tell it."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def seconds_since_start() -> float:
    """Seconds since the kernel started our supervisor: Python's own start-up counts."""
    ticks = int(Path(f"/proc/{os.getppid()}/stat").read_text().rpartition(")")[2].split()[19])
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    return round(uptime - ticks / os.sysconf("SC_CLK_TCK"), 3)


def peak_memory() -> int:
    """Bytes of the largest process so far, ours or one of our children's that has ended."""
    kibibytes = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return kibibytes * 1024


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide what a result looks like, where they are installed."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
