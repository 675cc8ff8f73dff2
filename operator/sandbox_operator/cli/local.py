# SPDX-License-Identifier: Apache-2.0
"""`sandboxctl run --local`: experiments of a file, one after another, as processes of this machine."""

from __future__ import annotations

import asyncio
import contextlib
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
from .local_folder import LocalFolder, Stored
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
    plans = [_Plan(experiment, documents, options) for experiment in documents.experiments]
    problems = [f"{plan.experiment.name}: {problem}" for plan in plans for problem in plan.problems()]
    if problems:
        raise Ended("\n".join(problems))
    code = 0
    with contextlib.ExitStack() as stack:
        for plan in plans:
            stack.callback(plan.folder.close)
            plan.apply()
        for plan in plans:
            code = max(code, asyncio.run(_run(plan)))
            if code == INTERRUPTED:
                break
    return code


class _Plan:
    """One experiment of the file and the folder it runs in."""

    def __init__(self, experiment: Experiment, documents: Documents, options: Options) -> None:
        self.experiment = experiment
        self.folder = LocalFolder(_folder_of(experiment, documents, options), options.volume)
        self.compiled = compile_spec(experiment.spec)
        self._stored: Stored | None = None
        self._documents = documents
        self._options = options

    def problems(self) -> Iterator[str]:
        """Everything that can be wrong before it begins. Touches nothing."""
        options, spec = self._options, self.compiled.spec
        yield from self.compiled.problems
        yield from secrets_of(self.compiled.jobs, options.environ)[1]
        if spec is not None:
            yield from input_problems(spec, options.inputs, self._documents.config_maps, self.folder.inputs)
        if not self.compiled.problems:
            yield from _interpreter_problems(self.compiled, options.interpreters)

    def apply(self) -> None:
        """Make the folder, or take it over. Raises Ended when another run is in it, or this one may not go on so."""
        assert self.compiled.spec is not None, "it has problems"
        self.folder.lock()
        stored = self.folder.read_experiment()
        if stored is not None and not self._options.resume:
            raise Ended(
                f"{self.folder.root} holds a run of {stored.name!r} already; --resume goes on with it, another"
                " --folder starts anew"
            )
        new = applied(self.experiment, stored, self.folder.read_status())
        place_inputs(self.compiled.spec, self._options.inputs, self._documents.config_maps, self.folder.inputs)
        self.folder.write_experiment(new)
        leave_link(self.folder, new)
        self._stored = new

    def run(self) -> LocalRun:
        assert self._stored is not None, "it was not applied"
        options = self._options
        secrets, _ = secrets_of(self.compiled.jobs, options.environ)
        machine = Machine(self.folder.workspace, self.folder.inputs, options.environ, secrets, options.interpreters)
        return LocalRun(self._stored, self.folder, machine, {}, most=options.most)


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


async def _run(plan: _Plan) -> int:
    name, folder, run = plan.experiment.name, plan.folder, plan.run()
    for note in _notes(plan.compiled):
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
