# SPDX-License-Identifier: Apache-2.0
"""The console script `sandbox-runtime`, the entry point of every hook pod. It decides what is imported at all."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .supervisor import Link


def main() -> None:
    parser = argparse.ArgumentParser(prog="sandbox-runtime", description="Runs one job of a sandbox experiment.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run", help="run the job of the contract in SANDBOX_CONTRACT or SANDBOX_CONTRACT_FILE")
    commands.add_parser("version", help="print versions of the runtime and its libraries")
    commands.add_parser("check", help="train a tiny random model with what this image has")
    command = parser.parse_args().command
    if command == "run":
        from .supervisor import supervise

        os.umask(0o002)  # all pods share a group on the volume, not always a user
        supervise(_run)
    if command == "check":
        from .check import check

        print(check())
        return
    from .measures import versions

    for name, version in versions().items():
        print(name, version)


def _run(supervisor: Link) -> int:
    from .run import run  # imports what the supervisor needs not

    return run(os.environ, supervisor)


if __name__ == "__main__":
    main()
