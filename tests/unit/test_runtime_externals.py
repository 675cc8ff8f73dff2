# SPDX-License-Identifier: Apache-2.0
"""What counts as read by a job: files and folders that no job made, named by configurations and by rows."""

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.hook_pod import Ended, HookPod, job_contract, write_jsonl
from tests.unit.test_runtime_tasks import KEY, LATER, check

from sandbox_api.result import ABSENT, UNKNOWN
from sandbox_runtime import digests
from sandbox_runtime.externals import ChangedMeanwhile, external_digest, media_keys
from sandbox_runtime.media import KEYS, MediaDigest, media_look
from sandbox_runtime.workspace import Workspace


@pytest.fixture
def pod(tmp_path: Path) -> HookPod:
    pod = HookPod(tmp_path)
    write_jsonl(pod.inputs / "raw" / "x.jsonl", [{"text": "a"}])
    return pod


@pytest.fixture
def workspace(pod: HookPod) -> Workspace:
    return Workspace(pod.root, pod.inputs, job_contract(), "pod-uid")


def ran(pod: HookPod, dj: Any = None, **extra: Any) -> Ended:
    ended = pod.run(job_contract(dj=dj, extra={"do": "write", **extra}, cache_key=KEY))
    assert ended.code == 0, ended.log
    return ended


def externals(pod: HookPod, dj: Any = None, **extra: Any) -> dict[str, str]:
    return ran(pod, dj, **extra).result.externals


def test_data_sets_models_and_folders_count_and_what_is_not_there_counts_as_absent(pod: HookPod) -> None:
    (pod.root / "models").mkdir()
    found = externals(
        pod,
        {"dataset_path": "0.5 inputs/raw/x.jsonl 0.5 inputs/raw", "process": [{"a_filter": {"hf_model": "org/name"}}]},
        model_dir="../../models",
    )

    assert set(found) == {"inputs/raw/x.jsonl", "inputs/raw", "org/name", "../../models"}
    assert found["org/name"] == ABSENT
    assert all(len(found[name]) == 64 for name in found if name != "org/name")


def test_a_file_under_any_key_counts_and_text_that_only_looks_like_one_does_not(pod: HookPod) -> None:
    found = externals(pod, {"note": "inputs/raw/x.jsonl", "other": "and/or", "url": "https://host/inputs/raw/x.jsonl"})

    assert set(found) == {"inputs/raw/x.jsonl"}


def test_a_configuration_given_as_a_path_counts_and_so_does_what_it_names(pod: HookPod) -> None:
    (pod.inputs / "recipe.json").write_text(json.dumps({"dataset_path": "inputs/raw/x.jsonl"}))

    assert set(externals(pod, "inputs/recipe.json")) == {"inputs/recipe.json", "inputs/raw/x.jsonl"}


def test_what_a_job_writes_itself_does_not_count(pod: HookPod) -> None:
    """`export_path` is what this hook asks a path for; Data-Juicer's own keys are known."""
    dj = {"export_path": "outputs/a.jsonl", "work_dir": "work", "temp_dir": "temp"}

    assert externals(pod, dj, export_path="outputs/text.txt") == {}
    assert externals(pod, dj, export_path="outputs/text.txt") == {}


def test_what_came_from_another_job_does_not_count(pod: HookPod) -> None:
    producer = ran(pod, text="made")

    ended = pod.run(
        job_contract(
            stage="execution",
            dj={"dataset_path": "replaced/by/the/input.jsonl"},
            extra={"do": "write"},
            inputs={"djConfigs.dataset_path": producer.reference("0"), "extraConfigs.x.path": producer.reference("2")},
            cache_key=KEY,
        )
    )

    assert ended.code == 0, ended.log
    assert ended.result.externals == {}
    assert ended.message.externals == 0


def test_a_published_link_to_another_jobs_result_counts_by_what_it_shows(pod: HookPod) -> None:
    """The operator sees a path, not the job behind it."""
    ran(pod, text="one", export_path="outputs/text.txt")
    first = externals(pod, {"dataset_path": "outputs/text.txt"})
    pod.run(job_contract(index=1, extra={"do": "write", "text": "two", "export_path": "outputs/text.txt"}))
    second = pod.run(
        job_contract(index=2, dj={"dataset_path": "outputs/text.txt"}, extra={"do": "write"}, cache_key=KEY)
    )

    assert set(first) == set(second.result.externals) == {"outputs/text.txt"}
    assert first != second.result.externals


def test_nothing_is_read_where_nobody_will_ask(pod: HookPod) -> None:
    """Without a cache key (`cache: Never`)."""
    ended = pod.run(job_contract(dj={"dataset_path": "inputs/raw/x.jsonl"}, extra={"do": "write"}))

    assert ended.result.externals == {}


def test_a_file_that_the_job_itself_changed_is_never_a_hit(pod: HookPod) -> None:
    """Whether its digest was taken before or after the change."""
    mine = pod.root / "mine.txt"
    mine.write_text("before")
    contract = job_contract(
        extra={"do": "rewrite", "path": str(mine)}, dj={"dataset_path": "../../mine.txt"}, cache_key=KEY
    )
    ended = pod.run(contract)

    assert ended.code == 0, ended.log
    assert check(pod, contract, ended.candidate).code == 3


def test_a_file_that_was_changed_after_the_job_began_has_no_digest(pod: HookPod, workspace: Workspace) -> None:
    """The hook may have read what was there before."""
    path = pod.inputs / "raw" / "x.jsonl"
    changed = path.stat().st_ctime_ns

    assert len(external_digest(path, KEYS, workspace, changed)) == 64
    for named in (path, path.parent):
        with pytest.raises(ChangedMeanwhile, match="was changed while the job ran"):
            external_digest(named, KEYS, workspace, changed - 1)


@pytest.mark.parametrize("path", [".", "..", "../../experiments"])
def test_a_folder_that_holds_the_jobs_own_is_never_a_hit(pod: HookPod, path: str) -> None:
    ended = ran(pod, image_dir=path)

    assert ended.result.externals == {path: UNKNOWN}
    assert "will not be used again" in ended.log


def test_an_empty_text_is_no_folder(pod: HookPod) -> None:
    assert externals(pod, {"dataset_path": ""}, model_dir="  ") == {}


# Media files that rows name


Change = Callable[[Path], None]


def rewrite(path: Path) -> None:
    path.write_text("another video")


def touch(path: Path) -> None:
    os.utime(path, ns=(1, 1))


@pytest.mark.parametrize("change", [rewrite, touch, Path.unlink])
@pytest.mark.parametrize("form", ["lines", "compressed", "array", "folder", "one name"])
def test_a_media_file_that_a_row_names_counts(pod: HookPod, workspace: Workspace, form: str, change: Change) -> None:
    video = pod.inputs / "raw" / "videos" / "a [1] é.mp4"
    video.parent.mkdir()
    video.write_text("a video")
    rows = [{"text": "x" * 3000, "videos": ["videos/none.mp4", "videos/a [1] é.mp4"]}]
    path = pod.inputs / "raw" / "rows.jsonl"
    if form == "compressed":
        path = path.with_suffix(".jsonl.gz")
        path.write_bytes(gzip.compress(json.dumps(rows[0]).encode()))
    elif form == "array":
        path = path.with_suffix(".json")
        path.write_text(json.dumps(rows * 2, indent=2, ensure_ascii=False))
    elif form == "one name":
        write_jsonl(path, [{"images": "videos/a [1] é.mp4"}])
    else:
        write_jsonl(path, rows)
    named = pod.inputs / "raw" if form == "folder" else path
    if form == "folder":  # the manifest alone must not be what tells
        video.rename(pod.base / "elsewhere.mp4")
        video = pod.base / "elsewhere.mp4"
        write_jsonl(path, [{"videos": [str(video)]}])

    before = external_digest(named, KEYS, workspace)
    change(video)
    after = external_digest(named, KEYS, workspace)

    assert before.partition("+")[0] == after.partition("+")[0]
    assert before != after
    assert "+media:videos,images,audios:" in before


def test_rows_without_media_have_none(pod: HookPod, workspace: Workspace) -> None:
    rows = [{"text": 'the word "videos": ["a.mp4"] in a text'}, {"videos_of": ["a.mp4"]}, {"videos": []}]
    path = write_jsonl(pod.inputs / "rows.jsonl", [*rows, {"images": None}])

    assert "+" not in external_digest(path, KEYS, workspace)


def test_other_keys_count_where_the_configuration_says_so(pod: HookPod, workspace: Workspace) -> None:
    path = write_jsonl(pod.inputs / "rows.jsonl", [{"clips": ["a.mp4"]}])
    keys = media_keys({"video_key": "clips"})

    assert keys == ("videos", "images", "audios", "clips")
    assert "+" not in external_digest(path, KEYS, workspace)
    assert "+media:videos,images,audios,clips:" in external_digest(path, keys, workspace)


@pytest.mark.parametrize("chunk", [1, 7, 64, 1 << 20])
def test_names_are_found_across_the_pieces_in_which_a_file_is_read(
    pod: HookPod, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr("sandbox_runtime.media.CHUNK", chunk)
    names = [f'v{number} \\ " ] é.mp4' for number in range(30)]
    rows = [
        {"text": "padding " * (n % 5), "videos": [name], "images": [["a", name], []]} for n, name in enumerate(names)
    ]
    path = write_jsonl(pod.inputs / "rows.jsonl", rows)

    media = MediaDigest(KEYS)
    media.add(path, (pod.inputs,))

    assert media.count == 3 * len(names)
    look = media_look(KEYS)
    assert look.answer(path, path.stat().st_size)


def test_a_large_file_counts_by_size_and_time(
    pod: HookPod, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "DIGEST_LIMIT", 4)
    path = pod.inputs / "model.bin"
    path.write_text("12345")
    before = external_digest(path, KEYS, workspace)
    path.write_text("12346")

    assert before == f"5@{before.partition('@')[2]}"
    assert external_digest(path, KEYS, workspace) != before


def test_media_named_by_a_result_of_another_job_count_for_its_readers(pod: HookPod) -> None:
    """The rows are the same; the video that they name is not."""
    video = pod.inputs / "raw" / "a.mp4"
    video.write_text("a video")
    producer = pod.run(
        job_contract(extra={"do": "write", "text": json.dumps({"videos": [str(video)]}), "name": "t.jsonl"})
    )
    contract = job_contract(
        stage="execution",
        extra={"do": "write"},
        inputs={"djConfigs.dataset_path": producer.reference("0")},
        cache_key=KEY,
    )
    ended = pod.run(contract)
    assert ended.code == 0, ended.log
    assert list(ended.result.externals) == ["input:djConfigs.dataset_path"]

    assert check(pod, contract, ended.candidate).code == 0
    video.write_text("another video")
    told = check(pod, contract, ended.candidate, experiment=LATER)
    assert told.error == "files that the rows of djConfigs.dataset_path name have changed"
