# SPDX-License-Identifier: Apache-2.0
"""What the kernel says of this container's memory: its limit, its peak, and how many of its processes it killed.

A hook whose worker was killed sees only a broken pool; these counts tell that it was memory. Both cgroup versions are
read; where neither is readable every answer is "unknown", never an error.
"""

from __future__ import annotations

from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
UNLIMITED = 1 << 60
"""Version 1 writes "no limit" as a number near 2^63."""


class Memory:
    """The memory cgroup of this process. `root` and `membership` are for tests; `limit` where the pod's is known."""

    def __init__(
        self, root: Path = ROOT, membership: Path = Path("/proc/self/cgroup"), *, limit: int | None = None
    ) -> None:
        self._known_limit = limit
        self._v2 = (root / "cgroup.controllers").exists()
        base = root if self._v2 else root / "memory"
        own = base / _own_path(membership, self._v2)
        # Inside a container the path that /proc tells may be the host's; then the mount's root is ours.
        self._folder = own if (own / ("memory.events" if self._v2 else "memory.oom_control")).exists() else base

    def killed(self) -> int:
        """Processes of this cgroup that the kernel killed for memory, since the cgroup exists."""
        for line in self._read("memory.events" if self._v2 else "memory.oom_control").splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill" and count.strip().isdigit():
                return int(count)
        return 0

    def limit(self) -> int | None:
        """Bytes the container may use, or None when unknown or without limit."""
        return self._known_limit or self.own_limit()

    def own_limit(self) -> int | None:
        """The limit as the kernel knows it; None where there is none, so that figures may be others' as well."""
        found = self._number("memory.max" if self._v2 else "memory.limit_in_bytes")
        return found if found is not None and found < UNLIMITED else None

    def peak(self) -> int | None:
        """Most bytes the container used, or None when unknown. Cached files count in it."""
        return self._number("memory.peak" if self._v2 else "memory.max_usage_in_bytes")

    def working_set(self) -> int | None:
        """Bytes in use now that the kernel can't take back easily, as the kubelet counts them; None when unknown."""
        used = self._number("memory.current" if self._v2 else "memory.usage_in_bytes")
        if used is None:
            return None
        name = "inactive_file" if self._v2 else "total_inactive_file"
        for line in self._read("memory.stat").splitlines():
            key, _, count = line.partition(" ")
            if key == name and count.strip().isdigit():
                return max(0, used - int(count))
        return used

    def describe(self, sampled: int | None = None) -> str:
        """Limit and peak in words; the peak that was `sampled` where the kernel keeps none (before Linux 5.19)."""
        return f"limit {_mebibytes(self.limit())}, peak {_mebibytes(self.peak() or sampled)}"

    def _number(self, name: str) -> int | None:
        text = self._read(name).strip()
        return int(text) if text.isdigit() else None

    def _read(self, name: str) -> str:
        try:
            return (self._folder / name).read_text()
        except OSError:
            return ""


def _own_path(membership: Path, v2: bool) -> str:
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return ""
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if (v2 and number == "0" and not controllers) or (not v2 and "memory" in controllers.split(",")):
            return path.lstrip("/")
    return ""


def _mebibytes(count: int | None) -> str:
    return "unknown" if count is None else f"{count / 2**20:,.0f} MiB"
