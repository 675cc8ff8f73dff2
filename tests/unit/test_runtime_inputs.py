# SPDX-License-Identifier: Apache-2.0
"""What a job takes from others, what it recovers from its own earlier attempts, and what its configurations may say."""

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


@pytest.mark.parametrize(
    ("dj", "field"),
    [
        ({"dataset_path": "../../../etc/passwd"}, "djConfigs.dataset_path"),
        ({"dataset_path": "/etc/passwd"}, "djConfigs.dataset_path"),
        ({"dataset_path": "~/data.jsonl"}, "djConfigs.dataset_path"),
        ({"dataset_path": "0.5 a.jsonl 0.5 /etc/passwd"}, "djConfigs.dataset_path"),
        ({"dataset_path": "file:///etc/passwd"}, "djConfigs.dataset_path"),
        ({"dataset_path": "inputs/../../../../etc/passwd"}, "djConfigs.dataset_path"),
        ({"dataset": {"configs": [{"path": "/etc"}]}}, "djConfigs.dataset.configs[0].path"),
        ({"process": [{"x_filter": {"model_dir": "/root"}}]}, "djConfigs.process[0].x_filter.model_dir"),
        ({"dataset_path": "trap/passwd"}, "djConfigs.dataset_path"),
        ("/etc/recipe.yaml", "djConfigs"),
    ],
)
def test_a_path_that_leaves_the_workspace_is_refused_with_its_field(pod: HookPod, dj: Any, field: str) -> None:
    pod.experiment.mkdir(parents=True)
    (pod.experiment / "trap").symlink_to("/etc")

    ended = pod.run(job_contract(extra={"do": "write"}, dj=dj))

    assert ended.code == 2
    assert error_of(ended).startswith(f"{field}: ")
    assert "inside" in error_of(ended)


@pytest.mark.parametrize(
    "dj",
    [
        {"dataset_path": "inputs/raw/demo.jsonl"},
        {"dataset_path": "s3://bucket/demo.jsonl"},
        {"dataset_path": "outputs/../outputs/a.jsonl"},
        {"process": [{"replace_content_mapper": {"pattern": "/.*/", "repl": "../.."}}]},
        {"hf_model": "openai/clip-vit-base-patch32"},
    ],
)
def test_what_stays_inside_or_is_no_path_is_not_refused(pod: HookPod, dj: Any) -> None:
    assert seen(pod.run(job_contract(extra={"do": "write"}, dj=dj)))["dj"] == dj


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("inputs/raw/out.txt", "lies in an input, which is read-only"),
        ("jobs/anonymous/1/probe/0/out.txt", "lies where jobs keep their own files"),
        ("s3://bucket/out.txt", "is not a path"),
        ("../../../../out.txt", "leads out of the workspace"),
        ({"a": 1}, "must be a path"),
    ],
)
def test_a_place_that_can_not_be_published_to_is_refused(pod: HookPod, path: Any, sentence: str) -> None:
    ended = pod.run(job_contract(extra={"do": "write", "export_path": path}))

    assert ended.code == 2, ended.log
    assert error_of(ended).startswith("extraConfigs.export_path: ")
    assert sentence in error_of(ended)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("gone.yaml", None, "djConfigs: the file "),
        ("bad.yaml", "a: [1\nb: 2", "is not YAML: "),
        ("bad.json", '{"a": 1,}', "is not JSON: "),
        ("list.yaml", "- 1", "holds a list, where keys and values are needed"),
        ("empty.yaml", "", "holds nothing, where keys and values are needed"),
        ("recipe.txt", "a: 1", "must end in .yaml, .yml or .json"),
        ("bytes.yaml", b"\xff\xfe", "is not text (UTF-8)"),
    ],
)
def test_a_configuration_file_that_can_not_be_read_is_a_config_error(
    pod: HookPod, name: str, content: Any, sentence: str
) -> None:
    if content is not None:
        (pod.inputs / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    ended = pod.run(job_contract(dj=f"inputs/{name}"))

    assert ended.code == 2
    assert error_of(ended).startswith("djConfigs: ")
    assert sentence in error_of(ended)


@pytest.mark.parametrize(
    ("local", "sentence"),
    [
        ({"configs.a": 1}, "local['configs.a']: must begin with djConfigs. or extraConfigs. and name a key"),
        ({"djConfigs": 1}, "local['djConfigs']: must begin with"),
        ({"djConfigs.np.x": 1}, "djConfigs.np.x can't be set: what holds it is a number"),
        ({"djConfigs.process.3.x": 1}, "djConfigs.process.3 does not exist; the list there has 1 elements"),
    ],
)
def test_an_override_without_a_place_is_refused(pod: HookPod, local: dict[str, Any], sentence: str) -> None:
    ended = pod.run(job_contract(dj={"np": 1, "process": [{"a": None}]}, local=local))

    assert ended.code == 2
    assert sentence in error_of(ended)


def test_an_override_reaches_an_operator_without_arguments(pod: HookPod) -> None:
    ended = pod.run(
        job_contract(
            extra={"do": "write"},
            dj={"process": [{"text_length_filter": None}]},
            local={"djConfigs.process.0.text_length_filter.min_len": 5},
        )
    )

    assert seen(ended)["dj"] == {"process": [{"text_length_filter": {"min_len": 5}}]}


def test_a_configuration_that_is_neither_mapping_nor_path_is_refused(pod: HookPod) -> None:
    ended = pod.run(job_contract(dj=[1, 2]))

    assert ended.code == 2
    assert error_of(ended) == "djConfigs: a list is neither keys and values nor the path of a .yaml or .json file"


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
