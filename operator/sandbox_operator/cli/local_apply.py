# SPDX-License-Identifier: Apache-2.0
"""What applying an experiment again may change: the API server's rule for stored experiments, for a local run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sandbox_api.crd import ALWAYS_MUTABLE
from sandbox_api.status import ExperimentStatus

from .experiments import Ended
from .local_folder import Stored, new_experiment
from .offline import Experiment


def applied(experiment: Experiment, stored: Stored | None, status: ExperimentStatus) -> Stored:
    """The experiment as it stands after `experiment` is applied. Raises Ended when it may not be changed so.

    Once started, only the always mutable fields may change; with a new rerun token, on a finished or suspended
    experiment, its jobs may as well. The claim never may.
    """
    if stored is None:
        return new_experiment(experiment)
    if experiment.name != stored.name:
        raise Ended(f"the folder holds a run of {stored.name!r}, not of {experiment.name!r}; take another --folder")
    if experiment.spec == stored.spec:
        return stored
    changed = sorted(_changes(stored.spec, experiment.spec))
    over = status.completion_time is not None or stored.spec.get("suspend") is True
    new_token = experiment.spec.get("rerun") is not None and experiment.spec["rerun"] != stored.spec.get("rerun")
    if status.start_time is not None:
        if _claim(experiment.spec) != _claim(stored.spec):
            raise Ended(
                "spec.workspace: the run has started on another claim, which holds its results; set it back, or take"
                " another --folder"
            )
        frozen = [] if new_token and over else [name for name in changed if name not in ALWAYS_MUTABLE]
        if frozen:
            raise Ended(
                f"spec.{frozen[0]}: was changed, and the run has started; change it together with spec.rerun.token,"
                " or take another --folder"
            )
    return replace(stored, generation=stored.generation + 1, spec=experiment.spec)


def suspended(stored: Stored) -> Stored:
    """As `sandboxctl suspend --now` does it."""
    spec = {**stored.spec, "suspend": True, "suspendPolicy": "Now"}
    return replace(stored, generation=stored.generation + 1, spec=spec)


def _claim(spec: Mapping[str, Any]) -> tuple[Any, Any]:
    workspace = spec.get("workspace")
    given = workspace if isinstance(workspace, Mapping) else {}
    return given.get("claimName"), given.get("claim")


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> set[str]:
    """Names of the fields that differ; how long a claim is kept may always change."""

    def plain(spec: Mapping[str, Any]) -> dict[str, Any]:
        workspace = spec.get("workspace")
        kept = {k: v for k, v in workspace.items() if k != "retention"} if isinstance(workspace, Mapping) else workspace
        return {**spec, "workspace": kept}

    before, after = plain(old), plain(new)
    return {name for name in {*before, *after} if before.get(name) != after.get(name)}
