# SPDX-License-Identifier: Apache-2.0
"""Configurations without what may be secret, for files that many read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

NAMES = re.compile(
    r"(^|[_.-])(api_?key|access_?key(_id)?|secret(_[a-z]+)*|(hf|hub|auth|access|api|bearer)_?token|password|passwd"
    r"|credentials?|authorization)$|(^|\.)token$",
    re.IGNORECASE,
)
ADDRESS = re.compile(
    r"""(?P<scheme>\b[a-z][a-z0-9+.-]*://)(?:[^\s/?#"'@]*@)?(?P<place>[^\s?#"']*)(?:[?#][^\s"']*)?""", re.IGNORECASE
)
"""An address and what may stand around its place: `user:password@`, a query, which may be a signature."""
HIDDEN = "(left out: may be secret)"


def without_secrets(key: str, value: Any) -> Any:
    """A value as others may see it: what is named like a secret is left out, and so is what an address carries."""
    if NAMES.search(key) and value not in (None, "", [], {}):
        return HIDDEN
    if isinstance(value, Mapping):
        return {name: without_secrets(str(name), inner) for name, inner in value.items()}
    if isinstance(value, str):
        return ADDRESS.sub(r"\g<scheme>\g<place>", value)
    return [without_secrets("", item) for item in value] if isinstance(value, (list, tuple)) else value
