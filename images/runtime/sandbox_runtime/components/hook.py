# SPDX-License-Identifier: Apache-2.0
"""The class that a hook is written from, as Data-Juicer's sandbox has it: `hook` works, attributes tell with what.

The order around it is the runtime's: configurations read, inputs placed, paths resolved; then `hook`; then outputs
checked, named and recorded.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..hooks.base import Artifact, HookContext, HookResult
from .base import Watcher
from .config import Config, config_of


class BaseHook:
    """A subclass implements `hook`. What it returns is the outputs: several as a tuple, one as anything else.

    A list of one element is that element. A path of something in `context.out` is a file or folder that the job has
    made; a file of rows, a picture, a model. What `self.watcher` was told last is the job's figures.
    """

    context: HookContext
    meta_name: str
    dj_cfg: Config
    """Data-Juicer's configuration, `input` and `local` in their places; read by key or by attribute."""
    extra_cfg: Any
    """`extraConfigs`, likewise."""
    watcher: Watcher

    def run(self, context: HookContext) -> HookResult:
        self.context, self.meta_name = context, context.contract.job.meta_name
        self.dj_cfg, self.extra_cfg = config_of(context.dj), context.extra
        if isinstance(context.extra, Mapping):
            self.extra_cfg = config_of(context.extra)
        self.watcher = Watcher(context.metrics, context.watcher)
        found = self.hook()
        outputs = list(found) if isinstance(found, tuple) else [found]
        return HookResult([self._output(output) for output in outputs], metrics=self.watcher.last)

    def hook(self, **kwargs: Any) -> Any:
        """The work of it."""
        raise NotImplementedError(f"{type(self).__name__} has no hook")

    def _output(self, value: Any) -> Any:
        if isinstance(value, list) and len(value) == 1:
            (value,) = value
        if isinstance(value, (str, Path)) and str(value):
            path = self.context.out / value
            if path.is_relative_to(self.context.out) and path != self.context.out and path.exists():
                return Artifact(path)
        return str(value) if isinstance(value, Path) else value
