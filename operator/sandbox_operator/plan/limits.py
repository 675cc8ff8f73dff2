# SPDX-License-Identifier: Apache-2.0
"""Checks amounts and times that have their form, but with which no pod could be, or do its work."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from sandbox_api.base import seconds
from sandbox_api.experiment import Resources, Timeouts
from sandbox_api.forms import is_qualified_name

from ..build.quantity import amount
from .references import did_you_mean

NODES_OWN = ("cpu", "memory", "ephemeral-storage")


def gpus_of(resources: Resources | None) -> int:
    """GPUs of a pod, whosever they are."""
    limits = (resources.limits if resources is not None else None) or {}
    return sum(int(amount(value)) for name, value in limits.items() if name.endswith("/gpu"))


def resource_problems(resources: Resources | None, where: str, names: Collection[str] | None = None) -> Iterator[str]:
    """A sentence for each amount (of `names`, where given) whose request and limit the API server would refuse."""
    requests = (resources.requests if resources is not None else None) or {}
    limits = (resources.limits if resources is not None else None) or {}
    for side, amounts in (("requests", requests), ("limits", limits)):
        for name, value in amounts.items():
            if names is None or name in names:
                yield from _name_problems(f"{where}.{side}.{name}", name, str(value))
    for name, request in requests.items():
        limit = limits.get(name)
        if names is not None and name not in names:
            continue
        if _is_exact(name) and (limit is None or amount(limit) != amount(request)):
            yield f"{where}.requests.{name}: request and limit must be the same; give the limit alone"
        elif limit is not None and amount(request) > amount(limit):
            yield f"{where}.requests.{name}: {request} is above the limit {limit}; lower it, or raise limits.{name}"


def timeout_problems(timeouts: Timeouts | None, where: str) -> Iterator[str]:
    """A sentence for each time limit that is over at once."""
    for name, value in (timeouts or Timeouts()).model_dump(by_alias=True, exclude_none=True).items():
        if seconds(value) == 0:
            yield f"{where}.{name}: {value} leaves no time at all; write a longer time, or leave it out"


def _name_problems(where: str, name: str, value: str) -> Iterator[str]:
    """What no node has, and devices that nobody has half of."""
    if not is_qualified_name(name):
        yield f"{where}: no resource has such a name; write one like nvidia.com/gpu"
    elif name not in NODES_OWN and not _is_exact(name):
        hint = did_you_mean(name, NODES_OWN) or f"; a node has {', '.join(NODES_OWN)}, and devices as nvidia.com/gpu"
        yield f"{where}: there is no such resource{hint}"
    elif "/" in name and amount(value) % 1:
        yield f"{where}: {value} is no whole number; nobody gets a part of a device"


def _is_exact(name: str) -> bool:
    """Whether it is of a kind that a node never promises twice: GPUs and other devices, huge pages."""
    return "/" in name or name.startswith("hugepages-")
