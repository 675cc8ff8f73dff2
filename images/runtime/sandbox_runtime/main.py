# SPDX-License-Identifier: Apache-2.0
"""The console script `sandbox-runtime`, the entry point of every hook pod. It decides what is imported at all."""

from __future__ import annotations

import argparse
import os
import signal
import sys


def main() -> None:
    parser = argparse.ArgumentParser(prog="sandbox-runtime", description="Runs one job of a sandbox experiment.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run", help="run the job of the contract in SANDBOX_CONTRACT or SANDBOX_CONTRACT_FILE")
    commands.add_parser("version", help="print versions of the runtime and its libraries")
    commands.add_parser("check", help="train a tiny random model with what this image has")
    command = parser.parse_args().command
    if command == "run":
        # process 1 of a container ignores SIGTERM until somebody listens, and the imports take a while
        signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
        from .run import run

        code = run(os.environ)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # threads and exit handlers that libraries leave behind must not hold the pod or change its code
    if command == "check":
        from .check import check

        print(check())
        return
    from .measures import versions

    for name, version in versions().items():
        print(name, version)


if __name__ == "__main__":
    main()
