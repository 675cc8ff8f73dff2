# SPDX-License-Identifier: Apache-2.0
"""From what was measured to a table: each figure with its unit, its aim where there is one, and the floor's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Loads = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Row:
    name: str
    value: float
    unit: str = ""
    floor: float | None = None
    """The same of the floor in the same run."""
    least: float | None = None
    """Aim: at least this."""
    most: float | None = None
    """Aim: at most this."""

    @property
    def aim(self) -> str:
        if self.least is not None:
            return f">= {self.least:g}"
        return f"<= {self.most:g}" if self.most is not None else ""

    @property
    def is_met(self) -> bool:
        return (self.least is None or self.value >= self.least) and (self.most is None or self.value <= self.most)


def rows(loads: Loads) -> Iterator[Row]:
    """The figures that are compared from run to run, as far as their loads were run."""
    for name, hooks in {"one hook": 1, "four hooks": 4, "four hooks, more": 4}.items():
        aims = {"least": 0.7} if name != "four hooks, more" else {}
        yield from _at_once(loads, name, hooks, aims)
    for name in ("one hook, default rates", "four hooks, default rates"):
        yield from _rates(loads, name, {})
    yield from _idle(loads)
    if stored := loads.get("stored"):
        yield Row("stored: ready after", stored["ready after"], "s", most=15)
        yield Row("stored: first Job after", stored["first Job after"], "s")
        yield Row("stored: CPU until then", stored["cpu"]["operator"], "s")
        yield Row("stored: memory", stored["memory"]["peak"], "MiB", most=300)
    yield from _long(loads)
    if items := loads.get("items"):
        yield Row("items: Jobs", items["jobs a minute"], "a minute")
        yield Row("items: operator's CPU", items["operator s a 1000 hooks"], "s a 1000 hooks", most=4)


def _rates(loads: Loads, name: str, aims: dict[str, float]) -> Iterator[Row]:
    if (load := loads.get(name)) and (floor := loads.get(f"floor {name}")):
        yield Row(f"{name}: Jobs", load["jobs a minute"], "a minute", floor["jobs a minute"])
        yield Row(f"{name}: experiments", load["chains a minute"], "a minute", floor["chains a minute"])
        yield Row(f"{name}: share of the floor", load["jobs a minute"] / floor["jobs a minute"], **aims)


def _at_once(loads: Loads, name: str, hooks: int, aims: dict[str, float]) -> Iterator[Row]:
    yield from _rates(loads, name, aims)
    if (load := loads.get(name)) is None:
        return
    experiments = load["chains"]
    if floor := loads.get(f"floor {name}"):
        whole, bare = (sum(of["cpu ms a job"].values()) for of in (load, floor))
        yield Row(f"{name}: CPU of everything", whole, "ms a hook", bare)
    yield Row(f"{name}: operator's CPU", load["operator s a 1000 hooks"], "s a 1000 hooks", most=4)
    yield Row(f"{name}: operator's memory", load["memory"]["peak"], "MiB", most=200)
    yield Row(f"{name}: writes", load["writes"] / experiments, "an experiment", most=2 * hooks + 2)
    yield Row(f"{name}: reads", load["reads"] / experiments, "an experiment")


def _idle(loads: Loads) -> Iterator[Row]:
    if (idle := loads.get("idle")) is None:
        return
    floor = loads.get("floor idle", {}).get("ms", {})
    aims = {
        ("apply to first Job", "p50"): None,
        ("apply to first pod", "p50"): 25,
        ("pod's end to next Job", "p50"): 25,
        ("pod's end to next Job", "p99"): 80,
        ("pod's end to next pod", "p50"): None,
        ("pod's end to next pod", "p99"): None,
        ("last pod's end to Succeeded", "p50"): 25,
    }
    for (what, rank), most in aims.items():
        yield Row(f"idle: {what}, {rank}", idle["ms"][what][rank], "ms", floor.get(what, {}).get(rank), most=most)
    yield Row("idle: writes", idle["writes"] / idle["chains"], "an experiment", most=10)
    yield Row("idle: operator's CPU", idle["operator s a 1000 hooks"], "s a 1000 hooks")


def _long(loads: Loads) -> Iterator[Row]:
    """64 hooks beside 16 times 4 hooks, one experiment at a time, 32 metrics a hook in both."""
    if (long := loads.get("long")) and (short := loads.get("short")):
        for what, key in {"operator's CPU": "operator", "API server's CPU": "kube-apiserver"}.items():
            a, b = long["cpu ms a job"][key], short["cpu ms a job"][key]
            yield Row(f"64 hooks: {what}", a, "ms a hook")
            yield Row(f"  beside 4 hooks: {what}", a / b, "times", most=1.2)
        a, b = long["seconds"] / long["jobs"] * 1000, short["seconds"] / short["jobs"] * 1000
        yield Row("64 hooks: time", a, "ms a hook")
        yield Row("  beside 4 hooks: time", a / b, "times", most=1.2)


def table(result: dict[str, Any]) -> str:
    """The figures, then where the CPU went and what was asked of the API server."""
    found = list(rows(result["loads"]))
    lines = [f"{'':<46}{'measured':>10}  {'':<16}{'floor':>9}  aim"]
    for row in found:
        floor = _number(row.floor) if row.floor is not None else ""
        missed = "" if row.is_met else "  missed"
        lines.append(f"{row.name:<46}{_number(row.value):>10}  {row.unit:<16}{floor:>9}  {row.aim}{missed}")
    for name, load in result["loads"].items():
        if "cpu ms a job" in load:
            spent = ", ".join(f"{part} {_number(ms)}" for part, ms in load["cpu ms a job"].items())
            lines.append(f"\n{name}: CPU in ms a Job: {spent}")
        if "requests" in load:
            per = load["chains"]
            asked = ", ".join(f"{what} {_number(number / per)}" for what, number in load["requests"].items())
            lines.append(f"{name}: requests an experiment: {asked}")
    return "\n".join(lines)


def markdown(result: dict[str, Any]) -> str:
    """The figures as a table of a page."""
    lines = ["| what | aim | measured | floor |", "| --- | --- | --- | --- |"]
    for row in rows(result["loads"]):
        floor = _number(row.floor) if row.floor is not None else ""
        missed = "" if row.is_met else " **missed**"
        lines.append(f"| {row.name.strip()} | {row.aim} | {_number(row.value)} {row.unit}{missed} | {floor} |")
    return "\n".join(lines)


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}" if value >= 1 else f"{value:.2f}"
