# SPDX-License-Identifier: Apache-2.0
"""What Data-Juicer's registry says of its operators: arguments, defaults, statistics, and the executors each
one runs on.

Read from the classes themselves, so that operators of a user (`custom_operator_paths`) are known too. No
operator is made: many load a model in their constructor.
"""

import inspect
import re
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from .bounds import Argument

# An operator's statistics are the keys it writes, which its source names in one of these two ways.
STATISTIC = re.compile(r"""StatsKeys\.(\w+)|\[Fields\.stats\]\[["'](\w+)["']\]""")


def registry() -> Mapping[str, type]:
    """Return every registered operator by name. Takes seconds the first time: Data-Juicer imports all of
    them.
    """
    import data_juicer.ops
    from data_juicer.ops.base_op import OPERATORS

    assert data_juicer.ops  # its import fills the registry
    return dict(OPERATORS.modules)


def kind(operator: type) -> str:
    """Return `filter`, `mapper`, `deduplicator`, `selector`, `grouper`, `aggregator` or `pipeline`."""
    from data_juicer.ops import Aggregator, Deduplicator, Filter, Grouper, Mapper, Pipeline, Selector

    for base in (Filter, Mapper, Deduplicator, Selector, Grouper, Aggregator, Pipeline):
        if issubclass(operator, base):
            return str(base.__name__).lower()
    return "operator"


def executors(operator: type) -> tuple[str, ...]:
    """Return the executor types that the operator supports."""
    return tuple(getattr(operator, "_supported_exec_modes", ("default",)))


def own_arguments(operator: type) -> dict[str, inspect.Parameter]:
    """Return the arguments that the operator's classes declare, without those that every operator has."""
    from data_juicer.ops import base_op

    found: dict[str, inspect.Parameter] = {}
    for cls in inspect.getmro(operator):
        if cls.__module__ == base_op.__name__ or "__init__" not in cls.__dict__:
            continue
        for name, parameter in inspect.signature(cls.__dict__["__init__"]).parameters.items():
            if name != "self" and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                found.setdefault(name, parameter)
    return found


def common_arguments(operator: type) -> dict[str, Any]:
    """Return the arguments that the operator shares with all of its kind, with their defaults."""
    found: dict[str, Any] = {}
    for cls in inspect.getmro(operator):
        for name, (_, default) in cls.__dict__.get("_BASE_PARAMS", {}).items():
            found.setdefault(name, default)
    return found


def statistics(operator: type, arguments: Mapping[str, Any]) -> frozenset[str]:
    """Return the names of the statistics that a filter writes when it runs with `arguments`."""
    from data_juicer.ops import NON_STATS_FILTERS, Filter, base_op

    if not issubclass(operator, Filter) or getattr(operator, "_name", "") in NON_STATS_FILTERS.modules:
        return frozenset()
    found: set[str] = set()
    for cls in inspect.getmro(operator):
        if cls is object or cls.__module__ == base_op.__name__:
            break
        found = {match[1] or match[2] for match in STATISTIC.finditer(inspect.getsource(cls))}
        if found:  # a class that names statistics replaces those of the class it extends
            break
    if {"alnum_ratio", "alpha_token_ratio"} <= found:  # the one operator that writes either, by an argument
        found.remove("alnum_ratio" if arguments.get("tokenization") else "alpha_token_ratio")
    return frozenset(found)


def keeps_within_bounds(name: str) -> bool:
    """Whether a filter keeps rows whose statistic is within its bounds, as filters do by Data-Juicer's own method.

    Others use a `min_...` in a way of their own, such as for what their detector may see.
    """
    from data_juicer.ops import base_op

    own = [cls for cls in inspect.getmro(registry()[name]) if cls is not object and cls.__module__ != base_op.__name__]
    return any("self.get_keep_boolean(" in inspect.getsource(cls) for cls in own)


def _type_name(parameter: inspect.Parameter) -> str:
    annotation = parameter.annotation
    if annotation in (int, float, str, bool):
        return str(annotation.__name__)
    if getattr(annotation, "__name__", "") in ("PositiveInt", "NonNegativeInt"):
        return "int"
    if getattr(annotation, "__name__", "") in ("ClosedUnitInterval", "PositiveFloat", "NonNegativeFloat"):
        return "float"
    if (
        typing.get_origin(annotation) is None
        and isinstance(parameter.default, int | float)
        and not isinstance(parameter.default, bool)
    ):
        return type(parameter.default).__name__
    return "other"


def op_statistics(
    process: Sequence[Mapping[str, Any]],
) -> tuple[dict[str, frozenset[str]], dict[str, dict[str, Argument]]]:
    """Return, for each filter in `process`, its statistics and its arguments, as `bounds_of` takes them.

    Unknown operators are left out; `config.preflight` refuses them.
    """
    known = registry()
    op_stats: dict[str, frozenset[str]] = {}
    op_args: dict[str, dict[str, Argument]] = {}
    for entry in process:
        for name, arguments in entry.items():
            if name not in known:
                continue
            found = statistics(known[name], arguments or {})
            if found:
                op_stats[name] = op_stats.get(name, frozenset()) | found
                op_args[name] = {
                    arg: Argument(
                        _type_name(parameter), None if parameter.default is parameter.empty else parameter.default
                    )
                    for arg, parameter in own_arguments(known[name]).items()
                }
    return op_stats, op_args
