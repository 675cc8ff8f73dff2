# SPDX-License-Identifier: Apache-2.0
"""Writes the Lua scripts into the keys of Argo CD's own ConfigMap: `python gitops/generate.py` (`make generate`).

The scripts stand in files of their own, in the folders that Argo CD has for scripts which come with it; a cluster that
has Argo CD already gets them by the ConfigMap `argocd-cm`, one key a kind for its health and one for its actions.
"""

from __future__ import annotations

from pathlib import Path

import yaml

FOLDER = Path(__file__).resolve().parent / "argocd"
HEADER = "# Generated from the Lua files beside it by `make generate`; do not edit.\n"
LABELS = {
    "app.kubernetes.io/name": "argocd-cm",
    "app.kubernetes.io/part-of": "argocd",
}
"""Labels without which Argo CD does not read the ConfigMap."""


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as they are."""


def _represent(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent)


def config_map(folder: Path) -> str:
    """The ConfigMap as YAML."""
    data = {}
    for kind in sorted(folder.glob("*/*/health.lua")):
        group, name = kind.parts[-3:-1]
        data[f"resource.customizations.health.{group}_{name}"] = kind.read_text()
        discovery = kind.parent / "actions/discovery.lua"
        if discovery.exists():
            definitions = [
                {"name": action.parent.name, "action.lua": action.read_text()}
                for action in sorted(discovery.parent.glob("*/action.lua"))
            ]
            actions = {"discovery.lua": discovery.read_text(), "definitions": definitions}
            data[f"resource.customizations.actions.{group}_{name}"] = _yaml(actions)
    manifest = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "argocd-cm", "namespace": "argocd", "labels": LABELS},
        "data": data,
    }
    return HEADER + _yaml(manifest)


def _yaml(value: object) -> str:
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)
    return text


def main() -> None:
    (FOLDER / "argocd-cm.yaml").write_text(config_map(FOLDER))


if __name__ == "__main__":
    main()
