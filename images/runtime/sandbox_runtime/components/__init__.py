# SPDX-License-Identifier: Apache-2.0
"""Components: what a hook with kinds chooses by `type`, and the classes that one of your own is written from.

The names are those of the Data-Juicer sandbox's developer guide; a subclass written for its classes runs here when they
are imported from here. What differs is what did not work there: lines are watched while `_run` works, what child
processes print is in the log too, and an error ends the job.
"""

from .base import BaseEvaluator, BaseModelExecutor, Watcher
from .config import Config, config_of
from .factories import FACTORIES, Factory, factory
from .hook import BaseHook

__all__ = [
    "FACTORIES",
    "BaseEvaluator",
    "BaseHook",
    "BaseModelExecutor",
    "Config",
    "Factory",
    "Watcher",
    "config_of",
    "factory",
]
