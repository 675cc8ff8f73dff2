# SPDX-License-Identifier: Apache-2.0
"""Python code that lies in a model's folder. ms-swift lets it run in many places, each for itself; so it is stopped
where all of them ask: in transformers, before a folder's code is imported.
"""

from __future__ import annotations

import sys
from typing import Any

import transformers.dynamic_module_utils as dynamic

from ..errors import ConfigError

_ASKED = "resolve_trust_remote_code"
_may_run = dynamic.resolve_trust_remote_code


def forbid_code_in_folders() -> None:
    """For this process. A model whose class transformers has is loaded as that; another one raises ConfigError."""
    for module in list(sys.modules.values()):
        if vars(module).get(_ASKED) is _may_run:  # those that import it later get it from the first
            setattr(module, _ASKED, _never)


def _never(_asked: bool | None, model: Any, *more: Any, **named: Any) -> bool:
    try:
        return bool(_may_run(False, model, *more, **named))
    except ValueError as error:
        raise ConfigError(
            "extraConfigs.trust_remote_code: the model is none without the Python code in its folder, which does not"
            " run; say true when you trust it"
        ) from error
