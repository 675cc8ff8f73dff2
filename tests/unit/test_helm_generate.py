# SPDX-License-Identifier: Apache-2.0
"""The templates of the CRD chart: generated, whole, and noticed when stale."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from helm.generate import ROOT, crd_template, main
from tests.unit.charts import CRDS, render

TRICKY = 'a {{ .Values.x }} template, {{{triple}}}, }} alone, and {{- "quotes" -}}: all "text"\n  on # two lines'


def crd(name: str, description: str) -> str:
    return yaml.safe_dump(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": name, "annotations": {"kept": "also"}},
            "spec": {"description": description},
        }
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout of two CRDs and the chart, nothing generated yet."""
    chart = tmp_path / "helm" / CRDS.name
    shutil.copytree(CRDS, chart, ignore=shutil.ignore_patterns("crd-*"))
    (tmp_path / "crds").mkdir()
    for name in ("ones", "twos"):
        (tmp_path / "crds" / f"{name}.yaml").write_text(crd(name, TRICKY))
    return tmp_path


def test_the_templates_in_the_repository_are_fresh(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"], ROOT) == 0, capsys.readouterr().err


def test_braces_in_a_definition_survive_helm(checkout: Path) -> None:
    assert main([], checkout) == 0
    rendered = [m for m in render(checkout / "helm" / CRDS.name) if m["kind"] == "CustomResourceDefinition"]
    assert [m["spec"]["description"] for m in rendered] == [TRICKY, TRICKY]
    assert rendered[0]["metadata"]["annotations"] == {"kept": "also", "helm.sh/resource-policy": "keep"}


def test_check_names_what_is_stale_and_writes_nothing(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    templates = checkout / "helm" / CRDS.name / "templates"
    assert main(["--check"], checkout) == 1
    assert "crd-ones.yaml is stale: run `make generate`" in capsys.readouterr().err
    assert not list(templates.glob("crd-*"))

    assert main([], checkout) == 0
    assert main(["--check"], checkout) == 0

    (checkout / "crds/ones.yaml").write_text(crd("ones", "changed"))
    assert main(["--check"], checkout) == 1
    told = capsys.readouterr().err
    assert "crd-ones.yaml" in told
    assert "crd-twos.yaml" not in told


def test_the_template_of_a_removed_definition_goes(checkout: Path) -> None:
    assert main([], checkout) == 0
    (checkout / "crds/twos.yaml").unlink()
    assert main(["--check"], checkout) == 1
    assert main([], checkout) == 0
    templates = checkout / "helm" / CRDS.name / "templates"
    assert [path.name for path in templates.glob("crd-*")] == ["crd-ones.yaml"]
    assert (templates / "user-roles.yaml").exists()


def test_a_file_that_is_no_definition_is_refused() -> None:
    with pytest.raises(ValueError, match=r"crds/x\.yaml: not a CustomResourceDefinition"):
        crd_template("kind: ConfigMap\n", "x.yaml")


def test_no_definitions_at_all_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"], tmp_path) == 1
    assert "no CRD" in capsys.readouterr().err
