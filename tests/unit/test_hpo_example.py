# SPDX-License-Identifier: Apache-2.0
"""The guide's example of automatic tuning, as it is applied, and the table that is printed of it."""

import json
import subprocess
import sys
from pathlib import Path

import yaml

from sandbox_operator.plan.sweep_definition import compile_sweep

HPO = Path(__file__).resolve().parents[2] / "configs/hpo"


def test_the_search_is_sound_and_looks_for_the_classifiers_figure() -> None:
    sweep = yaml.safe_load((HPO / "sweep.yaml").read_text())
    compiled = compile_sweep(sweep["spec"], name="hpo", uid="any")

    assert (compiled.problems, compiled.warnings) == ((), ())
    assert (compiled.objective, compiled.max_trials) == ("quality.mean", 12)


def test_the_table_marks_the_best_trial_and_has_room_for_one_that_failed() -> None:
    rows = [
        {"number": 0, "state": "Succeeded", "value": 0.75, "parameters": {"a.b": 1}},
        {"number": 1, "state": "Failed", "parameters": {"a.b": 2}},
    ]
    status = {"objective": "quality.mean", "best": {"trial": 0}, "trials": rows}
    text = json.dumps({"status": status})
    made = subprocess.run([sys.executable, HPO / "table.py"], input=text, capture_output=True, text=True, check=True)

    assert made.stdout.splitlines() == [
        "trial  state      quality.mean  a.b",
        "0 *    Succeeded  0.7500        1",
        "1      Failed     -             2",
    ]
