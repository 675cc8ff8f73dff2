# SPDX-License-Identifier: Apache-2.0
"""A W&B sweep definition as a hook hands it over: read, and judged as a SandboxSweep's is, by the same rules."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .configs import read_config
from .errors import ConfigError

KEY = "hpo_config"
_NOT_ASKED_FOR = {"template": {}}
"""What a SandboxSweep needs, and a definition does not have."""


def sweep_file(path: Path) -> dict[str, Any]:
    """The definition in a file. Raises ConfigError."""
    return read_config(path, KEY)


def checked_sweep(definition: Mapping[str, Any]) -> dict[str, Any]:
    """A copy that JSON can hold. Raises ConfigError, a line for each field that is wrong."""
    from sandbox_api.sweep_definition import read_definition  # most hooks have no use for it

    try:
        copied: dict[str, Any] = json.loads(json.dumps(definition))
        if problems := read_definition({**_NOT_ASKED_FOR, **copied}, KEY).problems:
            raise ConfigError("\n".join(problems))
        json.dumps(copied, allow_nan=False)  # what has no effect is not judged
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{KEY}: JSON can't hold it: {error}") from error
    return copied
