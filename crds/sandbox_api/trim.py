# SPDX-License-Identifier: Apache-2.0
"""The trim contract, operator -> pod: which folders of ended trials lose their large files (a sweep's keep.bestTrials).

It travels as the job contract does: base64(gzip(JSON)) in one environment variable.
"""

from __future__ import annotations

import base64
import gzip
import zlib

from .base import ContractModel
from .digest import canonical_json

TRIM_VERSION = 1
TRIM_ENV = "SANDBOX_TRIM"
TRIM_COMMAND = ("sandbox-runtime", "trim")
SMALL_BYTES = 1024 * 1024
"""What stands in an attempt's `out` and is not larger than this stays: recipes, tables, reports."""
REMOVED = "removed.json"
"""In an attempt's folder: what was removed there, and for whom."""


class TrimFolder(ContractModel):
    """A job of a trial."""

    path: str
    """Its folder, relative to the volume's root."""
    attempts: int = 0
    """How many it had begun: what later ones have is not touched."""
    results: list[str] = []
    """Folders of attempts (`attempts/<n>/<pod>`) whose committed result loses its artifacts; so do attempts that left
    no result, or a failure. Any other keeps them."""


class TrimContract(ContractModel):
    version: int = TRIM_VERSION
    sweep: str
    """Its name."""
    folders: list[TrimFolder]


def encode_trim(contract: TrimContract) -> str:
    """The contract as an environment variable carries it."""
    return base64.b64encode(gzip.compress(canonical_json(contract.model_dump(mode="json")).encode(), mtime=0)).decode()


def decode_trim(text: str) -> TrimContract:
    """Read what `encode_trim` wrote. Raises ValueError (pydantic's included) when it is not a contract."""
    try:
        body = gzip.decompress(base64.b64decode(text, validate=True))
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"not a compressed trim contract: {error}") from error
    return TrimContract.model_validate_json(body)
