# SPDX-License-Identifier: Apache-2.0
"""Writes data for programs: to stdout as it is, without colour, never broken; or to a file."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import typer
import yaml

from .experiments import Ended

Format = Literal["table", "json", "yaml"]


class _Dumper(yaml.SafeDumper):
    """Plain YAML without anchors: a reader should not have to follow them."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def print_data(data: Any, output: Format) -> None:
    """One value, as JSON or else as YAML."""
    if output == "json":
        typer.echo(json.dumps(data, indent=2, ensure_ascii=False))
    else:
        typer.echo(as_yaml(data), nl=False)


def as_yaml(data: Any) -> str:
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def print_manifests(manifests: Iterable[dict[str, Any]], output: Format) -> None:
    """Manifests as kubectl reads them: a List in JSON, else documents in YAML."""
    if output == "json":
        print_data({"apiVersion": "v1", "kind": "List", "items": list(manifests)}, output)
        return
    for manifest in manifests:
        typer.echo("---")
        print_data(manifest, "yaml")


def write_output(path: Path, text: str) -> None:
    """Write what `--output` asks for. Raises Ended when it can't be written."""
    try:
        path.write_text(text, encoding="utf-8")
    except FileNotFoundError:
        raise Ended(f"--output: there is no folder {path.parent}; make it first") from None
    except OSError as error:
        raise Ended(f"--output: {path} can't be written: {(error.strerror or str(error)).lower()}") from error
