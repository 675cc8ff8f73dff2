# SPDX-License-Identifier: Apache-2.0
"""Asks what `gitops/` ships as Argo CD and Flux ask it: Lua scripts over a resource, CEL expressions over a resource."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lupa.lua51
import yaml
from cel import Context, evaluate

GITOPS = Path(__file__).parents[1] / "gitops"
KINDS = GITOPS / "argocd/sandbox.datajuicer.io"
HEALTHS = ("Healthy", "Progressing", "Degraded", "Suspended")
_LIBRARIES = ("string", "math", "io", "debug", "os", "dofile", "loadfile", "collectgarbage", "newproxy", "jit", "bit")

Manifest = dict[str, Any]


class Lua:
    """Argo CD's interpreter: Lua 5.1 with the base library, `table` and, by `require`, `os.time` and `os.date`; the
    resource is the global `obj`."""

    def __init__(self) -> None:
        self._lua = lupa.lua51.LuaRuntime(unpack_returned_tuples=True, register_eval=False, register_builtins=False)
        clock = (
            "local time, date = os.time, os.date\npackage.preload.os = function() return {time = time, date = date} end"
        )
        self._lua.execute(f"{clock}\npackage.loaded.os = nil\npackage.loaders[2] = nil\ngetmetatable('').__index = nil")
        for name in _LIBRARIES:
            self._lua.globals()[name] = None

    def run(self, script: str, obj: Manifest) -> Any:
        """What a script returns, as JSON has it; an empty table is a list, as in Argo CD."""
        self._lua.globals()["obj"] = self._table(obj)
        return self._plain(self._lua.execute(script))

    def _table(self, value: Any) -> Any:
        if isinstance(value, dict):
            return self._lua.table_from({key: self._table(item) for key, item in value.items()})
        if isinstance(value, list):
            return self._lua.table_from([self._table(item) for item in value])
        return value

    def _plain(self, value: Any) -> Any:
        if lupa.lua51.lua_type(value) == "table":
            items = dict(value.items())
            if all(isinstance(key, int) for key in items):
                assert set(items) == set(range(1, len(items) + 1)), "a list with holes is no JSON"
                return [self._plain(items[number]) for number in sorted(items)]
            assert all(isinstance(key, str) for key in items), "a table of both kinds is no JSON"
            return {key: self._plain(item) for key, item in items.items()}
        assert value is None or isinstance(value, str | int | float | bool), f"{value!r} is no JSON"
        return value


def health(obj: Manifest, scripts: Path = KINDS) -> Manifest:
    """`{status, message}` of a resource, as Argo CD shows it."""
    said: Manifest = Lua().run((scripts / obj["kind"] / "health.lua").read_text(), obj)
    assert said["status"] in HEALTHS, said
    return said


def actions(obj: Manifest) -> dict[str, bool]:
    """The actions that a resource has in Argo CD, and whether each can be chosen."""
    script = KINDS / obj["kind"] / "actions/discovery.lua"
    return {name: not about["disabled"] for name, about in Lua().run(script.read_text(), obj).items()}


def acted(obj: Manifest, action: str) -> Manifest:
    """What an action makes of a resource. What is empty stays as it was: Lua has one kind of empty table, and Argo CD mends it."""
    made = Lua().run((KINDS / obj["kind"] / "actions" / action / "action.lua").read_text(), obj)
    mended: Manifest = _mended(made, obj)
    return mended


def _mended(new: Any, old: Any) -> Any:
    if new == [] and old == {}:
        return old
    if isinstance(new, dict) and isinstance(old, dict):
        return {key: _mended(value, old.get(key)) for key, value in new.items()}
    if isinstance(new, list) and isinstance(old, list):
        return [_mended(value, old[at] if at < len(old) else None) for at, value in enumerate(new)]
    return new


def flux(obj: Manifest) -> str:
    """What Flux takes a resource for: `InProgress`, `Failed` or `Current`; `Waiting` where an expression names what is not
    there, which for Flux is no answer yet. The order is its own (RFC 0009)."""
    patch = yaml.safe_load((GITOPS / "flux/health-checks.yaml").read_text())
    (check,) = [check for check in patch["spec"]["healthCheckExprs"] if check["kind"] == obj["kind"]]
    assert check["apiVersion"] == obj["apiVersion"]
    observed = (obj.get("status") or {}).get("observedGeneration")
    if observed is not None and observed != obj["metadata"]["generation"]:
        return "InProgress"
    try:
        for state, expression in (("InProgress", "inProgress"), ("Failed", "failed"), ("Current", "current")):
            said = evaluate(check[expression], Context(variables=json.loads(json.dumps(obj))))
            assert isinstance(said, bool), f"{check['kind']}.{expression}: {said!r}"
            if said:
                return state
    except RuntimeError:
        return "Waiting"
    return "InProgress"
