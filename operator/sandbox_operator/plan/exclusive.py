# SPDX-License-Identifier: Apache-2.0
"""Forms that exclude each other. The CEL rules hold them as well, but `sandboxctl plan` has no API server."""

from __future__ import annotations

from collections.abc import Iterator

from sandbox_api.experiment import ExperimentSpec, JobLists, Pipeline


def exclusive_problems(spec: ExperimentSpec) -> Iterator[str]:
    """A sentence for each choice that was made twice, or not at all."""
    if (spec.workspace.claim_name is None) == (spec.workspace.claim is None):
        yield "spec.workspace: give either claimName (an existing claim) or claim (one to make)"
    names: set[str] = set()
    for number, volume in enumerate(spec.inputs):
        where = f"spec.inputs[{number}]"
        if (volume.claim_name is None) == (volume.config_map_name is None):
            yield f"{where}: give either claimName or configMapName"
        if volume.sub_path is not None and volume.claim_name is None:
            yield f"{where}.subPath: only an input with claimName has folders; leave it out"
        if volume.name in names:
            yield f"{where}.name: {volume.name!r} is already the name of another input"
        names.add(volume.name)
    lists = [field.alias for name, field in JobLists.model_fields.items() if getattr(spec, name) is not None]
    if spec.pipelines and lists:
        yield f"spec.pipelines: give either the four job lists or pipelines, not both; there is {lists[0]}"
    taken: set[str] = set()
    for number, pipeline in enumerate(spec.pipelines or ()):
        where = f"spec.pipelines[{number}]"
        if pipeline.name in taken or pipeline.name == "item":
            words = "is the name of the forEach's element" if pipeline.name == "item" else "is already another pipeline"
            yield f"{where}.name: {pipeline.name!r} {words}; take another"
        taken.add(pipeline.name)
        yield from _stage_problems(pipeline, where)


def _stage_problems(pipeline: Pipeline, where: str) -> Iterator[str]:
    lists = [field.alias for name, field in JobLists.model_fields.items() if getattr(pipeline, name) is not None]
    if pipeline.stages is not None and lists:
        yield f"{where}.stages: give either the four job lists or stages, not both; there is {lists[0]}"
    names = [stage.name for stage in pipeline.stages or ()]
    for number, name in enumerate(names):
        if name in names[:number]:
            yield f"{where}.stages[{number}].name: {name!r} is already the name of another stage"
