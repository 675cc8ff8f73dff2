# SPDX-License-Identifier: Apache-2.0
"""`sandboxctl run --local`: experiments of a file, one after another, as processes of this machine."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import RenderableType

from sandbox_api.status import ExperimentStatus

from ..build.job import GRACE_SECONDS
from ..plan.compile import Compiled, compile_spec
from .command import INTERRUPTED, console, say
from .experiments import Ended
from .local_apply import applied
from .local_folder import LocalFolder
from .local_inputs import input_problems, place_inputs, secrets_of
from .local_neighbours import leave_link
from .local_pod import Interpreters, Machine
from .local_run import LocalRun
from .offline import Documents, Experiment
from .render import findings
from .watch import follow

DEFAULT_FOLDER = Path("sandbox-local")
DATA_JUICER = "py-data-juicer"


@dataclass(frozen=True)
class Options:
    """What the command was told besides the file."""

    folder: Path | None = None
    volume: Path | None = None
    inputs: Mapping[str, Path] = field(default_factory=dict)
    interpreters: Interpreters = field(default_factory=lambda: Interpreters(sys.executable))
    environ: Mapping[str, str] = field(default_factory=dict)
    most: int | None = None
    resume: bool = False


def run_documents(documents: Documents, options: Options) -> int:
    """Run all experiments of a file; the exit code. Raises Ended before anything starts when one can't run."""
    runs = [_prepared(experiment, documents, options) for experiment in documents.experiments]
    code = 0
    for prepared in runs:
        code = max(code, asyncio.run(_run(prepared)))
        if code == INTERRUPTED:
            break
    return code


@dataclass(frozen=True)
class _Prepared:
    name: str
    folder: LocalFolder
    notes: tuple[str, ...]
    run: LocalRun


def _prepared(experiment: Experiment, documents: Documents, options: Options) -> _Prepared:
    """Everything that can be wrong is found here, and all of it is told at once."""
    compiled = compile_spec(experiment.spec)
    folder = LocalFolder(_folder_of(experiment, documents, options), options.volume)
    secrets, missing = secrets_of(compiled.jobs, options.environ)
    problems = [*compiled.problems, *missing]
    if compiled.spec is not None:
        problems += input_problems(compiled.spec, options.inputs, documents.config_maps, folder.inputs)
    if not problems:
        problems += _interpreter_problems(compiled, options.interpreters)
    if problems or compiled.spec is None:
        raise Ended("\n".join(f"{experiment.name}: {problem}" for problem in problems))
    folder.lock()
    stored = folder.read_experiment()
    if stored is not None and not options.resume:
        raise Ended(
            f"{folder.root} holds a run of {stored.name!r} already; --resume goes on with it, another --folder starts"
            " anew"
        )
    status = folder.read_status()
    new = applied(experiment, stored, status)
    place_inputs(compiled.spec, options.inputs, documents.config_maps, folder.inputs)
    folder.write_experiment(new)
    leave_link(folder, new)
    machine = Machine(folder.workspace, folder.inputs, options.environ, secrets, options.interpreters)
    run = LocalRun(new, folder, machine, {}, most=options.most)
    return _Prepared(experiment.name, folder, tuple(_notes(compiled)), run)


def _folder_of(experiment: Experiment, documents: Documents, options: Options) -> Path:
    if options.folder is None:
        return DEFAULT_FOLDER / experiment.name
    return options.folder if len(documents.experiments) == 1 else options.folder / experiment.name


def _interpreter_problems(compiled: Compiled, interpreters: Interpreters) -> Iterator[str]:
    """Each interpreter is asked once what it has."""
    needs_dj = {interpreters.of(job.hook.image): job for job in compiled.jobs if job.hook.reads_dj}
    for python in sorted({interpreters.of(job.hook.image) for job in compiled.jobs}):
        try:
            asked = subprocess.run(
                [python, "-m", "sandbox_runtime.main", "version"], capture_output=True, text=True, check=True
            )
        except (OSError, subprocess.CalledProcessError) as error:
            said = error.stderr.strip().splitlines()[-1:] if isinstance(error, subprocess.CalledProcessError) else []
            yield (
                f"{python} can't run hooks: it has no sandbox_runtime ({' '.join(said) or error}); install"
                " sandbox-operator there, or name another interpreter with --python"
            )
            continue
        if python in needs_dj and DATA_JUICER not in asked.stdout:
            yield (
                f"{python} has no Data-Juicer, which {needs_dj[python].hook.name} runs on; install"
                " sandbox-operator[data] there, or name another interpreter with --python"
            )


def _notes(compiled: Compiled) -> Iterator[str]:
    """What is other than on a cluster, once."""
    yield from (f"warning: {warning}" for warning in compiled.warnings)
    limits = [job.resources.limits or {} for job in compiled.jobs if job.resources]
    if any(limits):
        yield "note: resources are not enforced here; a hook may take all that this machine has"
    if any(name.endswith("/gpu") for limit in limits for name in limit):
        yield "note: GPUs are not handed out here; a hook sees all of this machine's, or none"
    if compiled.spec is not None and compiled.spec.images:
        yield "note: spec.images is not used here; hooks run on the Python named with --python"


async def _run(prepared: _Prepared) -> int:
    name, folder, run = prepared.name, prepared.folder, prepared.run
    for note in prepared.notes:
        say(note, style="yellow")

    def interrupt() -> None:
        if not run.interrupted:
            say(f"{name}: its hooks are told to end, which may take {GRACE_SECONDS} s; once more kills them")
        run.interrupt()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, interrupt)
    status = await follow(run.statuses(), console, name)
    console.print()
    console.print(_page(status, folder), crop=False)
    return _exit_code(name, status, folder, interrupted=run.interrupted)


def _exit_code(name: str, status: ExperimentStatus, folder: LocalFolder, *, interrupted: bool) -> int:
    """0 for a success, 130 for an interruption, else 1; and in words why."""
    if status.outcome == "Succeeded":
        return 0
    ready = next((c for c in status.conditions if c.type == "Ready"), None)
    words = f"{name}: {ready.message}" if ready else f"{name}: {status.outcome or 'nothing was started'}"
    if interrupted and status.completion_time is None:
        say(f"{words}\n{name}: interrupted; the same command with --resume goes on in {folder.root}", error=True)
        return INTERRUPTED
    say(words, style="red", error=True)
    return 1


def _page(status: ExperimentStatus, folder: LocalFolder) -> RenderableType:
    hints = (
        f"All of it:      {folder.status_file}",
        f"Logs of a hook: {folder.jobs}/<jobName>/log.txt",
        f"The files:      in {folder.workspace}, at the paths above",
    )
    return findings(status, f"in {folder.workspace}", hints)


def interpreters_of(texts: Iterable[str]) -> Interpreters:
    """`PATH`, or `IMAGE=PATH` for the hooks of one image. Raises Ended when a path is none."""
    default, named = sys.executable, {}
    for text in texts:
        image, _, path = text.rpartition("=")
        if not path:
            raise Ended(f"--python: write PATH or IMAGE=PATH, not {text!r}")
        if image:
            named[image] = path
        else:
            default = path
    return Interpreters(default, named)
