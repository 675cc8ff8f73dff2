# SPDX-License-Identifier: Apache-2.0
"""What real hooks depend on: a result is used again exactly where their data, recipes and pictures are as they were."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.hook_pod import Ended, HookPod, job_contract

from sandbox_api.contract import ExperimentRef, JobContract
from sandbox_runtime.media import KEYS, MediaDigest, media_look

KEY = "k" * 64
LATER = ExperimentRef(name="demo", namespace="lab", uid="9a8b7c6d-0000", project="lab", run="demo")
RECIPE = [{"image_shape_filter": {"min_width": 8}}]


def picture(path: Path, width: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, 10), "red").save(path)
    return path


def rows_of(pod: HookPod) -> list[dict[str, Any]]:
    """Rows that name pictures of 4, 8 and 12 pixels, relative to the data set."""
    for width in (4, 8, 12):
        picture(pod.inputs / "raw" / "pictures" / f"{width}.png", width)
    return [{"text": "<__dj__image> x", "images": [f"pictures/{width}.png"]} for width in (4, 8, 12)]


@pytest.fixture
def pictures(hook_pod: HookPod) -> HookPod:
    path = hook_pod.inputs / "raw" / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows_of(hook_pod)))
    (hook_pod.inputs / "recipe.yaml").write_text(
        f"dataset_path: inputs/raw/rows.jsonl\nprocess: {json.dumps(RECIPE)}\n"
    )
    return hook_pod


def processing(**more: Any) -> JobContract:
    return job_contract("ProcessDataHook", dj="inputs/recipe.yaml", meta_name="process", cache_key=KEY, **more)


def checked(pod: HookPod, contract: JobContract, ended: Ended) -> Ended:
    later = {"task": "check", "candidate": ended.candidate, "experiment": LATER}
    return pod.run(contract.model_copy(update=later))


def test_a_recipe_its_data_and_the_pictures_its_rows_name_decide_a_hit(pictures: HookPod) -> None:
    first = pictures.run(processing())
    assert first.code == 0, first.log
    assert set(first.result.externals) == {"inputs/recipe.yaml", "inputs/raw/rows.jsonl"}

    hit = checked(pictures, processing(), first)
    assert hit.code == 0, hit.log
    assert hit.message.outputs == first.message.outputs
    again = pictures.run(processing(experiment=LATER))
    assert again.message.recovered
    assert "OP [image_shape_filter]" not in again.log

    picture(pictures.inputs / "raw" / "pictures" / "12.png", 6)
    miss = checked(pictures, processing(), first)
    assert miss.code == 3
    assert miss.message.error is not None
    assert miss.message.error.message == "files that inputs/raw/rows.jsonl names have changed"
    anew = pictures.run(processing(experiment=LATER, generation=2, attempt=2))
    assert anew.code == 0, anew.log
    assert (first.result.metrics["process.rows_out"], anew.result.metrics["process.rows_out"]) == (2, 1)
    assert anew.message.content != first.message.content


def test_pictures_behind_a_result_count_for_the_job_that_reads_it(pictures: HookPod) -> None:
    """The processed rows are the same whatever the picture shows."""
    first = pictures.run(processing())
    probe = job_contract(
        "ProbeViaAnalyzerHook",
        stage="evaluation",
        dj={"process": RECIPE},
        inputs={"djConfigs.dataset_path": first.reference("dataset")},
        meta_name="probe",
        cache_key=KEY,
    )
    ended = pictures.run(probe)
    assert ended.code == 0, ended.log
    assert set(ended.result.externals) == {"input:djConfigs.dataset_path"}

    assert checked(pictures, probe, ended).code == 0
    picture(pictures.inputs / "raw" / "pictures" / "8.png", 8)
    miss = checked(pictures, probe, ended)
    assert miss.code == 3
    assert "the rows of djConfigs.dataset_path name have changed" in str(miss.message.error)


def test_text_from_another_job_depends_on_nothing_else(hook_pod: HookPod) -> None:
    """So that a hit on it needs no pod at all."""
    recipe = [{"text_length_filter": {"max_len": 200}}]
    dj = {"dataset_path": "inputs/raw/demo.jsonl", "export_path": "outputs/a.jsonl", "process": recipe}
    first = hook_pod.run(job_contract("ProcessDataHook", dj=dj, meta_name="process", cache_key=KEY))
    assert first.code == 0, first.log
    second = hook_pod.run(
        job_contract(
            "ProcessDataHook",
            index=1,
            dj={"export_path": "outputs/b.jsonl", "process": recipe},
            inputs={"djConfigs.dataset_path": first.reference("dataset")},
            meta_name="process_2",
            cache_key=KEY,
        )
    )

    assert second.code == 0, second.log
    assert set(first.result.externals) == {"inputs/raw/demo.jsonl"}
    assert second.result.externals == {}
    assert second.message.externals == 0


@pytest.mark.parametrize("form", ["parquet", "parquet of texts", "zstd"])
def test_pictures_are_found_in_the_forms_that_need_a_library(hook_pod: HookPod, form: str) -> None:
    import pyarrow
    import pyarrow.parquet
    import zstandard

    rows = rows_of(hook_pod)
    folder = hook_pod.inputs / "raw"
    path = folder / ("rows.jsonl.zst" if form == "zstd" else "rows.parquet")
    if form == "zstd":
        path.write_bytes(zstandard.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    else:
        kept = [{"text": row["text"]} for row in rows] if form == "parquet of texts" else rows
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(kept), path)

    has_any = media_look(KEYS).answer(path, path.stat().st_size)
    media = MediaDigest(KEYS)
    media.add(path, (folder,))

    assert has_any == (form != "parquet of texts")
    assert media.count == (3 if has_any else 0)
