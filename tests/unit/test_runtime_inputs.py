# SPDX-License-Identifier: Apache-2.0
"""What a job takes from others, and what it recovers from its own earlier attempts."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.hook_pod import Ended, HookPod, job_contract

from sandbox_api.contract import InputRef


@pytest.fixture
def pod(tmp_path: Path) -> HookPod:
    return HookPod(tmp_path)


@pytest.fixture
def producer(pod: HookPod) -> Ended:
    ended = pod.run(job_contract(extra={"do": "write", "text": "made"}, outputs=["text", "seen", "folder"]))
    assert ended.code == 0, ended.log
    return ended


def consumer(inputs: dict[str, InputRef], **more: Any) -> Any:
    return job_contract(stage="execution", meta_name="consumer", inputs=inputs, **more)


def seen(ended: Ended) -> dict[str, Any]:
    assert ended.code == 0, ended.log
    value: dict[str, Any] = ended.result.outputs["1"].value
    return value


def error_of(ended: Ended) -> str:
    assert ended.message.error is not None
    return ended.message.error.message


def test_outputs_values_and_figures_arrive_where_the_contract_says(pod: HookPod, producer: Ended) -> None:
    ended = pod.run(
        consumer(
            {
                "djConfigs.dataset_path": producer.reference("text"),
                "extraConfigs.a.b": producer.reference("folder"),
                "extraConfigs.a.rows": producer.reference("rows"),
                "extraConfigs.whole": producer.reference("seen"),
                "extraConfigs.named": producer.reference("toy"),
            }
        )
    )

    got = seen(ended)
    assert got["dj"] == {"dataset_path": str(producer.output("text"))}
    assert got["extra"]["a"] == {"b": str(producer.output("folder")), "rows": 3.0}
    assert got["extra"]["whole"]["home"] == "/tmp/home"
    assert got["extra"]["named"] == 7.0
    assert ended.result.inputs["djConfigs.dataset_path"] == producer.result.outputs["text"].sha256
    assert set(ended.result.inputs) == set(got["inputs"])


def test_local_comes_before_input_and_a_whole_configuration_before_its_keys(pod: HookPod, producer: Ended) -> None:
    recipe = pod.experiment / "recipe.yaml"
    recipe.write_text("dataset_path: there.jsonl\nprocess:\n- text_length_filter:\n    min_len: 1\n")

    got = seen(
        pod.run(
            consumer(
                {"djConfigs.dataset_path": producer.reference("text")},
                dj="recipe.yaml",
                local={
                    "djConfigs.dataset_path": "local.jsonl",
                    "djConfigs.np": 2,
                    "djConfigs.process.0.text_length_filter.min_len": 9,
                    "extraConfigs.deep.er": "x",
                },
            )
        )
    )

    assert got["dj"] == {
        "dataset_path": str(producer.output("text")),
        "np": 2,
        "process": [{"text_length_filter": {"min_len": 9}}],
    }
    assert got["extra"]["deep"] == {"er": "x"}


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda text: text.write_text("made!"), "was changed after the job wrote it"),
        (lambda text: text.unlink(), "is missing from the workspace"),
        (lambda text: (text.parents[1] / "result.json").unlink(), "can't be read"),
        (lambda text: (text.parents[1] / "result.json").write_text("{}"), "is not the one that was committed"),
    ],
)
def test_an_input_that_went_bad_is_named_and_ends_with_3(
    pod: HookPod, producer: Ended, damage: Any, sentence: str
) -> None:
    reference = producer.reference("text")
    damage(producer.output("text"))

    ended = pod.run(consumer({"djConfigs.dataset_path": reference}))

    assert ended.code == 3
    assert ended.message.error is not None
    assert ended.message.error.class_ == "Input"
    assert error_of(ended).startswith("the output 'text' of job anonymous/1/probe/0: ")
    assert sentence in error_of(ended)
    assert "must run again" in error_of(ended)


def test_a_folder_with_a_changed_or_an_added_file_is_a_bad_input(pod: HookPod, producer: Ended) -> None:
    (producer.output("folder") / "inner" / "more.txt").write_text("x")

    ended = pod.run(consumer({"extraConfigs.folder": producer.reference("folder")}))

    assert ended.code == 3
    assert "was changed" in error_of(ended)


def test_an_output_that_the_producer_did_not_make_is_named(pod: HookPod, producer: Ended) -> None:
    ended = pod.run(consumer({"extraConfigs.x": producer.reference("dataset")}))

    assert ended.code == 3
    assert "neither an output nor a figure named 'dataset'; its outputs: folder, seen, text" in error_of(ended)


def test_an_earlier_success_of_the_same_contract_is_returned_and_not_repeated(pod: HookPod) -> None:
    first = pod.run(job_contract(extra={"do": "write", "text": "once"}))
    again = pod.run(job_contract(extra={"do": "write", "text": "once"}, attempt=2, active_seconds_left=99))

    assert again.code == 0
    assert again.message.recovered
    assert (again.message.attempt, again.message.pod_uid) == (2, again.result.pod_uid)
    assert again.result.outputs == first.result.outputs
    assert again.result.metrics == first.result.metrics
    assert again.output("0").read_text() == "once"
    assert "the hook speaks" not in again.log


@pytest.mark.parametrize("why", ["another contract", "tampered", "torn result", "a failure"])
def test_an_earlier_attempt_that_does_not_hold_is_not_returned(pod: HookPod, why: str) -> None:
    do = {"do": "fail", "say": "x"} if why == "a failure" else {"do": "write", "text": "once"}
    first = pod.run(job_contract(extra=do))
    text = "once"
    if why == "another contract":
        text = "twice"
    elif why == "tampered":
        first.output("0").write_text("0nce")
    elif why == "torn result":
        result = first.folder / "result.json"
        result.write_text(result.read_text()[:200])

    again = pod.run(job_contract(extra={"do": "write", "text": text}, attempt=2))

    assert again.code == 0
    assert not again.message.recovered
    assert again.output("0").read_text() == text
    assert again.output("0").is_relative_to(again.folder)


def test_success_keeps_the_artifacts_that_an_earlier_success_made(pod: HookPod) -> None:
    first = pod.run(job_contract(extra={"do": "write", "text": "once"}))
    pod.run(job_contract(extra={"do": "write", "text": "twice"}, attempt=2))

    assert first.output("0").read_text() == "once"


def test_a_path_that_leaves_the_workspace_ends_with_2(pod: HookPod) -> None:
    ended = pod.run(job_contract(extra={"do": "write"}, dj={"dataset_path": "../../../etc/passwd"}))

    assert ended.code == 2
    assert error_of(ended).startswith("djConfigs.dataset_path: ")


def test_a_data_hook_without_a_configuration_says_so(pod: HookPod) -> None:
    ended = pod.run(job_contract("ProcessDataHook"))

    assert ended.code == 2
    assert error_of(ended).startswith("djConfigs: is missing")


def test_a_refine_job_that_shares_its_probes_name_gets_an_infix(pod: HookPod, producer: Ended) -> None:
    same = pod.run(job_contract(stage="refine", extra={"do": "write"}, inputs={"probe": producer.reference("folder")}))
    other = pod.run(
        job_contract(
            stage="refine",
            index=1,
            meta_name="refine",
            extra={"do": "write"},
            inputs={"probe": producer.reference("folder")},
        )
    )

    assert set(same.result.metrics) == {"toy.refineRecipe", "toy.refineRecipe.rows"}
    assert set(other.result.metrics) == {"refine", "refine.rows"}
    later = pod.run(consumer({"extraConfigs.rows": same.reference("rows")}))
    assert seen(later)["extra"] == {"rows": 3.0}


def test_the_volume_may_be_mounted_elsewhere_later(pod: HookPod, producer: Ended, tmp_path: Path) -> None:
    reference = producer.reference("text")
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    shutil.move(pod.root, moved / "workspace")
    there = HookPod(moved, started=7)

    ended = there.run(consumer({"extraConfigs.text": reference}))

    assert Path(seen(ended)["extra"]["text"]).read_text() == "made"
