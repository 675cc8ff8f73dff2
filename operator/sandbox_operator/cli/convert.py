# SPDX-License-Identifier: Apache-2.0
"""`sandboxctl convert`: from a configuration of Data-Juicer's own sandbox to resources that run on the cluster.

The steps, a module each: read (`convert_read`, `convert_upstream`), name (`convert_names`), find what jobs are
configured with (`convert_load`), mend (`convert_mend`), settle paths (`convert_paths`, `convert_upload`), put together
(`convert_spec`), write (`convert_write`). What the planner says of the result is printed as it says it.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from sandbox_api.crd import MAX_NAME

from ..plan.compile import compile_spec
from .command import say
from .convert_names import object_name
from .convert_spec import Converted, convert
from .convert_upstream import Files, NotConverted, read_upstream
from .convert_write import write
from .experiments import Ended
from .offline import as_stored
from .output import write_output

if TYPE_CHECKING:
    from ..plan.sweep_definition import CompiledSweep

RUNS, HAS_PROBLEMS, NOT_CONVERTED = 0, 1, 2
"""Exit codes."""
NAMELESS = "search"
"""What a search is called and known by while it is judged; neither changes what is said of it."""


def convert_command(
    file: Annotated[Path, typer.Argument(help="Upstream's file, e.g. sandbox.yaml.", exists=True, dir_okay=False)],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file; default: stdout.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the experiment; default: from experiment_name.")] = None,
    root: Annotated[
        Path | None, typer.Option(help="Folder that upstream was started in: its paths begin there.", file_okay=False)
    ] = None,
    data_claim: Annotated[str | None, typer.Option(help="Claim that holds the data; default: <name>-data.")] = None,
    upload_pod: Annotated[bool, typer.Option(help="Print the claim and the pod to upload data with instead.")] = False,
) -> None:
    """Turn a configuration of Data-Juicer's own sandbox into resources. What to upload is told on stderr.

    Exit code 1: written, but it would not run as it is (stderr says why); 2: not converted.
    """
    if name is not None and name != object_name(name, MAX_NAME):
        _end(f"--name: {name!r} can't be the name of an experiment; try {object_name(name, MAX_NAME) or 'sandbox'!r}")
    if output is not None and output.exists() and output.samefile(file):
        _end(f"--output: {output} is the file to convert; name another")
    try:
        files = Files(file, root)
        upstream = read_upstream(file, files)
        command = _command(file, name, root, data_claim)
        converted = convert(upstream, files, file, name=name, command=command, claim=data_claim)
    except NotConverted as error:
        _end(*(f"{file}: {problem}" for problem in error.problems))
    text = converted.uploads.manifests() if upload_pod else write(converted.documents)
    if output is None:
        sys.stdout.write(text)
    else:
        try:
            write_output(output, text)
        except Ended as error:
            _end(str(error))
    if not upload_pod and not _tell(converted):
        raise typer.Exit(HAS_PROBLEMS)


def _tell(converted: Converted) -> bool:
    """What is left to do and what would not run, a line each; whether nothing of the latter is there."""
    uploads = converted.uploads
    if uploads.needs_pod():
        say(f"upload: through a pod: {' && '.join(uploads.before_and_after()[0])}", error=True)
    for sentence, commands in uploads.told():
        say(f"upload: {sentence}: {' && '.join(commands)}", error=True)
    for sentence in converted.left_out:
        say(f"can't run: {sentence}", style="red", error=True)
    sweep = converted.sweep
    compiled = compile_spec(as_stored(converted.spec)) if sweep is None else _compiled(sweep)
    for problem in compiled.problems:
        say(f"problem: {problem}", style="red", error=True)
    for warning in compiled.warnings:
        say(f"warning: {warning}", style="yellow", error=True)
    return not converted.left_out and not compiled.problems


def _compiled(sweep: Mapping[str, Any]) -> CompiledSweep:
    # What searches takes a second to import, and is not in the images of hooks.
    from ..plan.sweep_definition import compile_sweep

    return compile_sweep(sweep, name=NAMELESS, uid=NAMELESS)


def _command(file: Path, name: str | None, root: Path | None, data_claim: str | None) -> str:
    """The command line as it was given, for the commands that go on from it."""
    options = [("--name", name), ("--root", root), ("--data-claim", data_claim)]
    given = [word for option, value in options if value is not None for word in (option, str(value))]
    return shlex.join(["sandboxctl", "convert", str(file), *given])


def _end(*sentences: str) -> NoReturn:
    for sentence in sentences:
        say(sentence, style="red", error=True)
    raise typer.Exit(NOT_CONVERTED)
