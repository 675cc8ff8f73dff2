# SPDX-License-Identifier: Apache-2.0
"""Measures the operator under load beside the floor, prints a table and writes it as JSON. `make bench-scale`.

`python -m tests.bench.scale` runs; `... check` compares the last run with `ranges.yaml`; `... calibrate FILE...` writes
that file from several runs; `... markdown` prints the last run as a table for a page.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from sandbox_operator.kube.client import Client

from .idle import bare_chains, experiments_one_by_one
from .loads import Figures, Loader, bare_jobs_at_once, experiments_at_once
from .plane import REPOSITORY, OperatorProcess, Rates, raised
from .ranges import calibrate, check
from .report import markdown, table
from .specs import four_hooks, items, one_hook, sixty_four_hooks
from .stored import start_with_stored

FOLDER = REPOSITORY / "build/bench-scale"


@dataclass(frozen=True)
class Sizes:
    """How many experiments each load has."""

    one_hook: int = 5000
    four_hooks: int = 500
    four_hooks_fewer: int = 200
    idle: int = 50
    stored: int = 10_000
    long: int = 5
    items: int = 200
    default_rates: int = 300


SMALL = Sizes(one_hook=100, four_hooks=20, four_hooks_fewer=10, idle=5, stored=100, long=1, items=20, default_rates=20)

Load = Callable[[Loader], Awaitable[Figures]]


def loads(sizes: Sizes) -> dict[str, tuple[Rates, Load]]:
    """Every load by name, a floor before what is compared with it."""

    def operated(measure: Callable[..., Awaitable[Figures]], *arguments: object) -> Load:
        async def load(on: Loader) -> Figures:
            async with OperatorProcess(on.plane) as operator:
                return await measure(on, operator, *arguments)

        return load

    found: dict[str, tuple[Rates, Load]] = {}

    def at_once(name: str, rates: Rates, count: int, hooks: int) -> None:
        found[f"floor {name}"] = rates, partial(bare_jobs_at_once, chains=count, length=hooks)
        spec = one_hook if hooks == 1 else four_hooks
        found[name] = rates, operated(experiments_at_once, count, hooks, spec)

    at_once("one hook", "raised", sizes.one_hook, 1)
    at_once("four hooks", "raised", sizes.four_hooks_fewer, 4)
    at_once("four hooks, more", "raised", sizes.four_hooks, 4)
    found["floor idle"] = "raised", partial(bare_chains, count=sizes.idle, length=4)
    found["idle"] = "raised", operated(experiments_one_by_one, sizes.idle, 4, four_hooks)
    found["stored"] = "raised", partial(start_with_stored, count=sizes.stored)
    found["short"] = "raised", operated(experiments_one_by_one, sizes.long * 16, 4, four_hooks, "wide")
    found["long"] = "raised", operated(experiments_one_by_one, sizes.long, 64, sixty_four_hooks, "wide")
    found["items"] = "raised", operated(experiments_at_once, 1, sizes.items, items(sizes.items))
    at_once("one hook, default rates", "default", sizes.default_rates, 1)
    at_once("four hooks, default rates", "default", sizes.default_rates // 4, 4)
    return found


async def measured(options: argparse.Namespace, sizes: Sizes, found: Figures) -> AsyncIterator[Figures]:
    """Run the loads that are not in `found` yet, each on a plane of its own; all there is, after each."""
    folder = options.output.absolute().parent / "plane"
    for name, (rates, load) in loads(sizes).items():
        if name in found or (options.only and name not in options.only):
            continue
        print(f"{datetime.now():%H:%M:%S} {name}", file=sys.stderr, flush=True)
        async with raised(folder, options.port, rates) as plane, Client(plane.admin, field_manager="load") as client:
            on = Loader(plane, client)
            await on.prepare()
            found = {**found, name: await load(on)}
        yield found


async def measure(options: argparse.Namespace, sizes: Sizes) -> Figures:
    """The result of a run. Written after each load: a run that is ended keeps what it has."""
    result: Figures = {"machine": machine(), "sizes": vars(sizes), "loads": {}}
    if options.resume and options.output.is_file():
        earlier = json.loads(options.output.read_text())
        told = {name: earlier["machine"][name] for name in ("commit", "cores")}
        if earlier["sizes"] != vars(sizes) or told.items() - result["machine"].items():
            sys.exit(f"{options.output} is a run of {told} with other sizes or of other code: run without --resume")
        result = earlier
    options.output.parent.mkdir(parents=True, exist_ok=True)
    async for found in measured(options, sizes, result["loads"]):
        result["loads"] = found
        options.output.write_text(json.dumps(result, indent=1) + "\n")
    return result


def machine() -> Figures:
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=REPOSITORY, capture_output=True, text=True)
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load before": os.getloadavg()[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.bench.scale", description=__doc__)
    parser.add_argument("command", nargs="?", choices=("run", "check", "calibrate", "markdown"), default="run")
    parser.add_argument("files", nargs="*", type=Path, help="results of runs, for check and calibrate")
    parser.add_argument("--small", action="store_true", help="sizes for a minute or two: whether it works, no figures")
    parser.add_argument("--only", action="append", default=[], metavar="LOAD", help="one load by name; may be repeated")
    parser.add_argument("--port", type=int, default=17100, help="of the API server; the eight after it are taken too")
    parser.add_argument("--output", type=Path, default=FOLDER / "result.json")
    parser.add_argument("--resume", action="store_true", help="keep the loads that an ended run of this code measured")
    for size in fields(Sizes):
        parser.add_argument(f"--{size.name.replace('_', '-')}", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.command == "check":
        sys.exit(check(options.files or [options.output]))
    if options.command == "calibrate":
        return calibrate(options.files)
    if options.command == "markdown":
        return print(markdown(json.loads((options.files or [options.output])[0].read_text())))
    for number in (signal.SIGTERM, signal.SIGHUP):  # whoever ends it finds no plane left behind
        signal.signal(number, signal.default_int_handler)
    given = {size.name: value for size in fields(Sizes) if (value := getattr(options, size.name)) is not None}
    sizes = Sizes(**{**vars(SMALL if options.small else Sizes()), **given})
    unknown = set(options.only) - set(loads(sizes))
    if unknown:
        parser.error(f"there is no load {', '.join(sorted(unknown))}; there are: {', '.join(loads(sizes))}")
    try:
        print(table(asyncio.run(measure(options, sizes))))
    except KeyboardInterrupt:
        sys.exit(f"ended; what was measured is in {options.output}, and --resume (RESUME=1) goes on from there")
    print(f"\nwritten to {options.output}")
    return None


if __name__ == "__main__":
    main()
