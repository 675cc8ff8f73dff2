# SPDX-License-Identifier: Apache-2.0
"""The classes that components are written from, as Data-Juicer's sandbox has them."""

from __future__ import annotations

import asyncio
import inspect
import math
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..logs import Tee
from ..watched import Found
from .config import config_of

if TYPE_CHECKING:
    from ..hooks.base import HookContext
    from ..metrics import MetricsLog
    from ..watcher import SandboxWatcher, Settings

END_MARKER = "<DJ-Sandbox> End of ModelExecutor's running <DJ-Sandbox>"
"""The log's last line: after it `watch_run` ends."""
POLL_SECONDS = 0.2
MAX_LOG = 1024**3
"""Bytes after which a log begins anew."""


class Watcher:
    """The four verbs for a component, whose keys begin with its job's metaName; last figures go into the result."""

    def __init__(self, log: MetricsLog, verbs: SandboxWatcher) -> None:
        self.last: dict[str, float] = {}
        """The newest value of each figure, without the metaName, finite or not: a result names those that are not."""
        self._prefix = log.prefix
        self._verbs = verbs
        self._steps: dict[str, int] = {}

    def watch(self, result: Any, meta_name: str = "", *, step: int | None = None) -> Any:
        """Keep and return a result, as `SandboxWatcher.watch` does: numbers, texts, tables, mappings and lists of them.

        Keys begin with the job's metaName, whether `meta_name` says it or not. step: of the training; by default it is
        counted for each key.
        """
        own = self._prefix
        if meta_name and meta_name != own:
            own = f"{own}.{meta_name.removeprefix(f'{own}.')}"
        found = Found()
        found.take(result, own)
        found.tell(own)
        keys = found.keys
        if not keys:
            return result
        newest = found.figures | dict.fromkeys(found.left_out, math.nan)
        self.last |= {key.removeprefix(self._prefix).removeprefix("."): value for key, value in newest.items()}
        for key in keys:
            self._steps[key] = step if step is not None else self._steps.get(key, 0) + 1
        self._verbs.keep(found, max(self._steps[key] for key in keys))
        return result

    def watch_cfgs(self, configs: Iterable[tuple[Settings | None, str]]) -> None:
        """As `SandboxWatcher.watch_cfgs`."""
        self._verbs.watch_cfgs(configs)

    def query(self, key: str) -> Any:
        """As `SandboxWatcher.query`."""
        return self._verbs.query(key)

    def setup_sweep(self, hpo_config: Mapping[str, Any] | str | Path, project_name: str | None = None) -> str:
        """As `SandboxWatcher.setup_sweep`."""
        return self._verbs.setup_sweep(hpo_config, project_name)


class BaseModelExecutor:
    """Trains a model, infers with it or evaluates it.

    A subclass implements `_run`, and where figures stand in what it prints, `_watch_run`. `model_config` is what
    `extraConfigs` holds, read by key or by attribute. `work_dir` in it is where the log goes.
    """

    def __init__(self, model_config: Mapping[str, Any], watcher: Any = None) -> None:
        self.model_config = config_of(model_config)
        self.executor: Any = None
        """For subclasses."""
        self.watcher = watcher
        self.context: HookContext | None = None
        """Of the job that it works for: folders, seed, processors."""
        self.log_path: Path | None = None
        """Of the run that is under way, or was the last."""
        self._ended = threading.Event()

    def for_job(self) -> HookContext:
        """The job that it works for. Raises RuntimeError outside of one."""
        if self.context is None:
            raise RuntimeError(f"{type(self).__name__} runs as part of a job only")
        return self.context

    async def run(self, run_type: str, run_obj: Any = None, **kwargs: Any) -> Any:
        """Do it, with everything that is printed in a log of its own, and watched while it is written.

        run_type: the component's `type`. run_obj: what it works on; most need none. Returns what `_run` returns, or the
        work folder. What `_run` raises is raised when the watching has ended.
        """
        folder = Path(self.model_config.get("work_dir") or ".")
        folder.mkdir(parents=True, exist_ok=True)
        self.log_path = folder / f"model_exe_{run_type}_{time.strftime('%Y%m%d%H%M%S')}.log"
        self._ended.clear()
        tee = Tee(self.log_path, half=MAX_LOG)
        watching = threading.Thread(target=self._watch, args=(run_type, run_obj, kwargs), name="watch", daemon=True)
        watching.start()
        try:
            # `_run` blocks, as trainers do, and it must be in the main thread, where a job is told to end.
            returned = self._run(run_type, run_obj, **kwargs)
            result = await returned if inspect.isawaitable(returned) else returned
            print(END_MARKER, flush=True)
        finally:
            tee.close()
            self._ended.set()
            watching.join()
        return folder if result is None else result

    def _run(self, run_type: str, run_obj: Any = None, **kwargs: Any) -> Any:
        """What the component does; may be `async`."""
        raise NotImplementedError(f"{type(self).__name__} has no _run")

    def run_subprocess(self, script_path: str, run_args: Iterable[Any], working_dir: str, cmd: str = "bash") -> None:
        """Run `<cmd> <script_path> <run_args>`. Raises CalledProcessError when it fails."""
        subprocess.run([cmd, script_path, *map(str, run_args)], cwd=working_dir, check=True)

    async def watch_run(self, run_type: str, run_obj: Any = None, **kwargs: Any) -> None:
        """Follow the log while `_run` works, in a thread of its own, and hand each line to `_watch_run`."""
        async for line in self.log_lines():
            watched = self._watch_run(line, **kwargs)
            if inspect.isawaitable(watched):
                await watched

    def _watch_run(self, line: str, **kwargs: Any) -> Any:
        """Find figures in one line of the log, and give them to `self.watcher`; may be `async`."""

    def _watch(self, run_type: str, run_obj: Any, kwargs: Mapping[str, Any]) -> None:
        try:
            asyncio.run(self.watch_run(run_type, run_obj, **kwargs))
        except Exception as error:  # hours of training are worth more than their curve
            print(f"{type(self).__name__} no longer watches its log: {type(error).__name__}: {error}", flush=True)

    def data_connector(self, input_data: Any, **kwargs: Any) -> Any:
        """The data set as the framework wants it; `input_data` as the sandbox has it (a path, rows)."""
        raise NotImplementedError(f"{type(self).__name__} has no data_connector")

    async def log_lines(self) -> AsyncIterator[str]:
        """The log's lines as they are written, until its end marker, or until the run has ended without one."""
        assert self.log_path is not None, "there is a log once `run` was called"
        with self.log_path.open("rb") as file:
            rest = b""
            while True:
                ended = self._ended.is_set()  # before reading: what is read then is all
                chunk = file.read(65536)
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    text = line.decode(errors="replace")
                    if text.endswith(END_MARKER):
                        if before := text.removesuffix(END_MARKER):
                            yield before
                        return
                    yield text
                if not chunk:
                    if ended:
                        if rest:
                            yield rest.decode(errors="replace")
                        return
                    await asyncio.sleep(POLL_SECONDS)


class BaseEvaluator:
    """Evaluates something and returns a number, figures by name (the first is the most important), the two of
    `([each data set's figures], the best)` as the sandbox's own do, or a whole `HookResult`."""

    def __init__(self, eval_config: Mapping[str, Any], watcher: Any = None) -> None:
        self.eval_config = config_of(eval_config)
        self.watcher = watcher
        self.context: HookContext | None = None
        """Of the job that it works for: folders, seed, processors."""

    def for_job(self) -> HookContext:
        """The job that it works for. Raises RuntimeError outside of one."""
        if self.context is None:
            raise RuntimeError(f"{type(self).__name__} runs as part of a job only")
        return self.context

    def run(self, eval_type: str, eval_obj: Any = None, **kwargs: Any) -> Any:
        """eval_type: kind of evaluation, where an evaluator knows several. eval_obj: what is evaluated."""
        raise NotImplementedError(f"{type(self).__name__} has no run")


class BaseDataPoolManipulator:
    """Works on the data sets that its settings name, and returns the path of what it has written below `export_path`, a
    list of such paths, or a whole `HookResult`. Rankings and conversions are written from it as well."""

    def __init__(self, data_pool_cfg: Mapping[str, Any]) -> None:
        self.data_pool_cfg = config_of(data_pool_cfg)
        self.context: HookContext | None = None
        """Of the job that it works for: folders, seed, processors."""

    def for_job(self) -> HookContext:
        """The job that it works for. Raises RuntimeError outside of one."""
        if self.context is None:
            raise RuntimeError(f"{type(self).__name__} runs as part of a job only")
        return self.context

    def run(self) -> Any:
        """The work of it."""
        raise NotImplementedError(f"{type(self).__name__} has no run")
