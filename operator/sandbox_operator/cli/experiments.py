# SPDX-License-Identifier: Apache-2.0
"""What all commands share: which resource they are about, and how they end with a sentence instead of a traceback."""

from __future__ import annotations

from sandbox_api.base import GROUP, VERSION

from ..kube.resources import Resource

HOOKS = Resource(GROUP, VERSION, "sandboxhooks", "SandboxHook")
EXPERIMENTS = Resource(GROUP, VERSION, "sandboxexperiments", "SandboxExperiment")
SWEEPS = Resource(GROUP, VERSION, "sandboxsweeps", "SandboxSweep")


class Ended(Exception):
    """A command can't go on; the message says why."""
