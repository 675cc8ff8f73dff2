# SPDX-License-Identifier: Apache-2.0
"""What configurations may say: files, overrides, and paths that must stay inside the volume and the inputs."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.hook_pod import HookPod, job_contract, write_jsonl

from sandbox_api.contract import Limits
from sandbox_runtime.configs import Configurations, resolve_configs
from sandbox_runtime.errors import ConfigError
from sandbox_runtime.inputs import ResolvedInput
from sandbox_runtime.workspace import Workspace


@pytest.fixture
def pod(tmp_path: Path) -> HookPod:
    """A volume on which the experiment's folder holds a link that leads out."""
    pod = HookPod(tmp_path)
    pod.experiment.mkdir(parents=True)
    write_jsonl(pod.inputs / "raw" / "demo.jsonl", [{"text": "a"}])
    write_jsonl(pod.inputs / "raw" / "with a space.jsonl", [{"text": "a"}])
    (pod.experiment / "inputs").symlink_to(pod.inputs)
    (pod.experiment / "trap").symlink_to("/etc")
    (pod.experiment / "loop").symlink_to("loop")
    return pod


def workspace_of(pod: HookPod) -> Workspace:
    return Workspace(pod.root, pod.inputs, job_contract(), "pod-uid")


def resolve(pod: HookPod, **configs: Any) -> Configurations:
    return resolve_configs(job_contract(**configs), {}, workspace_of(pod))


def refusal(pod: HookPod, **configs: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        resolve(pod, **configs)
    return str(caught.value)


@pytest.mark.parametrize(
    ("dj", "field"),
    [
        ({"dataset_path": "../../../etc/passwd"}, "djConfigs.dataset_path"),
        ({"dataset_path": "/etc/passwd"}, "djConfigs.dataset_path"),
        ({"dataset_path": "~/data.jsonl"}, "djConfigs.dataset_path"),
        ({"dataset_path": "0.5 a.jsonl 0.5 /etc/passwd"}, "djConfigs.dataset_path"),
        ({"dataset_path": "file:///etc/passwd"}, "djConfigs.dataset_path"),
        ({"dataset_path": "inputs/../../../../etc/passwd"}, "djConfigs.dataset_path"),
        ({"dataset_path": "trap/passwd"}, "djConfigs.dataset_path"),
        ({"dataset": {"configs": [{"path": "/etc"}]}}, "djConfigs.dataset.configs[0].path"),
        ({"process": [{"x_filter": {"model_dir": "/srv"}}]}, "djConfigs.process[0].x_filter.model_dir"),
        ({"custom_operator_paths": ["ops/a.py", "/tmp/b.py"]}, "djConfigs.custom_operator_paths[1]"),
        ("/etc/recipe.yaml", "djConfigs"),
    ],
)
def test_a_path_that_leaves_the_workspace_is_refused_with_its_field(pod: HookPod, dj: Any, field: str) -> None:
    said = refusal(pod, dj=dj)

    assert said.startswith(f"{field}: ")
    assert "inside" in said


@pytest.mark.parametrize("path", ["loop/x", "a\0b"])
def test_what_is_no_path_at_all_is_refused_with_its_field(pod: HookPod, path: str) -> None:
    assert refusal(pod, dj={"dataset_path": path}).startswith("djConfigs.dataset_path: ")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("inputs/raw/dmo.jsonl", "inputs/raw/dmo.jsonl"),
        ("0.5 inputs/raw/demo.jsonl 0.5 inputs/raw/dmo.jsonl", "inputs/raw/dmo.jsonl"),
    ],
)
def test_an_input_that_no_job_made_and_that_is_missing_is_named_with_those_there_are(
    pod: HookPod, text: str, part: str
) -> None:
    said = refusal(pod, dj={"dataset_path": text})

    assert said == f"djConfigs.dataset_path: there is no file or folder {part}; inputs: inputs/raw"


@pytest.mark.parametrize(
    "dj",
    [
        {"dataset_path": "inputs/raw/demo.jsonl"},
        {"dataset_path": "inputs/raw/with a space.jsonl"},
        {"dataset_path": "0.5 inputs/raw/demo.jsonl 0.5 inputs/raw/demo.jsonl"},
        {"dataset_path": "inputs/raw/*.jsonl"},
        {"dataset_path": "not/there/yet.jsonl"},
        {"dataset_path": "s3://bucket/demo.jsonl"},
        {"dataset_path": "outputs/../outputs/a.jsonl"},
        {"process": [{"replace_content_mapper": {"pattern": "/.*/", "repl": "../.."}}]},
        {"hf_model": "openai/clip-vit-base-patch32"},
    ],
)
def test_what_stays_inside_or_is_no_path_is_not_refused(pod: HookPod, dj: Any) -> None:
    assert resolve(pod, dj=dj).dj == dj


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("inputs/raw/out.txt", "lies in an input, which is read-only"),
        ("jobs/anonymous/1/probe/0/out.txt", "lies where jobs keep their own files"),
        ("../../cache/out.txt", "lies where jobs keep their own files"),
        ("s3://bucket/out.txt", "is not a path"),
        ("../../../../out.txt", "leads out of the workspace"),
    ],
)
def test_a_place_that_can_not_be_published_to_is_refused(pod: HookPod, path: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as caught:
        workspace_of(pod).publishable(path, "djConfigs.export_path")

    assert str(caught.value).startswith("djConfigs.export_path: ")


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("gone.yaml", None, "can't be read: No such file"),
        ("bad.yaml", b"a: [1\nb: 2", "is not YAML: "),
        ("bad.json", b'{"a": 1,}', "is not JSON: "),
        ("list.yaml", b"- 1", "holds a list, where keys and values are needed"),
        ("empty.yaml", b"", "holds nothing, where keys and values are needed"),
        ("recipe.txt", b"a: 1", "must end in .yaml, .yml or .json"),
        ("bytes.yaml", b"\xff\xfe", "is not text (UTF-8)"),
    ],
)
def test_a_configuration_file_that_can_not_be_read_is_refused(
    pod: HookPod, name: str, content: bytes | None, sentence: str
) -> None:
    if content is not None:
        (pod.inputs / name).write_bytes(content)

    said = refusal(pod, extra=f"inputs/{name}")

    assert said.startswith("extraConfigs: ")
    assert sentence in said


@pytest.mark.parametrize(
    ("local", "sentence"),
    [
        ({"configs.a": 1}, "local['configs.a']: must begin with djConfigs. or extraConfigs. and name a key"),
        ({"djConfigs": 1}, "local['djConfigs']: must begin with"),
        ({"djConfigs.np.x": 1}, "djConfigs.np.x can't be set: what holds it is a number"),
        ({"djConfigs.process.3.x": 1}, "djConfigs.process.3 does not exist; the list there has 1 elements"),
        ({"djConfigs.process.a_filter": 1}, "djConfigs.process.a_filter does not exist"),
    ],
)
def test_an_override_without_a_place_is_refused(pod: HookPod, local: dict[str, Any], sentence: str) -> None:
    assert sentence in refusal(pod, dj={"np": 1, "process": [{"a_filter": None}]}, local=local)


def test_an_override_reaches_an_operator_without_arguments_and_makes_what_is_missing(pod: HookPod) -> None:
    found = resolve(
        pod,
        dj={"process": [{"text_length_filter": None}]},
        local={"djConfigs.process.0.text_length_filter.min_len": 5, "extraConfigs.train.seed": 7},
    )

    assert found.dj == {"process": [{"text_length_filter": {"min_len": 5}}]}
    assert found.extra == {"train": {"seed": 7}}


def test_a_path_that_an_override_sets_is_held_inside_too(pod: HookPod) -> None:
    said = refusal(pod, dj={}, local={"djConfigs.dataset_path": "/etc/passwd"})

    assert said.startswith("djConfigs.dataset_path: ")


def test_a_configuration_that_is_neither_mapping_nor_path_is_refused(pod: HookPod) -> None:
    expected = "djConfigs: a list is neither keys and values nor the path of a .yaml or .json file"
    assert refusal(pod, dj=[1, 2]) == expected


def with_parameters(
    pod: HookPod, parameters: dict[str, Any], inputs: dict[str, Any] | None = None, **configs: Any
) -> Any:
    """Configurations of a trial; `inputs` are values by target, as other jobs would have given them."""
    contract = job_contract(**configs)
    given = contract.configs.model_copy(update={"parameters": parameters})
    resolved = {
        target: ResolvedInput(told=target, value=value, digest="0" * 64, producer=None)
        for target, value in (inputs or {}).items()
    }
    return resolve_configs(contract.model_copy(update={"configs": given}), resolved, workspace_of(pod))


TWICE: list[dict[str, Any]] = [{"a_filter": None}, {"b_filter": {"x": 1}}, {"a_filter": {"x": 2}}]


def test_a_trials_parameters_are_applied_last_to_the_operators_that_they_count_to(pod: HookPod) -> None:
    found = with_parameters(
        pod,
        {
            "a_filter.x": 10, "a_filter#2.x": 20, "b_filter.deep.er": 30, "np": 4,
            "extraConfigs.train.lr": 0.1, "djConfigs.process.1.b_filter.y": 5,
        },
        inputs={"djConfigs": {"process": TWICE, "np": 1}},
        dj="gone.yaml",
        local={"extraConfigs.train.lr": 0.5},
    )  # fmt: skip

    assert found.dj == {
        "process": [
            {"a_filter": {"x": 10}},
            {"b_filter": {"x": 1, "deep": {"er": 30}, "y": 5}},
            {"a_filter": {"x": 20}},
        ],
        "np": 4,
    }
    assert found.extra == {"train": {"lr": 0.1}}
    assert TWICE[0] == {"a_filter": None}


def test_a_whole_recipe_is_set_before_what_lies_in_it(pod: HookPod) -> None:
    found = with_parameters(pod, {"a_filter.x": 1, "process": [{"a_filter": None}]}, dj={"process": TWICE})

    assert found.dj == {"process": [{"a_filter": {"x": 1}}]}


@pytest.mark.parametrize("text", ["$(HOME)", "$$", "${X}", "null", "a\nb: c", "{{ x }}"])
def test_the_value_of_a_parameter_is_data(pod: HookPod, text: str) -> None:
    assert with_parameters(pod, {"a_filter.x": text}, dj={"process": TWICE}).dj["process"][0] == {
        "a_filter": {"x": text}
    }


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("a_fliter.x", "parameters['a_fliter.x']: the recipe has no operator 'a_fliter'; did you mean 'a_filter'?"),
        ("b_filter#2.x", "the recipe has no operator 'b_filter#2'; did you mean 'b_filter'?"),
        (
            "b_filter.x.y",
            "parameters['b_filter.x.y']: djConfigs.process.1.b_filter.x.y can't be set: what holds it is a",
        ),
        ("b_filter..y", "a part of the name is empty"),
        ("extraConfigs", "parameters['extraConfigs']: name a key"),
    ],
)
def test_a_parameter_without_a_place_is_refused_with_what_there_is(pod: HookPod, name: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        with_parameters(pod, {name: 1}, dj={"process": TWICE})

    assert sentence in str(caught.value)


@pytest.mark.parametrize("path", ["/etc/passwd", "../../../etc/passwd", "trap/passwd"])
def test_a_path_that_a_parameter_sets_is_held_inside_too(pod: HookPod, path: str) -> None:
    with pytest.raises(ConfigError, match=r"djConfigs.dataset_path: .*inside"):
        with_parameters(pod, {"dataset_path": path}, dj={"process": TWICE})


@pytest.mark.parametrize(
    ("settings", "limits", "said"),
    [
        ({}, {}, "extraConfigs.dataset_path: name the data set to train on, or fill it with input"),
        (
            {"dataset_path": "inputs/raw/a.jsonl", "batch_size": 33},
            {"gpus": 8},
            "extraConfigs.batch_size: 33 can't be divided among 8 processes; give a multiple of it",
        ),
        (
            {"dataset_path": "inputs/raw/a.jsonl", "processes": 9},
            {"gpus": 8},
            "extraConfigs.processes: 9 are more than the 8 GPUs of a pod; leave it out to have one a GPU",
        ),
    ],
)
def test_settings_in_a_file_are_checked_by_the_pod_as_the_planner_checks_those_in_the_spec(
    tmp_path: Path, settings: dict[str, Any], limits: dict[str, int], said: str
) -> None:
    pod = HookPod(tmp_path)
    write_jsonl(pod.inputs / "raw" / "a.jsonl", [{}])
    (pod.inputs / "raw" / "train.json").write_text(json.dumps({"base_model": "inputs/raw", **settings}))
    contract = job_contract(
        "TrainModelHook", type="easyanimate", extra="inputs/raw/train.json", limits=Limits(**limits)
    )
    ended = pod.run(contract)
    assert ended.code == 2, ended.log
    assert ended.message.error is not None
    assert ended.message.error.message == said
