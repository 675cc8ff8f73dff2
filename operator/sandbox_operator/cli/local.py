# SPDX-License-Identifier: Apache-2.0
"""`sandboxctl run --local`: experiments of a file, one after another, as processes of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import RenderableType

from sandbox_api.hooks import HOOKS
from sandbox_api.status import ExperimentStatus

from ..build.parts import GRACE_SECONDS
from ..plan.compile import Compiled, compile_spec
from ..plan.job import PlannedJob
from ..plan.tracking import wanted
from .command import INTERRUPTED, console, say
from .experiments import Ended
from .local_apply import applied
from .local_folder import LocalFolder, Stored
from .local_inputs import input_problems, place_inputs, place_problems, secrets_of, unknown_inputs
from .local_neighbours import leave_link
from .local_pod import Machine, Programs
from .local_run import LocalRun
from .offline import Documents, Experiment
from .render import conclusion, findings, trouble
from .watch import follow

DEFAULT_FOLDER = Path("sandbox-local")
RUNTIME, DATA_JUICER = "sandbox-operator", "py-data-juicer"
"""Distributions that `sandbox-runtime version` names where they are installed."""


@dataclass(frozen=True)
class Options:
    """What the command was told besides the file."""

    folder: Path | None = None
    volume: Path | None = None
    inputs: Mapping[str, Path] = field(default_factory=dict)
    programs: Programs = field(default_factory=lambda: Programs(sys.executable))
    environ: Mapping[str, str] = field(default_factory=dict)
    most: int | None = None
    resume: bool = False


def run_documents(documents: Documents, options: Options) -> int:
    """Run all experiments of a file; the exit code. Raises Ended before anything starts when one can't run."""
    plans = [_Plan(experiment, documents, options) for experiment in documents.experiments]
    if not plans:
        also = "; a SandboxSweep needs a cluster, its spec.template alone can be run here" if documents.sweeps else ""
        raise Ended(f"there is no SandboxExperiment to run{also}")
    specs = [plan.compiled.spec for plan in plans if plan.compiled.spec is not None]
    problems = [*documents.problems, *unknown_inputs(specs, options.inputs)]
    problems += [f"{plan.experiment.name}: {problem}" for plan in plans for problem in plan.problems()]
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
        self._hooks = documents.hooks_for(experiment)
        self.compiled = compile_spec(experiment.spec, self._hooks)
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
            yield from place_problems(self.compiled.jobs)
            yield from _program_problems(self.compiled, options.programs)

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
        machine = Machine(self.folder.workspace, self.folder.inputs, options.environ, secrets, options.programs)
        return LocalRun(self._stored, self.folder, machine, self._hooks, most=options.most)


def _folder_of(experiment: Experiment, documents: Documents, options: Options) -> Path:
    if options.folder is None:
        return DEFAULT_FOLDER / experiment.name
    return options.folder if len(documents.experiments) == 1 else options.folder / experiment.name


def _program_problems(compiled: Compiled, programs: Programs) -> Iterator[str]:
    """Each interpreter is asked once what it has; a program must be there."""
    for job in compiled.jobs:
        if job.hook.command:
            program, *_ = programs.command(job.hook.name, job.hook.command)
            if shutil.which(program) is None:
                yield (
                    f"{job.where}.hook: {job.hook.name} runs {program}, which is in its image and not here; name the"
                    f" program with --program {job.hook.name}=PATH"
                )
    by_python: dict[str, list[PlannedJob]] = {}
    for job in compiled.jobs:
        if not job.hook.command:
            by_python.setdefault(programs.python_for(job.hook.image), []).append(job)
    for python, jobs in by_python.items():
        yield from _interpreter_problems(python, jobs)


def _interpreter_problems(python: str, jobs: list[PlannedJob]) -> Iterator[str]:
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
        return
    if RUNTIME not in asked.stdout:
        yield f"{python} is no Python with sandbox_runtime; name an interpreter with --python"
        return
    reader = next((job for job in jobs if job.hook.reads_dj and job.hook.name in HOOKS), None)
    if reader is not None and DATA_JUICER not in asked.stdout:
        yield (
            f"{python} has no Data-Juicer, which {reader.hook.name} runs on; install sandbox-operator[data] there,"
            " or name another interpreter with --python"
        )


def _notes(compiled: Compiled) -> Iterator[str]:
    """What is other than on a cluster, once."""
    yield from (f"warning: {warning}" for warning in compiled.warnings)
    limits = [job.resources.limits or {} for job in compiled.jobs if job.resources]
    if any(limits):
        yield "note: resources are not enforced here; a hook may take all that this machine has"
    if any(name.endswith("/gpu") for limit in limits for name in limit):
        yield "note: GPUs are not handed out here; a hook sees all of this machine's, or none"
    if wanted(compiled.spec) is not None:
        yield "note: nothing is exported while it runs here; afterwards: sandboxctl wandb sync NAME --folder FOLDER"
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
    words = f"{name}: {conclusion(status)}"
    if status.outcome == "Succeeded" and not trouble(status):
        say(words, style="green")
        return 0
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


def interpreters_of(texts: Iterable[str]) -> tuple[str, dict[str, str]]:
    """The interpreter for all images, and those for some by their names, of texts `PATH` or `IMAGE=PATH`.

    Paths become absolute, since hooks run in folders of their own. Raises Ended when a path is none.
    """
    default, named = sys.executable, dict[str, str]()
    for text in texts:
        image, _, path = text.rpartition("=")
        if not path:
            raise Ended(f"--python: write PATH or IMAGE=PATH, not {text!r}")
        if "/" in path:  # else a name that is looked for on the PATH
            path = str(Path(path).absolute())  # not resolved: an environment's Python is a link that must stay one
        if image:
            named[image] = path
        else:
            default = path
    return default, named
