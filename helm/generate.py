# SPDX-License-Identifier: Apache-2.0
"""Write crds/*.yaml as templates of the chart sandbox-operator-crds.

As templates the CRDs are upgraded with the chart, which Helm never does for its `crds/` folder; the keep annotation
lets them, and with them all experiments, survive the chart's removal. Not a template language: nothing but that
annotation and the escaping of braces differs from crds/.

    python helm/generate.py            write the templates
    python helm/generate.py --check    exit 1 when they are not what would be written
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
HEADER = "# Generated from crds/{source} by `make generate`. Do not edit.\n"
PREFIX = "crd-"


def crd_template(text: str, source: str) -> str:
    """The CRD in `text` (YAML) as a Helm template that renders to the same object, kept when the chart goes.

    Raises ValueError when `text` is not one CustomResourceDefinition.
    """
    crd = yaml.safe_load(text)
    if not isinstance(crd, dict) or crd.get("kind") != "CustomResourceDefinition":
        raise ValueError(f"crds/{source}: not a CustomResourceDefinition; move it elsewhere")
    crd["metadata"].setdefault("annotations", {})["helm.sh/resource-policy"] = "keep"
    body: str = yaml.safe_dump(crd, sort_keys=False, width=120, allow_unicode=True)
    # Helm opens a template action at each `{{`; closing braces alone mean nothing to it.
    return HEADER.format(source=source) + body.replace("{{", '{{ "{{" }}')


def templates(root: Path) -> dict[Path, str]:
    """What each generated file should hold."""
    folder = root / "helm/sandbox-operator-crds/templates"
    sources = sorted((root / "crds").glob("*.yaml"))
    if not sources:
        raise ValueError(f"{root / 'crds'}: no CRD (*.yaml) there; run `make generate`, which writes them first")
    return {folder / f"{PREFIX}{path.name}": crd_template(path.read_text(), path.name) for path in sources}


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(description="Write the CRDs as templates of their Helm chart.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a template is stale")
    options = parser.parse_args(arguments)
    try:
        wanted = templates(root)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    present = set((root / "helm/sandbox-operator-crds/templates").glob(f"{PREFIX}*.yaml"))
    changed = [path for path, text in wanted.items() if path not in present or path.read_text() != text]
    orphans = sorted(present - set(wanted))
    if options.check:
        for path in changed + orphans:
            print(f"{path.relative_to(root)} is stale: run `make generate`", file=sys.stderr)
        return 1 if changed or orphans else 0
    for path in changed:
        path.write_text(wanted[path])
    for path in orphans:
        path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
