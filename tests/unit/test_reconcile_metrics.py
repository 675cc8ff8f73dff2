# SPDX-License-Identifier: Apache-2.0
"""What the registry shows is what it describes, and no label can grow without bound."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from sandbox_operator.reconcile.figures import all_metrics
from sandbox_operator.reconcile.metrics import Metrics

ROOT = Path(__file__).resolve().parents[2]
OPERATE = (ROOT / "docs/how-to/operate.md").read_text()
SUFFIXES = ("_bucket", "_count", "_sum", "_created")


def shown(metrics: Metrics) -> dict[str, set[str]]:
    """Labels by the name of each figure that is shown, a histogram's parts under its own name."""
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(metrics.text().decode()):
        name = family.name + ("_total" if family.type == "counter" else "")
        found.setdefault(name, set()).update(
            label for sample in family.samples for label in sample.labels if label != "le"
        )
    return {name: labels for name, labels in found.items() if name.startswith("sandbox_operator_")}


def test_everything_that_is_counted_is_described() -> None:
    metrics = Metrics()
    described = {this.name: set(this.labels) for this in metrics.describe()}
    assert shown(metrics) == described


def test_every_value_of_a_closed_label_is_shown_from_the_start() -> None:
    text = Metrics().text().decode()
    assert 'sandbox_operator_reconciles_total{outcome="mistake"} 0.0' in text
    assert 'sandbox_operator_jobs_total{outcome="Failed",stage="evaluation"} 0.0' in text
    assert 'sandbox_operator_gpu_seconds_total{outcome="wasted",stage="other"} 0.0' in text


def test_no_label_names_what_users_name() -> None:
    labels = {label for this in all_metrics().describe() for label in this.labels}
    assert labels == {"outcome", "kind", "stage", "verb", "resource", "code", "version"}


def test_the_page_for_operators_names_only_figures_that_there_are() -> None:
    names = {this.name for this in all_metrics().describe()}
    told = {
        re.sub("|".join(f"{suffix}$" for suffix in SUFFIXES), "", name)
        for name in re.findall(r"sandbox_operator_\w+", OPERATE)
    }
    assert told
    assert told <= names, told - names
