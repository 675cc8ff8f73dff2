# SPDX-License-Identifier: Apache-2.0
"""One session with Weights & Biases, a process of its own: what the run lacks is replayed, what comes is followed.

wandb's client may hang, and its helper process may die: then this process does too, and the next session asks the run
how many rows it has. A session that is told to end sends what is left, and leaves the run unfinished; those after the
experiment's end finish it, and one that found nothing left was the last.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sandbox_api.contract import experiment_folder
from sandbox_api.digest import sha256_of
from sandbox_api.export import EXIT_REFUSED, EXPORT_ENV, ExportContract, decode_export
from sandbox_api.status import Reason

from ..settings import Settings
from ..workspace import CONFIGS, attempts_in
from .journal import Busy, Journal
from .media import media_row, without_files
from .rows import OWN, config_of, roots_of, rows_of
from .sources import Entry, Sizes, new_entries, recipes_of, result_at

DONE, LEFT, BUSY = 0, 10, 11
"""Exit codes: all of it is in the run; another session has to look; another exporter is at work."""
TOLD_ENV = "SANDBOX_EXPORT_TOLD"
"""Set for a session that begins after the exporter was told to end: it sends what is left, and waits for nothing."""
PATIENCE_ENV = "SANDBOX_EXPORT_PATIENCE"
"""Seconds without an answer or a sign of life after which something is taken for dead."""
PATIENCE = 300.0
LOOK_SECONDS = 2.0
ALIVE = "alive"
REFUSAL = re.compile(
    r"\b(?:error|status|code|http)[ :]+(?:401|403)\b|\b(?:(?:un|not )authorized|permission denied|invalid api key)\b",
    re.IGNORECASE,
)
"""What the client says when a server refuses it; the numbers alone may be part of an id."""
BATCH = 500
"""Rows between two signs of life."""


class Refused(Exception):
    """The server will not have us: trying again is of no use until a person changes something."""


def session(environ: Mapping[str, str]) -> int:
    """Run one session; its exit code."""
    contract = decode_export(environ[EXPORT_ENV])
    root = Settings.of(environ).workspace.absolute()
    experiment = root / experiment_folder(contract.experiment.name, contract.experiment.uid)
    told = threading.Event()
    if environ.get(TOLD_ENV):
        told.set()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.set())
    try:
        journal = Journal(experiment / "wandb")
    except Busy as error:
        print(error, file=sys.stderr, flush=True)
        return BUSY
    return Session(contract, root, experiment, journal).run(told)


class Session:
    def __init__(self, contract: ExportContract, root: Path, experiment: Path, journal: Journal) -> None:
        self._contract = contract
        self._root = root
        self._experiment = experiment
        self._journal = journal
        self._row = 0
        """Rows that the run has, or was told."""
        self._defined: set[str] = set()
        self._config: dict[str, Any] = {}
        self._media: list[Entry] = []
        self._sizes, self._config_sizes = Sizes(), Sizes()
        self._run: Any = None

    def run(self, told: threading.Event) -> int:
        self._take_in()
        self._run = self._begin()
        has = self._row = 0 if self._contract.mode == "offline" else int(self._run.starting_step)
        if has > self._journal.rows:
            raise Refused(
                f"the run has {has} rows, the volume knows of {self._journal.rows}: it belongs to another volume;"
                " delete the run, then export again"
            )
        print(f"run: {self._run.url or self._run.dir}", flush=True)
        if again := self._journal.unsent(has):  # their rows stand there, their files may not
            self._journal.append(again)
        left = self._journal.rows - has
        for _, entry in self._journal.after(0, has):  # a run that is opened again has forgotten what was said of them
            if entry.kind == "lines":
                for row in rows_of(self._root, entry):
                    self._define(row)
        is_ended = self._contract.ending is not None
        while True:
            self._replay()
            self._configure()
            alive()
            if is_ended or told.wait(LOOK_SECONDS):
                break
            self._take_in()
        if told.is_set() and not is_ended:
            self._take_in()
            self._replay()
            self._configure()
        return self._end(left if is_ended else 1)

    def _take_in(self) -> None:
        """Give rows to what is new on the volume."""
        ending, journal = self._contract.ending, self._journal
        committed = ending.results.values() if ending is not None else ()
        journal.append(list(new_entries(self._root, self._experiment, journal, committed, self._sizes)))
        if ending is not None and (ending.comparison or ending.ranking):
            entry = Entry("ending", self._contract_name())
            if entry not in journal.entries:
                journal.append([entry])

    def _contract_name(self) -> str:
        """Of this very end: a rerun has another."""
        assert self._contract.ending is not None, "it has ended"
        return sha256_of(self._contract.ending.model_dump(mode="json"))[:10]

    def _begin(self) -> Any:
        """Open the run, as it stands. Raises Refused, or whatever wandb raises."""
        import wandb
        from wandb.errors import AuthenticationError, CommError, UsageError

        contract, is_offline = self._contract, self._contract.mode == "offline"
        folder = self._experiment / "wandb" / "run" if is_offline else Path(os.environ.get("WANDB_DIR", "/tmp/wandb"))
        if is_offline:  # all of it is written anew, so that nothing is there twice
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        self._config = config_of(self._experiment, contract)
        settings = wandb.Settings(
            mode=contract.mode,
            console="off",
            silent=True,
            disable_git=True,
            disable_code=True,
            disable_job_creation=True,
            save_code=False,
            x_disable_meta=True,
            x_disable_stats=True,
            x_disable_machine_info=True,
            x_save_requirements=False,
            x_update_finish_state=contract.ending is not None or is_offline,
            init_timeout=float(os.environ.get(PATIENCE_ENV, PATIENCE)) / 2,
        )
        try:
            run = wandb.init(
                id=contract.run_id,
                resume="allow",
                entity=contract.entity,
                project=contract.experiment.project,
                name=contract.experiment.run,
                group=contract.group,
                dir=str(folder),
                config=self._config,
                settings=settings,
                allow_val_change=True,
            )
        except (AuthenticationError, UsageError) as error:
            raise Refused(str(error)) from error
        except CommError as error:
            if REFUSAL.search(str(error)):
                raise Refused(str(error)) from error
            raise
        run.define_metric(f"{OWN}.*", hidden=True)
        return run

    def _replay(self) -> None:
        """Tell the run every row that it has not."""
        for first, entry in self._journal.after(self._row):
            assert first == self._row, "rows come in order"
            if entry.kind == "start":
                self._log({f"{OWN}.line": "start"})
            elif entry.is_media:
                self._log(self._files(entry))
                self._media.append(entry)
            else:
                for row in rows_of(self._root, entry):
                    self._define(row)
                    self._log(row)

    def _files(self, entry: Entry) -> dict[str, Any]:
        try:
            row = media_row(self._root, entry, self._contract.ending)
        except Exception as error:  # wandb's own, pillow's, a file that is none: the figures go on without it
            print(
                f"{entry.kind} of {entry.source}: left out: {type(error).__name__}: {error}",
                file=sys.stderr,
                flush=True,
            )
            row = {}
        return row or without_files(entry)

    def _log(self, row: dict[str, Any]) -> None:
        try:
            self._run.log(row)
        except (ValueError, TypeError) as error:  # nothing of it was taken
            print(f"row {self._row}: left out: {error}", file=sys.stderr, flush=True)
            self._run.log({f"{OWN}.left_out": str(error)[:1000]})
        self._row += 1
        if self._row % BATCH == 0:
            alive()

    def _define(self, row: Mapping[str, Any]) -> None:
        """Say which figure counts the steps of those that begin alike.

        Never wandb's own step: it must rise, ours need not.
        """
        for root in roots_of(row):
            if root not in self._defined and f"{root}.step" in row:
                self._defined.add(root)
                # step_sync would look for a mapping `root` with a `step` in it, and add a zero where it finds none
                self._run.define_metric(f"{root}.*", step_metric=f"{root}.step", step_sync=False)

    def _configure(self) -> None:
        changed = [self._config_sizes.changed(folder / CONFIGS) for folder in attempts_in(self._experiment)]
        if not any(changed):
            return
        config = config_of(self._experiment, self._contract)
        if news := {name: value for name, value in config.items() if self._config.get(name) != value}:
            self._run.config.update(news, allow_val_change=True)
            self._config |= news

    def _end(self, left: int) -> int:
        """Send what is under way. `left`: rows that the run lacked when the session began."""
        ending = self._contract.ending
        is_last = ending is not None and (left == 0 or self._contract.mode == "offline")
        if ending is not None:
            self._recipes()
            told = {"outcome": ending.outcome, "reason": ending.reason, "message": ending.message[:1000]}
            self._run.summary.update({f"{OWN}.{name}": words for name, words in told.items()})
        alive()
        is_well = ending is None or ending.outcome == "Succeeded" or ending.reason == Reason.PRUNED
        self._run.finish(exit_code=0 if is_well else 1)
        self._journal.files_sent(self._media)
        self._journal.close()
        return DONE if is_last else LEFT

    def _recipes(self) -> None:
        """The refined recipes, as files of the run."""
        sources = dict.fromkeys(entry.source for entry in self._journal.entries if entry.kind == "result")
        for result in filter(None, (result_at(self._root, source) for source in sources)):
            for path in recipes_of(self._root, result):
                named = self._experiment / "wandb" / "recipes" / result.meta_name / path.name
                named.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, named)
                self._run.save(str(named), base_path=str(self._experiment / "wandb"), policy="now")


def alive() -> None:
    """A sign of life to whoever watches over this process."""
    print(ALIVE, flush=True)


def main() -> None:
    try:
        code = session(os.environ)
    except Refused as error:
        print(f"refused: {error}", flush=True)
        code = EXIT_REFUSED
    except ImportError as error:  # what is installed stays as it is while this pod lives
        traceback.print_exc()
        print(f"refused: wandb can't be used here: {error}", flush=True)
        code = EXIT_REFUSED
    except Exception:  # whatever wandb raises, here or in its helper: the next session goes on
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    os._exit(code)  # wandb's exit hooks may wait for a server


if __name__ == "__main__":
    main()
