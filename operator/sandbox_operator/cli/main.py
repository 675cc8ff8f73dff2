# SPDX-License-Identifier: Apache-2.0
"""`sandboxctl` and `kubectl sandbox`: one small function a command."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Annotated, Any

import typer

from sandbox_api.base import ContractModel
from sandbox_api.status import ExperimentStatus

from ..kube.client import Client
from ..plan.comparison import between
from . import control, export_command, wandb
from .command import Name, Namespace, cluster_options, console, fail, say, with_cluster
from .convert import convert_command
from .experiments import EXPERIMENTS, Ended
from .local import Options, interpreters_of, run_documents
from .local_folder import read_run
from .local_pod import Programs
from .offline import Documents, read_files
from .output import Format, print_data, print_manifests
from .plan_table import plan_table
from .preview import UNKNOWN_IMAGE, FilePlan, manifests, previewed
from .promote_command import promote
from .render import compared, conclusion, progress_view, report, trouble
from .sweep_command import sweep_app
from .sweep_plan import SweepPlan, sweep_lines, without
from .watch import follow, statuses

app = typer.Typer(no_args_is_help=True, add_completion=False)
app.callback()(cluster_options)

Files = Annotated[
    list[Path],
    typer.Argument(
        metavar="FILE...",
        help="Files with SandboxExperiments, the SandboxHooks they use, for plan also SandboxSweeps; - is from stdin.",
    ),
]
Images = Annotated[
    list[str] | None,
    typer.Option("--image", metavar="NAME=REFERENCE", help="What the operator's image of that name is; repeatable."),
]


Values = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="What differs from what is written: spec, and jobs by metaName."),
]


@app.command()
def watch(context: typer.Context, name: Name, namespace: Namespace = None) -> None:
    """Follow an experiment until it ends, and say why a hook waits. Exit code 1 when it fails."""

    async def run(client: Client, where: str) -> ExperimentStatus:
        return await follow(statuses(client, name, where), console, name)

    status, where = with_cluster(context, namespace, run)
    console.print()
    console.print(report(name, where, status), crop=False)
    if status.outcome != "Succeeded" or trouble(status):
        fail(f"{name}: {conclusion(status)}")
    say(f"{name}: {conclusion(status)}", style="green")


@app.command()
def show(context: typer.Context, name: Name, namespace: Namespace = None) -> None:
    """Print what an experiment has found: before and after, refined bounds, artifacts."""

    async def run(client: Client, where: str) -> ExperimentStatus:
        item = await client.get(EXPERIMENTS, name, where)
        return ExperimentStatus.model_validate(item.get("status") or {})

    status, where = with_cluster(context, namespace, run)
    console.print(progress_view(name, status, datetime.now(UTC)))
    console.print()
    console.print(report(name, where, status), crop=False)


@app.command()
def compare(
    context: typer.Context,
    name: Name,
    other: Annotated[str | None, typer.Argument(metavar="[OTHER]", help="A second experiment.")] = None,
    folder: Annotated[
        list[Path] | None,
        typer.Option("--folder", "-f", help="Folder of a run with `run --local`, in place of a cluster; one a name."),
    ] = None,
    namespace: Namespace = None,
    output: Annotated[Format, typer.Option("--output", "-o", help="How it is printed.")] = "table",
) -> None:
    """Print what an experiment has changed from probe to evaluation, and its ranking; or what differs in a second one.

    With repeats each change has its 95 % interval; one that may be no change at all is called noise.
    """

    names = [name, other] if other else [name]

    async def run(client: Client, where: str) -> list[ExperimentStatus]:
        items = [await client.get(EXPERIMENTS, one, where) for one in names]
        return [ExperimentStatus.model_validate(item.get("status") or {}) for item in items]

    try:
        statuses = _local_statuses(folder, names) if folder else with_cluster(context, namespace, run)[0]
    except Ended as error:
        fail(str(error))
    rows = between(*statuses) if len(statuses) == 2 else statuses[0].comparison
    ranking = statuses[0].ranking or [] if len(statuses) == 1 else []
    if not rows and not ranking:
        fail(f"{' and '.join(names)}: no figure has two sides yet")
    if output == "table":
        console.print(compared(rows, ranking), crop=False)
    else:
        print_data({"comparison": _plain(rows), "ranking": _plain(ranking)}, output)


def _local_statuses(folders: Sequence[Path], names: Sequence[str]) -> list[ExperimentStatus]:
    """Raises Ended unless each folder, in the order of the names, holds a run of its name."""
    if len(folders) != len(names):
        raise Ended(f"--folder: give one for each experiment: {len(names)}, not {len(folders)}")
    return [read_run(folder, name)[1] for folder, name in zip(folders, names, strict=True)]


def _plain(rows: Iterable[ContractModel]) -> list[dict[str, Any]]:
    return [row.model_dump(mode="json", by_alias=True, exclude_none=True) for row in rows]


@app.command()
def plan(
    file: Files,
    output: Annotated[Format, typer.Option("--output", "-o", help="How it is printed.")] = "table",
    show_manifests: Annotated[
        bool,
        typer.Option("--manifests", help="Print the claims and Jobs that experiments would get."),
    ] = False,
    image: Images = None,
    values: Values = None,
) -> None:
    """Print the jobs a file would run, or what a sweep in it would search, and every problem in it.

    No cluster is asked. Exit code 1 on a problem.
    """
    try:
        documents = read_files(file, values)
        images = _pairs(image or (), "--image", "NAME=REFERENCE")
    except Ended as error:
        fail(str(error))
    previews = [previewed(experiment, documents.hooks_for(experiment), images) for experiment in documents.experiments]
    whole = FilePlan(
        experiments=[plan for plan, _ in previews],
        sweeps=_sweeps(documents, images),
        problems=list(documents.problems),
    )
    made = [manifest for _, rehearsed in previews if rehearsed for manifest in manifests(rehearsed)]
    if show_manifests:
        print_manifests(made, output)
        if UNKNOWN_IMAGE in str(made):
            say(f"images named {UNKNOWN_IMAGE}... are the operator's own; name them with --image", error=True)
    elif output == "table":
        for experiment in whole.experiments:
            console.print(plan_table(experiment, console.width))
            _tell(experiment.problems, experiment.warnings, error=False)
        for sweep in whole.sweeps:
            for line in sweep_lines(sweep):
                say(line)
            _tell(sweep.problems, sweep.warnings, error=False)
        _tell(whole.problems, [], error=False)
    else:
        print_data(whole.model_dump(mode="json", exclude_none=True), output)
    if show_manifests or output != "table":
        for found in (*whole.experiments, *whole.sweeps):
            _tell(found.problems, found.warnings, error=True)
        _tell(whole.problems, [], error=True)
    if not whole.is_sound:
        raise typer.Exit(1)


def _sweeps(documents: Documents, images: Mapping[str, str]) -> list[SweepPlan]:
    if not documents.sweeps:
        return []
    try:
        from .sweep_preview import sweep_previewed  # what searches takes a second to import, and is not everywhere
    except ModuleNotFoundError as error:
        return [without(str(error.name), sweep.name, namespace=sweep.namespace) for sweep in documents.sweeps]
    return [sweep_previewed(sweep, documents.hooks_for(sweep), images) for sweep in documents.sweeps]


@app.command()
def render(
    file: Files,
    values: Values = None,
    output: Annotated[Format, typer.Option("--output", "-o", help="How it is printed.")] = "yaml",
) -> None:
    """Print the experiments of a file with values in them, for kubectl apply -f -."""
    try:
        documents = read_files(file, values)
    except Ended as error:
        fail(str(error))
    print_manifests([*documents.others, *(experiment.manifest for experiment in documents.experiments)], output)


@app.command()
def run(
    file: Files,
    local: Annotated[bool, typer.Option("--local", help="As processes of this machine.")] = False,
    folder: Annotated[
        Path | None, typer.Option(help="Where everything of the run lies. Default: sandbox-local/NAME.")
    ] = None,
    workspace: Annotated[
        Path | None, typer.Option(help="Folder that stands for the shared volume. Default: workspace in --folder.")
    ] = None,
    input_: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="NAME=PATH", help="Files for spec.inputs; repeatable."),
    ] = None,
    python: Annotated[
        list[str] | None,
        typer.Option(metavar="[IMAGE=]PATH", help="Python that runs the hooks, all or those of an image; repeatable."),
    ] = None,
    program: Annotated[
        list[str] | None,
        typer.Option(metavar="HOOK=PATH", help="Program of a hook with contract: raw; repeatable."),
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Most hooks at a time. Default: as planned.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
    values: Values = None,
) -> None:
    """Run the experiments of a file here, with no cluster; exit code 1 when one fails, 130 after Ctrl-C."""
    if not local:
        fail(f"to run on a cluster: kubectl apply -f {file[0]}; to run here: add --local")
    try:
        options = Options(
            folder=folder,
            volume=workspace,
            inputs={name: Path(path) for name, path in _pairs(input_ or (), "--input", "NAME=PATH").items()},
            programs=Programs(*interpreters_of(python or ()), programs_of(program or ())),
            environ=os.environ,
            most=jobs,
            resume=resume,
        )
        code = run_documents(read_files(file, values), options)
    except Ended as error:
        fail(str(error))
    raise typer.Exit(code)


app.add_typer(wandb.app, name="wandb")
app.command("convert")(convert_command)
app.command()(promote)
app.add_typer(export_command.app, name="export")
app.add_typer(sweep_app, name="sweep")
for command in (control.suspend, control.resume, control.stop, control.rerun):
    app.command()(command)


@app.command()
def version() -> None:
    """Print the version."""
    console.print(package_version("sandbox-operator"), highlight=False)


def _tell(problems: Iterable[str], warnings: Iterable[str], *, error: bool) -> None:
    for problem in problems:
        say(problem, style="red", error=error)
    for warning in warnings:
        say(f"warning: {warning}", style="yellow", error=error)


def programs_of(texts: Sequence[str]) -> dict[str, str]:
    """Where programs are, by hook; hooks run in folders of their own, so a path is made absolute."""
    pairs = _pairs(texts, "--program", "HOOK=PATH")
    return {hook: str(Path(path).absolute()) if "/" in path else path for hook, path in pairs.items()}


def _pairs(texts: Sequence[str], option: str, form: str) -> dict[str, str]:
    """`name=value` texts. Raises Ended when one has another form."""
    pairs = [text.partition("=") for text in texts]
    for name, _, value in pairs:
        if not name or not value:
            raise Ended(f"{option}: write {form}, not {name!r}")
    return {name: value for name, _, value in pairs}
