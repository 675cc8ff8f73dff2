# SPDX-License-Identifier: Apache-2.0
"""`sandbox-operator run`: kopf as the shell of the process (life, signals), and nothing of the work.

Which kopf features are used, and why no others: docs/decisions/0001-kopf-as-a-shell.md.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from importlib.metadata import version
from itertools import repeat
from typing import Any

import kopf

from .kube.config import ConfigError, Connection, connect
from .reconcile.logs import configure_logging
from .reconcile.process import Operator
from .reconcile.settings import Settings, SettingsError, settings_from

log = logging.getLogger(__name__)


async def run(connection: Connection, settings: Settings) -> None:
    """Run until SIGTERM. Raises SystemExit(1) when a part of the operator ended, so that the pod is restarted."""
    registry = kopf.OperatorRegistry()
    stop = asyncio.Event()
    failures: list[BaseException] = []
    work: list[asyncio.Task[None]] = []
    operator = Operator(connection, settings)

    @kopf.on.startup(registry=registry)
    async def startup(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.scanning.disabled = True
        settings.posting.enabled = False
        settings.process.ultimate_exiting_timeout = 10
        settings.networking.error_backoffs = repeat(10)  # else an API server away for 55 s ends the process
        work.append(asyncio.create_task(operator.run(), name="operator"))
        work[0].add_done_callback(ended)

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            failures.append(error)
        stop.set()

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.AiohttpSession:  # kopf's own few requests go through the same door as ours
        return kopf.AiohttpSession(aiohttp_session=connection.session(), server=connection.server)

    @kopf.on.cleanup(registry=registry)
    async def cleanup(**_: Any) -> None:
        log.info("stopping; what runs in the cluster goes on")
        await operator.stop()
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        await operator.__aexit__()  # before kopf looks for tasks that were left, and waits for them

    async with operator:
        await kopf.operator(registry=registry, standalone=True, clusterwide=True, stop_flag=stop)
    for error in failures:
        log.error("the operator stops because a part of it ended: %r", error, exc_info=error)
        raise SystemExit(1)


def main() -> None:
    parser = argparse.ArgumentParser(prog="sandbox-operator", description=__doc__.split(":")[0] if __doc__ else None)
    commands = parser.add_subparsers(dest="command", required=True)
    runner = commands.add_parser("run", help="run the operator, in the cluster or beside it")
    runner.add_argument("--kubeconfig", help="default: a pod's service account, else $KUBECONFIG or ~/.kube/config")
    runner.add_argument("--context", help="context of the kubeconfig; default: its current one")
    runner.add_argument(
        "--namespaces", help="watch these only, comma separated; default: $SANDBOX_NAMESPACES, else all"
    )
    commands.add_parser("version", help="print the version")
    arguments = parser.parse_args()
    if arguments.command == "version":
        print(version("sandbox-operator"))
        return
    given = {"SANDBOX_NAMESPACES": arguments.namespaces} if arguments.namespaces is not None else {}
    try:
        settings = settings_from({**os.environ, **given})
        connection = connect(kubeconfig=arguments.kubeconfig, context=arguments.context)
        configure_logging(settings)
        asyncio.run(run(connection, settings))
    except (SettingsError, ConfigError) as error:
        sys.exit(f"sandbox-operator: {error}")
