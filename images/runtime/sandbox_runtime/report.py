# SPDX-License-Identifier: Apache-2.0
"""The two ways in which a job's end is told: `result.json` on the volume, then the short message that names it.

When the volume can't hold the result, the message alone tells of the failure: it then names no digest.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from sandbox_api.contract import JobContract
from sandbox_api.result import ErrorClass, Result, ResultError, encode_message, message_of

from .files import write_atomic
from .workspace import Workspace


def write_report(result: Result, contract: JobContract, workspace: Workspace, termination: Path) -> Result:
    """Write both; returns the result that was told, which is a failure where a success could not be written."""
    sha256, size = "", 0
    try:
        content = result.model_dump_json(indent=1, exclude_none=True).encode() + b"\n"
        write_atomic(workspace.result, content)
        sha256, size = hashlib.sha256(content).hexdigest(), len(content)
    except (OSError, ValueError) as error:
        print(f"the result can't be written to the volume: {error}", file=sys.stderr, flush=True)
        if result.error is None:
            class_: ErrorClass = "Infra" if isinstance(error, OSError) else "User"
            told = ResultError(
                class_=class_, type=type(error).__name__, message=f"the result can't be written: {error}"
            )
            result = result.model_copy(update={"outcome": "Failed", "error": told, "outputs": {}, "metrics": {}})
    message = message_of(result, path=workspace.relative(workspace.result), sha256=sha256, size=size)
    try:
        termination.write_text(encode_message(message, needs=contract.needed))
    except (OSError, ValueError) as error:
        # the result on the volume stands; the controller asks for it there
        print(f"the termination message can't be written: {error}", file=sys.stderr, flush=True)
    return result
