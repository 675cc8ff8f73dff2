# SPDX-License-Identifier: Apache-2.0
"""What every command needs: a terminal, a way to the cluster, and an end with a sentence instead of a traceback."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, NoReturn, TypeVar

import typer
from rich.console import Console

from ..kube.client import Client
from ..kube.config import ConfigError, connect
from ..kube.errors import ApiError, NotFound
from .experiments import Ended

console = Console()
T = TypeVar("T")

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

Namespace = Annotated[str | None, typer.Option("--namespace", "-n", help="Default: the kubeconfig's own.")]
Context = Annotated[str | None, typer.Option("--context", help="Context of the kubeconfig.")]
Kubeconfig = Annotated[str | None, typer.Option("--kubeconfig", help="Default: $KUBECONFIG or ~/.kube/config.")]
Name = Annotated[str, typer.Argument(help="Name of the experiment.")]


def cluster_options(
    context: typer.Context, namespace: Namespace = None, context_name: Context = None, kubeconfig: Kubeconfig = None
) -> None:
    """Look at Data-Juicer sandbox experiments and edit their spec. Each command takes --namespace as well."""
    context.obj = {"namespace": namespace, "context": context_name, "kubeconfig": kubeconfig}


def with_cluster(
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
        fail(f"{error.message}; check the name and --namespace")
    except (ApiError, ConfigError, Ended) as error:
        fail(str(error))
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def say(sentence: str, *, style: str = "", error: bool = False) -> None:
    """Print one sentence as it stands, never broken: people copy from it."""
    where = Console(stderr=True) if error else console
    where.print(sentence, style=style, soft_wrap=True, highlight=False, markup=False)


def fail(message: str) -> NoReturn:
    """End the command with exit code 1."""
    say(message, style="red", error=True)
    raise typer.Exit(1)
