# SPDX-License-Identifier: Apache-2.0
"""`sandboxctl` and `kubectl sandbox`: one small function a command."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Annotated, NoReturn, TypeVar

import typer
import yaml
from rich.console import Console

from sandbox_api.status import ExperimentStatus

from ..kube.client import Client
from ..kube.config import ConfigError, connect
from ..kube.errors import ApiError, NotFound
from .experiments import EXPERIMENTS, Ended
from .offline import planned_jobs, read_experiments
from .render import progress_view, report
from .watch import follow

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Look at Data-Juicer sandbox experiments.")
console = Console()
T = TypeVar("T")

Namespace = Annotated[str | None, typer.Option("--namespace", "-n", help="Default: the kubeconfig's own.")]
Context = Annotated[str | None, typer.Option("--context", help="Context of the kubeconfig.")]
Kubeconfig = Annotated[str | None, typer.Option("--kubeconfig", help="Default: $KUBECONFIG or ~/.kube/config.")]
Name = Annotated[str, typer.Argument(help="Name of the experiment.")]


@app.callback()
def cluster(
    context: typer.Context, namespace: Namespace = None, context_name: Context = None, kubeconfig: Kubeconfig = None
) -> None:
    """Options about the cluster; each command takes --namespace as well."""
    context.obj = {"namespace": namespace, "context": context_name, "kubeconfig": kubeconfig}


@app.command()
def watch(context: typer.Context, name: Name, namespace: Namespace = None) -> None:
    """Follow an experiment until it ends, and say why a hook waits. Exit code 1 when it fails."""

    async def run(client: Client, where: str) -> ExperimentStatus:
        return await follow(client, console, name, where)

    status, where = _with_cluster(context, namespace, run)
    console.print()
    console.print(report(name, where, status), crop=False)
    if status.outcome != "Succeeded":
        ready = next((c for c in status.conditions if c.type == "Ready"), None)
        _fail(f"{name}: {ready.message}" if ready else f"{name}: {status.outcome}")


@app.command()
def show(context: typer.Context, name: Name, namespace: Namespace = None) -> None:
    """Print what an experiment has found: before and after, refined bounds, artifacts."""

    async def run(client: Client, where: str) -> ExperimentStatus:
        item = await client.get(EXPERIMENTS, name, where)
        return ExperimentStatus.model_validate(item.get("status") or {})

    status, where = _with_cluster(context, namespace, run)
    console.print(progress_view(name, status, datetime.now(UTC)))
    console.print()
    console.print(report(name, where, status), crop=False)


@app.command()
def plan(
    file: Annotated[Path, typer.Argument(help="A file with SandboxExperiments.", exists=True, dir_okay=False)],
) -> None:
    """Print the jobs a file would run, and every problem in it; no cluster is asked. Exit code 1 on a problem."""
    try:
        experiments = list(read_experiments(file.read_text()))
    except (Ended, OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        _fail(f"{file}: {error}")
    problems = 0
    for experiment in experiments:
        table, found, warnings = planned_jobs(experiment)
        console.print(table)
        for style, sentences in (("red", found), ("yellow", [f"warning: {words}" for words in warnings])):
            for sentence in sentences:
                console.print(sentence, style=style, soft_wrap=True, highlight=False, markup=False)
        problems += len(found)
    if problems:
        raise typer.Exit(1)


@app.command()
def version() -> None:
    """Print the version."""
    console.print(package_version("sandbox-operator"), highlight=False)


def _with_cluster(
    context: typer.Context, namespace: str | None, run: Callable[[Client, str], Awaitable[T]]
) -> tuple[T, str]:
    """Run something with a client; its result and the namespace. Ends the command with a sentence when it can't."""
    options = context.obj

    async def main() -> tuple[T, str]:
        connection = connect(kubeconfig=options["kubeconfig"], context=options["context"])
        where = namespace or options["namespace"] or connection.namespace or "default"
        async with Client(connection, field_manager="sandboxctl") as client:
            return await run(client, where), where

    try:
        return asyncio.run(main())
    except NotFound as error:
        _fail(f"{error.message}; check the name and --namespace")
    except (ApiError, ConfigError, Ended) as error:
        _fail(str(error))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _fail(message: str) -> NoReturn:
    Console(stderr=True).print(message, style="red", soft_wrap=True, highlight=False, markup=False)
    raise typer.Exit(1)
