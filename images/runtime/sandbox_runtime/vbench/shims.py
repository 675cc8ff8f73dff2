# SPDX-License-Identifier: Apache-2.0
"""Modules that VBench's code imports and that newer packages no longer have. Only what it takes from them is there."""

from __future__ import annotations

import sys
import types
from importlib.util import find_spec
from typing import Any


def install() -> None:
    import packaging.version

    _stand_in("pkg_resources", packaging=packaging)  # openai-clip compares versions of torch with it
    _stand_in("numpy.lib.function_base", disp=print)  # UMT imports what numpy 1 had there, and never calls it


def _stand_in(name: str, **content: Any) -> None:
    if name in sys.modules or find_spec(name) is not None:
        return
    module = types.ModuleType(name)
    vars(module).update(content)
    sys.modules[name] = module
