# SPDX-License-Identifier: Apache-2.0
"""What a spec with mistakes of form says nevertheless, so that its other mistakes are told with them, all at once.

Only what nobody else depends on is set aside: a sentence about the rest must never be due to that.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from sandbox_api.experiment import ExperimentSpec
from sandbox_api.sentences import UNKNOWN_FIELD, meant_field, mistakes

_ALONE = frozenset(
    [
        "accessModes", "affinity", "cache", "comparison", "env", "experimentName", "hpoConfig", "imagePullSecrets",
        "images", "iterTargetsMode", "iterUpdater", "keep", "keepAttempts", "maxParallel", "nodeSelector", "nodes",
        "onFailure", "patch", "priorityClassName", "projectName", "queueName", "rank", "repeats", "rerun", "resources",
        "resultsLost", "retention", "retry", "runAsUser", "runtimeClassName", "schedulerName", "secrets", "shards",
        "sharedMemory", "size", "stop", "storageClassName", "subPath", "suspend", "suspendPolicy", "timeouts",
        "tolerations", "tracking", "trial", "ttlSecondsAfterFinished",
    ]
)  # fmt: skip
"""Fields without which the rest of a spec means what it meant."""
_TABLES = ("pods", "input")
"""What stands right below these is no field, but a name that the spec's author gave."""
_PASSES = 4
"""A misspelt field may hold another one, and what it was meant to be may have a wrong value."""


def what_is_right(raw: Any) -> ExperimentSpec | None:
    """The spec with misspelt fields taken for what they were meant to be, and wrong ones left out.

    None where something is wrong that the rest depends on.
    """
    rest = copy.deepcopy(raw)
    for number in range(_PASSES):
        try:
            return ExperimentSpec.model_validate(rest)
        except ValidationError as error:
            if not all(_set_aside(rest, entry, rename=number < _PASSES - 2) for entry in mistakes(error)):
                return None
    return None


def _set_aside(rest: Any, entry: Any, *, rename: bool) -> bool:
    """Take one mistake out of `rest`; whether that can be done."""
    path: tuple[int | str, ...] = entry["loc"]
    is_unknown = entry["type"] == UNKNOWN_FIELD
    if path[:1] == ("workspace",) and not is_unknown:
        rest["workspace"] = {"claimName": "any"}  # nothing in a spec depends on which it is
        return True
    if not is_unknown:
        names = zip(path, (None, *path), strict=False)
        alone = next((n for n, (part, above) in enumerate(names) if part in _ALONE and above not in _TABLES), None)
        if alone is None:
            return False
        path = path[: alone + 1]
    parent = _at(rest, path[:-1])
    if not isinstance(parent, dict):
        return False
    value = parent.pop(path[-1], None)  # two mistakes may be in one field
    meant = meant_field(path) if is_unknown and rename else None
    if meant is not None:
        parent.setdefault(meant, value)
    return True


def _at(tree: Any, path: tuple[int | str, ...]) -> Any:
    for part in path:
        if isinstance(tree, Mapping):
            tree = tree.get(part)
        else:
            tree = tree[part] if isinstance(tree, list) and isinstance(part, int) else None
    return tree
