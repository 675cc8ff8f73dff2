# SPDX-License-Identifier: Apache-2.0
"""Writes quantiles.json: what W&B's own library gives for each distribution at coordinates of [0, 1].

Run it in an environment of its own, as the library wants an older numpy than this project has:

    pip install sweeps==0.3.0
    python tests/golden/sweep/make_quantiles.py

It also writes which rungs the library makes of the keys of early_terminate.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
from sweeps import RunState, SweepRun
from sweeps.hyperband_stopping import hyperband_stop_runs
from sweeps.params import HyperParameterSet

HERE = Path(__file__).parent
COORDINATES = [
    1e-12,
    0.001,
    0.01,
    0.1,
    0.2,
    0.25,
    0.3,
    0.37,
    0.42,
    0.5,
    0.61803,
    0.7,
    0.75,
    0.9,
    0.987,
    0.999,
    1 - 1e-12,
]
PARAMETERS = {
    "constant": {"value": 7},
    "constant named": {"distribution": "constant", "value": "x"},
    "categorical": {"values": ["a", "b", "c"]},
    "categorical of Data-Juicer": {"values": [2, 4, 8, 16]},
    "categorical named": {"distribution": "categorical", "values": [0.3, None, True]},
    "with probabilities": {"values": ["a", "b", "c"], "probabilities": [0.2, 0.5, 0.3]},
    "with probabilities named": {
        "distribution": "categorical_w_probabilities", "values": [1, 2], "probabilities": [0.9, 0.1],
    },
    "min and max, integers": {"min": -3, "max": 8},
    "min and max, numbers": {"min": -0.5, "max": 2.5},
    "min and max, one a number": {"min": 0, "max": 2.5},
    "int_uniform": {"distribution": "int_uniform", "min": 1, "max": 100},
    "uniform": {"distribution": "uniform", "min": 0, "max": 1},
    "q_uniform": {"distribution": "q_uniform", "min": 0, "max": 10},
    "q_uniform by 0.1": {"distribution": "q_uniform", "min": 0.0, "max": 1.0, "q": 0.1},
    "q_uniform past its bounds": {"distribution": "q_uniform", "min": 1, "max": 11, "q": 4},
    "log_uniform": {"distribution": "log_uniform", "min": -9.2, "max": 1.5},
    "log_uniform_values": {"distribution": "log_uniform_values", "min": 1e-5, "max": 0.1},
    "q_log_uniform": {"distribution": "q_log_uniform", "min": 0, "max": 6, "q": 5},
    "q_log_uniform_values": {"distribution": "q_log_uniform_values", "min": 1, "max": 1000, "q": 0.5},
    "q_log_uniform_values of Data-Juicer": {"distribution": "q_log_uniform_values", "min": 256, "max": 8192},
    "inv_log_uniform": {"distribution": "inv_log_uniform", "min": -2, "max": 3},
    "inv_log_uniform_values": {"distribution": "inv_log_uniform_values", "min": 0.01, "max": 10},
    "normal": {"distribution": "normal"},
    "normal of 3 and 2.5": {"distribution": "normal", "mu": 3, "sigma": 2.5},
    "q_normal": {"distribution": "q_normal", "mu": 10, "sigma": 4},
    "q_normal by 0.25": {"distribution": "q_normal", "mu": 0, "sigma": 1, "q": 0.25},
    "log_normal": {"distribution": "log_normal"},
    "log_normal of -1 and 0.5": {"distribution": "log_normal", "mu": -1, "sigma": 0.5},
    "q_log_normal": {"distribution": "q_log_normal", "mu": 2, "sigma": 1, "q": 2},
    "beta": {"distribution": "beta"},
    "beta of 2 and 5": {"distribution": "beta", "a": 2, "b": 5},
    "q_beta": {"distribution": "q_beta", "a": 2, "b": 2, "q": 0.2},
}  # fmt: skip
EARLY = [
    {"max_iter": 27, "s": 2},
    {"max_iter": 27, "s": 3, "eta": 3},
    {"max_iter": 100, "s": 4, "eta": 2.5},
    {"max_iter": 5, "s": 9, "eta": 2},
    {"min_iter": 3},
    {"min_iter": 10, "eta": 2},
    {"min_iter": 1, "eta": 1.5},
]


def quantiles(parameter: dict) -> list:
    (made,) = HyperParameterSet.from_config({"p": parameter})
    return [made.ppf(np.float64(x)) for x in COORDINATES]


def bands(keys: dict) -> list[int]:
    """Which bands a run of a thousand steps is told of; the library computes them nowhere else."""
    run = SweepRun(name="a", state=RunState.running, history=[{"loss": 1.0}] * 1000)
    hyperband_stop_runs([run], {"metric": {"name": "loss"}, "early_terminate": {"type": "hyperband", **keys}})
    return [band for band in run.early_terminate_info["bands"] if band < 2**53]


def plain(value: object) -> object:
    if isinstance(value, np.ndarray | np.generic):
        value = value.item()
    assert not isinstance(value, float) or math.isfinite(value)
    return value


def main() -> None:
    made = {
        "library": "sweeps 0.3.0",
        "coordinates": COORDINATES,
        "parameters": [
            {"name": name, "parameter": parameter, "values": [plain(value) for value in quantiles(parameter)]}
            for name, parameter in PARAMETERS.items()
        ],
        "bands": [{"early_terminate": keys, "bands": bands(keys)[:64]} for keys in EARLY],
    }
    (HERE / "quantiles.json").write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main()
