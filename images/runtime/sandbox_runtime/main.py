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
    commands.add_parser("export", help="export the experiment of the contract in SANDBOX_EXPORT to Weights & Biases")
    commands.add_parser("trim", help="remove what the contract in SANDBOX_TRIM names: large files of a sweep's trials")
    commands.add_parser("version", help="print versions of the runtime and its libraries")
    commands.add_parser("check", help="train a tiny random model with what this image has")
    _training(commands.add_parser("train-quality-classifier", help="train one that tells good texts from bad ones"))
    arguments = parser.parse_args()
    command = arguments.command
    if command == "run":
        from .supervisor import supervise

        os.umask(0o002)  # all pods share a group on the volume, not always a user
        supervise(_run)
    if command == "export":
        import sys

        from .tracking.export import export

        os.umask(0o002)
        sys.exit(export(os.environ))
    if command == "trim":
        import sys

        from .trim import trim

        os.umask(0o002)
        sys.exit(trim(os.environ))
    if command == "check":
        from .check import check

        print(check())
        return
    if command == "train-quality-classifier":
        from .quality.command import train

        print(train(arguments))
        return
    from .measures import versions

    for name, version in versions().items():
        print(name, version)


def _training(parser: argparse.ArgumentParser) -> None:
    for kind, words in (
        ("positive", "good texts: .jsonl, .json (also .gz, .zst), .parquet"),
        ("negative", "bad texts"),
    ):
        parser.add_argument(f"--{kind}", nargs="+", required=True, metavar="PATH", help=words)
    parser.add_argument("--output", required=True, metavar="FOLDER", help="where the classifier is written")
    parser.add_argument("--text-key", default="text", metavar="KEY", help="where a row has its text")
    parser.add_argument("--tokenizer", metavar="FILE", help="a model of sentencepiece; default: cut at white space")
    parser.add_argument("--regularization", type=float, default=0.0, metavar="X", help="Spark's regParam; default: 0")
    parser.add_argument("--test-share", type=float, default=0.2, metavar="X", help="kept to test it with; default: 0.2")
    parser.add_argument("--seed", type=int, default=42, help="of what is kept; default: 42")


def _run(supervisor: Link) -> int:
    from .run import run  # imports what the supervisor needs not

    return run(os.environ, supervisor)


if __name__ == "__main__":
    main()
