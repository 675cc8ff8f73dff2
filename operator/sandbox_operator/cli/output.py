# SPDX-License-Identifier: Apache-2.0
"""Prints data for programs: to stdout as it is, without colour, never broken."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Literal

import typer
import yaml

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
