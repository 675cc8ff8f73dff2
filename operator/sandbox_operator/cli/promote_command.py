# SPDX-License-Identifier: Apache-2.0
"""`sandboxctl promote`: reads a finished experiment, from the cluster or from a local run, and writes the next one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sandbox_api.status import ExperimentStatus

from ..kube.client import Client
from .command import Name, Namespace, fail, say, with_cluster
from .control import hooks_of
from .experiments import EXPERIMENTS, Ended
from .local_folder import LOCAL_NAMESPACE, read_run
from .output import as_yaml, write_output
from .promote import Asked, Origin, promoted
from .values import read_values


def promote(
    context: typer.Context,
    name: Name,
    dataset: Annotated[str, typer.Option(metavar="PATH", help="All the data: inputs/NAME/PATH.")],
    values: Annotated[Path, typer.Option(metavar="FILE", help="What differs there: spec, and jobs by metaName.")],
    new_name: Annotated[str | None, typer.Option("--name", help="Of the new one. Default: NAME-promoted.")] = None,
    recipe: Annotated[
        str | None, typer.Option(metavar="METANAME", help="The refine job whose recipe it is, where there are several.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--folder", "-f", help="Folder of a run with `run --local`, in place of a cluster.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where it is written. Default: stdout.")
    ] = None,
    namespace: Namespace = None,
) -> None:
    """Write the experiment that takes the winning recipe of a ranking to all the data, its thresholds as numbers.

    It analyses the data set, processes it, analyses the result, and trains and judges as the ranking did. Annotations
    say where it comes from; what the ranking leaves in doubt is told on stderr, too.
    """

    async def read(client: Client, where: str) -> Origin:
        item = await client.get(EXPERIMENTS, name, where)
        status = ExperimentStatus.model_validate(item.get("status") or {})
        meta = item["metadata"]
        return Origin(
            name, where, meta["uid"], meta["generation"], item["spec"], status, await hooks_of(client, where) or {}
        )

    try:
        asked = Asked(dataset, read_values(values), new_name, recipe)
        origin = _from_folder(folder, name) if folder is not None else with_cluster(context, namespace, read)[0]
        found = promoted(origin, asked)
        text = as_yaml(found.manifest)
        if output is None:
            typer.echo(text, nl=False)
        else:
            write_output(output, text)
    except Ended as error:
        fail(f"{name}: {error}")
    for doubt in found.doubts:
        say(f"warning: {doubt}", style="yellow", error=True)


def _from_folder(folder: Path, name: str) -> Origin:
    """A local run's experiment. Raises Ended when the folder holds none of that name."""
    stored, status = read_run(folder, name)
    where = stored.namespace if stored.namespace != LOCAL_NAMESPACE else None
    return Origin(name, where, stored.uid, stored.generation, stored.spec, status)
