# SPDX-License-Identifier: Apache-2.0
"""`sandboxctl sweep`: proof of a sweep, and its report. Both read what is recorded; neither changes anything."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..kube.client import Client
from .command import Namespace, fail, say, with_cluster
from .experiments import Ended
from .output import write_output

if TYPE_CHECKING:
    from .sweep_read import SweepView

sweep_app = typer.Typer(no_args_is_help=True, help="Prove and draw a SandboxSweep.")

SweepName = Annotated[str, typer.Argument(help="Name of the sweep.", metavar="NAME")]
Dump = Annotated[
    list[Path] | None,
    typer.Option(
        "--file", "-f",
        help="What `kubectl get sandboxsweeps,sandboxexperiments,sandboxhooks -o yaml` printed, in place of a cluster;"
        " repeatable.",
    ),
]  # fmt: skip


@sweep_app.command("verify")
def verify_command(context: typer.Context, name: SweepName, file: Dump = None, namespace: Namespace = None) -> None:
    """Compute each trial's suggestion again from what the trial records, and each decision of early stopping.

    Exit code 1, with a sentence for each trial that differs, when one does not follow.
    """
    view = _view(context, name, file, namespace)
    problems = view.problems()
    for problem in problems:
        say(problem, style="red")
    trials = f"{len(view.trials)} trial{'s' if len(view.trials) != 1 else ''}"
    if problems:
        what = "thing" if len(problems) == 1 else "things"
        does = "does" if len(problems) == 1 else "do"
        fail(f"{name}: {len(problems)} {what} in {trials} {does} not follow from what is recorded")
    if not view.trials:
        fail(f"{name}: no trial is there, so there is nothing to prove; a file needs its SandboxExperiments as well")
    decisions = sum(len(trial.rungs) for trial in view.trials)
    early = f", and {decisions} decisions of early stopping" if decisions else ""
    say(f"{name}: {trials}, each suggestion follows from what its trial saw{early}", style="green")


@sweep_app.command("report")
def report_command(
    context: typer.Context,
    name: SweepName,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where it is written. Default: NAME.html.")
    ] = None,
    file: Dump = None,
    namespace: Namespace = None,
) -> None:
    """Write one HTML file: history and best so far, what matters, which values went with which result, all trials.

    It needs nothing else to be looked at, no network either.
    """
    from .sweep_page import page  # Plotly and Optuna take a second

    view = _view(context, name, file, namespace)
    where = output or Path(f"{name}.html")
    try:
        write_output(where, page(view))
    except Ended as error:
        fail(str(error))
    say(f"{name}: {where}", style="green")


def _view(context: typer.Context, name: str, files: Sequence[Path] | None, namespace: str | None) -> SweepView:
    from .sweep_read import read_cluster, read_dump  # Optuna takes a second

    async def read(client: Client, where: str) -> SweepView:
        return await read_cluster(client, name, where)

    try:
        return read_dump(files, name, namespace) if files else with_cluster(context, namespace, read)[0]
    except Ended as error:
        fail(f"{name}: {error}")
