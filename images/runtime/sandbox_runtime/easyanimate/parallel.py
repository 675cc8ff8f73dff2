# SPDX-License-Identifier: Apache-2.0
"""The processes of one training: which one this is, and what they do together.

Only the LoRA is trained, so only its gradients travel: one sum over all processes for a step, in one buffer of fixed
layout. torch's DistributedDataParallel is not used for that: it lays its buffers out anew after the first step, and so
a resumed run would add in another order than one that was never interrupted.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

LONGEST_WAIT = timedelta(minutes=30)
"""That long one process waits for another before it gives up."""


@dataclass(frozen=True)
class World:
    """The processes of one training, as one of them sees them."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Sum over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def agree(self, number: int) -> bool:
        """Whether all processes have the same number; all get the same answer."""
        mine = torch.tensor([number, number * number], dtype=torch.float64, device=self.device)
        total, squares = self.sum(mine).tolist()
        return bool(squares * self.size == total * total)

    def any(self, claim: bool) -> bool:
        """Whether it is true in any process; all get the same answer."""
        if self.size == 1:
            return claim
        return bool(self.sum(torch.tensor(float(claim), device=self.device)).item())

    def finish(self) -> None:
        """Until this process's GPU has done what it was asked for; a time that is taken before is that of asking."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def wait(self) -> None:
        """Until all processes have come here."""
        self.any(False)


def own_device() -> torch.device:
    """The GPU of this process, or the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device


def join() -> World:
    """Meet the others, as torchrun's environment tells; alone without one."""
    device = own_device()
    if "RANK" not in os.environ or int(os.environ["WORLD_SIZE"]) == 1:
        return World(0, 1, device)
    if not dist.is_initialized():
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=LONGEST_WAIT, device_id=device if device.type == "cuda" else None)
    return World(dist.get_rank(), dist.get_world_size(), device)


def gather(value: Any) -> list[Any]:
    """A value of each process, by rank; all get the same."""
    world = join()
    found: list[Any] = [None] * world.size
    if world.size == 1:
        return [value]
    dist.all_gather_object(found, value)
    return found


def is_of_others(error: BaseException) -> bool:
    """Whether an error only says that another process has gone, or can't be reached."""
    if isinstance(error, (dist.DistNetworkError, dist.DistStoreError)):
        return True
    words = ("Connection closed by peer", "Connection reset by peer", "Connection refused", "Timed out waiting",
             "Socket closed", "remote process exited", "connection was closed")  # fmt: skip
    said = str(error)
    return isinstance(error, (RuntimeError, dist.DistBackendError)) and any(word in said for word in words)


def leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def divide(transformer: Any, world: World, lora: Mapping[str, torch.nn.Parameter]) -> None:
    """FSDP2: frozen weights divided among the processes, a block gathered when it computes. The LoRA stays whole."""
    mesh = init_device_mesh(world.device.type, (world.size,))
    whole = set(lora.values())
    for block in transformer.transformer_blocks:
        fully_shard(block, mesh=mesh, ignored_params=whole)
    fully_shard(transformer, mesh=mesh, ignored_params=whole)


class Gradients:
    """The gradients of all parameters in one buffer, fp32."""

    def __init__(self, parameters: Mapping[str, torch.nn.Parameter]) -> None:
        first = next(iter(parameters.values()))
        self.flat = torch.zeros(sum(map(torch.numel, parameters.values())), device=first.device)
        start = 0
        for parameter in parameters.values():
            parameter.grad = self.flat[start : start + parameter.numel()].view_as(parameter)
            start += parameter.numel()

    def reduce(self, world: World, largest: float) -> float:
        """Sum over all processes, then scale so that the norm is at most `largest`. Returns the norm before."""
        world.sum(self.flat)
        norm = torch.linalg.vector_norm(self.flat)
        self.flat.mul_((largest / (norm + 1e-6)).clamp(max=1.0))
        return float(norm)

    def clear(self) -> None:
        self.flat.zero_()
