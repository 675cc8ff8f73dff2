# SPDX-License-Identifier: Apache-2.0
"""Which one of a job's pods this is: the only one, one of several that work as one (`nodes`), or the one for a piece of
the job (`shards`).
"""

from __future__ import annotations

from dataclasses import dataclass

from sandbox_api.contract import INDEX_ENV, RENDEZVOUS_ENV, JobContract
from sandbox_api.ranges import numbers_in

from .errors import ConfigError
from .settings import Settings


@dataclass(frozen=True)
class Place:
    rank: int = 0
    """Of the pods that work as one, from 0; the first one writes the job's result."""
    nodes: int = 1
    """How many work as one."""
    rendezvous: str | None = None
    """`host:port` of rank 0, where there are several. The ports after it are free as well."""
    shard: int | None = None
    """The piece that this pod does, from 0; None: the whole job."""
    shards: int = 1
    """How many pieces there are."""

    @property
    def speaks_for_all(self) -> bool:
        """Whether what it writes is the job's result."""
        return self.rank == 0 and self.shard is None

    def address(self, offset: int = 0) -> tuple[str, int]:
        """Host and port of rank 0; each thing that the pods meet for has an `offset` of its own."""
        assert self.rendezvous is not None, "there are several"
        host, _, port = self.rendezvous.rpartition(":")
        return host, int(port) + offset


ALONE = Place()


def place_of(contract: JobContract, settings: Settings) -> Place:
    """The place of the pod with these settings. Raises ConfigError when the contract has none for it."""
    if contract.task != "run" or (contract.nodes == 1 and contract.shards == 1):
        return Place(shards=contract.shards)
    if settings.index is None:
        raise ConfigError(f"{INDEX_ENV}: is missing; the job has several pods, which are numbered by it")
    if contract.shards > 1:
        pieces = numbers_in(contract.pieces)
        if settings.index >= len(pieces):
            raise ConfigError(f"{INDEX_ENV}: there is no piece for the pod {settings.index}; it has {contract.pieces}")
        return Place(shard=pieces[settings.index], shards=contract.shards)
    if settings.rendezvous is None or settings.index >= contract.nodes:
        raise ConfigError(f"{RENDEZVOUS_ENV}: pod {settings.index} of {contract.nodes} can't find the others")
    return Place(rank=settings.index, nodes=contract.nodes, rendezvous=settings.rendezvous)
