# SPDX-License-Identifier: Apache-2.0
"""The export contract, operator -> exporter: which experiment's figures go to which run, and how it ended when it has.

It travels as the job contract does: base64(gzip(JSON)) in one environment variable.
"""

from __future__ import annotations

import base64
import gzip
import zlib
from typing import Any, Literal

from .base import ContractModel
from .contract import ExperimentRef
from .digest import canonical_json, sha256_of
from .status import ComparisonRow, Outcome, RankRow

EXPORT_VERSION = 1
EXPORT_ENV = "SANDBOX_EXPORT"
EXPORT_COMMAND = ("sandbox-runtime", "export")
API_KEY_ENV = "WANDB_API_KEY"
BASE_URL_ENV = "WANDB_BASE_URL"
EXIT_REFUSED = 2
"""Of an exporter: the key or the address is wrong, so trying again in the same pod is of no use."""


class Ending(ContractModel):
    """How the experiment ended: what the exporter adds before it finishes the run."""

    outcome: Outcome
    reason: str = ""
    """Why so, in a word of the status: Pruned is no failure."""
    message: str = ""
    results: dict[str, str] = {}
    """Committed result.json by job id, relative to the volume's root: those of other experiments (cached) too."""
    comparison: list[ComparisonRow] = []
    ranking: list[RankRow] = []


class ExportContract(ContractModel):
    version: int = EXPORT_VERSION
    experiment: ExperimentRef
    """`project` and `run` are those of Weights & Biases."""
    mode: Literal["online", "offline"]
    entity: str | None = None
    group: str | None = None
    """Of a trial: its sweep."""
    parameters: dict[str, Any] = {}
    """Of a trial."""
    ending: Ending | None = None
    """None: the experiment goes on; so does the exporter, until it is told to end."""

    @property
    def run_id(self) -> str:
        """Of the run: the same whoever exports, and whenever."""
        return self.experiment.uid.replace("-", "")


def export_digest(contract: ExportContract) -> str:
    return sha256_of(contract.model_dump(mode="json", exclude_defaults=True))


def encode_export(contract: ExportContract) -> str:
    """The contract as an environment variable carries it."""
    return base64.b64encode(gzip.compress(canonical_json(contract.model_dump(mode="json")).encode(), mtime=0)).decode()


def decode_export(text: str) -> ExportContract:
    """Read what `encode_export` wrote. Raises ValueError (pydantic's included) when it is not a contract."""
    try:
        body = gzip.decompress(base64.b64decode(text, validate=True))
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"not a compressed export contract: {error}") from error
    return ExportContract.model_validate_json(body)
