# SPDX-License-Identifier: Apache-2.0
"""Which images an experiment's pods run on, by the names of the chart's `images`."""

from __future__ import annotations

from collections.abc import Sequence

from sandbox_api.experiment import ExperimentSpec

from ..build.export import IMAGE as EXPORTER_IMAGE
from .job import PlannedJob
from .tracking import wanted

HELPER_IMAGE = "data"
"""Has the runtime in it, for pods that look at the volume where the hook's own image has not (`contract: raw`)."""


def images_of(jobs: Sequence[PlannedJob], spec: ExperimentSpec | None) -> set[str]:
    """Names of the images of hooks, of what works beside them, and of the exporter."""
    found = {job.hook.image for job in jobs}
    found |= {HELPER_IMAGE for job in jobs if job.hook.command}
    return found | ({EXPORTER_IMAGE} if wanted(spec) is not None else set())
