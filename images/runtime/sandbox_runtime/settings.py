# SPDX-License-Identifier: Apache-2.0
"""What a pod is told by its environment: where things are mounted, who it is, and the contract of its job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sandbox_api import contract as wire
from sandbox_api.contract import JobContract

from .errors import ConfigError


@dataclass(frozen=True)
class Settings:
    """What the pod's environment says besides the contract."""

    workspace: Path
    inputs: Path
    termination: Path
    pod_uid: str
    image: str | None
    index: int | None = None
    """Which pod of an Indexed Job it is; None: its only one."""
    rendezvous: str | None = None
    """Where the pods of a job that work as one meet."""

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Settings:
        index = environ.get(wire.INDEX_ENV, "")
        return cls(
            workspace=Path(environ.get("SANDBOX_WORKSPACE", wire.WORKSPACE)),
            inputs=Path(environ.get("SANDBOX_INPUTS", wire.INPUTS)),
            termination=Path(environ.get("SANDBOX_TERMINATION_MESSAGE", "/dev/termination-log")),
            pod_uid=environ.get(wire.POD_UID_ENV, "local000"),
            image=environ.get(wire.IMAGE_ENV),
            index=int(index) if index.isdigit() else None,
            rendezvous=environ.get(wire.RENDEZVOUS_ENV),
        )


def read_contract(environ: Mapping[str, str]) -> JobContract:
    """The contract from the environment, or from the file it names. Raises ConfigError."""
    name = wire.CONTRACT_FILE_ENV if wire.CONTRACT_FILE_ENV in environ else wire.CONTRACT_ENV
    text = environ.get(name, "")
    try:
        if name == wire.CONTRACT_FILE_ENV:
            text = Path(text).read_text()
        contract = wire.decode_contract(text.strip())
    except (ValueError, OSError, EOFError) as error:
        raise ConfigError(f"{name}: holds no job contract: {type(error).__name__}: {error}") from error
    if contract.version > wire.CONTRACT_VERSION:
        known = wire.CONTRACT_VERSION
        raise ConfigError(f"{name}: it has version {contract.version}, this image reads {known}; take a newer image")
    return contract.model_copy(update={"told_digest": environ.get(wire.CONTRACT_DIGEST_ENV)})
