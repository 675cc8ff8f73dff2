# SPDX-License-Identifier: Apache-2.0
"""What the name of a trial's parameter means in the configurations of one job.

The planner finds the jobs that a parameter goes to, and takes their names off. What is left is read here, by the
planner and by the pod alike:

* `djConfigs.<key>`, `extraConfigs.<key>`: that key, dots leading into what is nested;
* `<op>.<arg>`: an argument of the recipe's operator `<op>`, of the second one of that name `<op>#2.<arg>`;
* a name without a dot: that key of `djConfigs`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from .words import did_you_mean

ROOTS = ("djConfigs", "extraConfigs")
_OPERATOR = re.compile(r"([^#]+)(?:#([1-9][0-9]{0,8}))?")


def place_of(name: str, dj: Any) -> str:
    """Where a parameter goes, as a target of `local`: `djConfigs.process.0.<op>.<arg>`, `extraConfigs.<key>`.

    `dj` is the job's Data-Juicer configuration. Raises LookupError with a sentence when it has no such operator.
    """
    head, *rest = name.split(".")
    if not head or not all(rest):
        raise LookupError("a part of the name is empty; write <op>.<arg>, or a key after djConfigs. or extraConfigs.")
    if head in ROOTS:
        if not rest:
            raise LookupError(f"name a key, as in {head}.<key>")
        return name
    if not rest:
        return f"djConfigs.{name}"
    names = operators_in(dj)
    wanted = operator_of(head)
    if wanted not in names:
        of_that_name = [name for name in names if name.partition("#")[0] == head.partition("#")[0]]
        raise LookupError(f"the recipe has no operator {head!r}{did_you_mean(head, of_that_name or names)}")
    return ".".join(("djConfigs.process", str(names.index(wanted)), wanted.partition("#")[0], *rest))


def in_order(parameters: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Names and values as they are applied: what holds others before what lies in it, keys before operators' arguments.

    A contract does not keep the order in which they were written.
    """
    return sorted(parameters.items(), key=lambda item: (not is_key(item[0]), item[0].count("."), item[0]))


def is_key(name: str) -> bool:
    """Whether it names a key of a configuration, and no operator's argument."""
    return "." not in name or name.partition(".")[0] in ROOTS


def operator_of(head: str) -> str:
    """An operator as `operators_in` calls it: the first of its name may be written with `#1` as well."""
    match = _OPERATOR.fullmatch(head)
    return match[1] if match is not None and match[2] == "1" else head


def operators_in(dj: Any) -> list[str]:
    """The operators of a recipe as parameters name them, in its order: the second one of a name is `<op>#2`."""
    process = dj.get("process") if isinstance(dj, Mapping) else None
    seen: Counter[str] = Counter()
    names: list[str] = []
    for entry in process if isinstance(process, list) else ():
        op = str(next(iter(entry), "")) if isinstance(entry, Mapping) else str(entry)
        seen[op] += 1
        names.append(op if seen[op] == 1 else f"{op}#{seen[op]}")
    return names
