# SPDX-License-Identifier: Apache-2.0
"""Follows one experiment until it ends: a live view in a terminal, a line for each change elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.live import Live

from sandbox_api.status import ExperimentStatus

from ..kube.client import Client
from ..kube.errors import ApiError, Gone, NotFound, Unreachable
from .experiments import EXPERIMENTS, SWEEPS, Ended
from .render import line_of, progress_view, trouble


async def follow(changes: AsyncIterator[ExperimentStatus], console: Console, name: str) -> ExperimentStatus:
    """Show an experiment through its statuses until there are no more; the last one."""
    status = ExperimentStatus()
    if not console.is_terminal:
        said: dict[str, str] = {}
        async for status in changes:
            for about, line in list(lines(status, said)):
                if said.get(about) != line:
                    said[about] = line
                    console.print(line, soft_wrap=True, highlight=False, markup=False)
        return status
    with Live(
        console=console, refresh_per_second=4, get_renderable=lambda: progress_view(name, status, datetime.now(UTC))
    ):
        async for status in changes:  # noqa: B007  # the view reads it
            pass
    return status


def lines(status: ExperimentStatus, said: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """What can be said of an experiment, a line each, and about what; `said` is what was said of it last."""
    shown = {job.id for job in status.jobs}
    for earlier in status.history or ():  # an iteration's last result and the next iteration come in one status
        begun = said.get(earlier.id)
        if earlier.id not in shown and begun is not None and earlier.state and earlier.state not in begun:
            yield earlier.id, f"{earlier.id:<26} {'':<26} {earlier.state}"
    for job in status.jobs:
        if job.state != "Pending" or job.attempts or job.reason:
            yield job.id, line_of(job)
    for words in trouble(status):
        yield "", words


async def statuses(client: Client, name: str, namespace: str) -> AsyncIterator[ExperimentStatus]:
    """Each status of an experiment, until it has ended. Raises Ended when it is deleted, or is a sweep."""
    selector = f"metadata.name={name}"
    while True:
        try:
            item = await client.get(EXPERIMENTS, name, namespace)
        except NotFound:
            if await _is_sweep(client, name, namespace):
                words = f"follow it with kubectl get sbsw {name} -n {namespace} -w; its trials are experiments"
                raise Ended(f"{namespace}/{name} is a sweep: {words}") from None
            raise
        yield (status := _status(item))
        if status.completion_time:
            return
        version = item["metadata"]["resourceVersion"]
        try:
            async for event in client.watch(EXPERIMENTS, namespace, resource_version=version, field_selector=selector):
                if event.type == "DELETED":
                    raise Ended(f"the experiment {namespace}/{name} was deleted")
                if event.type != "BOOKMARK":
                    yield (status := _status(event.object))
                    if status.completion_time:
                        return
        except (Gone, Unreachable) as error:
            await asyncio.sleep(0.5 if isinstance(error, Gone) else 2)


async def _is_sweep(client: Client, name: str, namespace: str) -> bool:
    try:
        await client.get(SWEEPS, name, namespace)
    except ApiError:  # who may see experiments need not see sweeps
        return False
    return True


def _status(item: dict[str, Any]) -> ExperimentStatus:
    return ExperimentStatus.model_validate(item.get("status") or {})
