# SPDX-License-Identifier: Apache-2.0
"""`sandboxctl export recipe`: has a pod print a recipe that lies on an experiment's volume, and writes it down."""

from __future__ import annotations

import asyncio
from pathlib import Path
from secrets import token_hex
from typing import Annotated, Any

import typer

from sandbox_api.status import ExperimentStatus
from sandbox_api.sweep import SweepStatus

from ..build.reading_pod import reading_pod
from ..kube.client import Client
from .command import Namespace, fail, with_cluster
from .control import hooks_of
from .experiments import EXPERIMENTS, SWEEPS, Ended
from .export import Source, Stored, Trial, best_trial, recipe_source, written
from .output import write_output
from .pod_words import PODS, words_of

LOOK_SECONDS = 0.5
MAX_BYTES = 4 * 1024 * 1024

app = typer.Typer(no_args_is_help=True, help="Write down what an experiment has found, for Git.")


@app.callback()
def _several() -> None:
    """Write down what an experiment has found, for Git."""


@app.command()
def recipe(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Name of the experiment.")] = None,
    sweep: Annotated[str | None, typer.Option(metavar="NAME", help="Of the best trial of this sweep instead.")] = None,
    job: Annotated[
        str | None, typer.Option(help="metaName, or the beginning of a job id, where several jobs have a recipe.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where it is written. Default: stdout.")
    ] = None,
    timeout: Annotated[int, typer.Option(min=1, help="Seconds that the pod which reads the volume may take.")] = 300,
    namespace: Namespace = None,
) -> None:
    """Write the recipe that an experiment ran, refined and with a trial's parameters, as Data-Juicer reads it.

    A pod with the experiment's image prints it from the volume, which it mounts read-only, and is removed.
    """
    if (name is None) == (sweep is None):
        fail("name either an experiment or, with --sweep, a sweep")

    async def run(client: Client, where: str) -> str:
        trial = await _best(client, sweep, where) if sweep is not None else None
        whose = trial.best.experiment if trial is not None else str(name)
        try:
            stored = await _stored(client, whose, where)
            source = recipe_source(stored, job)
            return written(stored, source, await _read(client, stored, source, timeout), trial)
        except Ended as error:
            raise Ended(f"{whose}: {error}") from error

    text, _ = with_cluster(context, namespace, run)
    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        write_output(output, text)
    except Ended as error:
        fail(str(error))


async def _best(client: Client, sweep: str, namespace: str) -> Trial:
    item = await client.get(SWEEPS, sweep, namespace)
    return best_trial(sweep, namespace, SweepStatus.model_validate(item.get("status") or {}))


async def _stored(client: Client, name: str, namespace: str) -> Stored:
    item = await client.get(EXPERIMENTS, name, namespace)
    status = ExperimentStatus.model_validate(item.get("status") or {})
    hooks = await hooks_of(client, namespace) or {}
    return Stored(name, namespace, item["metadata"]["uid"], item["spec"], status, hooks)


async def _read(client: Client, stored: Stored, source: Source, seconds: int) -> str:
    """What stands in the file. Raises Ended with what kept the pod from saying it."""
    pod = reading_pod(
        name=f"{stored.name[:40].rstrip('-.')}-export-{token_hex(4)}",
        namespace=stored.namespace,
        experiment=(stored.name, stored.uid),
        image=source.image,
        claim=source.claim,
        path=source.path,
        run_as=source.run_as,
        profile=source.profile,
    )
    name = pod["metadata"]["name"]
    await client.create(PODS, pod, stored.namespace)
    try:
        ended = await _ended(client, name, stored.namespace, seconds)
        if ended["status"]["phase"] != "Succeeded":
            raise Ended(f"{source.path} can't be read from the claim {source.claim}: {words_of(ended)}")
        path = PODS.path(namespace=stored.namespace, name=name, subresource="log")
        limit = {"limitBytes": str(MAX_BYTES)}
        said = await client.request(("get", "pods/log"), "GET", path, query=limit, accept="*/*")
        return said.decode()
    finally:
        await client.delete(PODS, name, stored.namespace)


async def _ended(client: Client, name: str, namespace: str, seconds: int) -> dict[str, Any]:
    for _ in range(int(seconds / LOOK_SECONDS) + 1):
        pod = await client.get(PODS, name, namespace)
        if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
            return pod
        await asyncio.sleep(LOOK_SECONDS)
    raise Ended(f"the pod {name}, which is to read the volume, has not ended in {seconds} s: {words_of(pod)}")
