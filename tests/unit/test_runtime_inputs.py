# SPDX-License-Identifier: Apache-2.0
"""What a job takes from others, and what it recovers from its own earlier attempts."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.hook_pod import Ended, HookPod, job_contract

from sandbox_api.contract import ExperimentRef, InputRef, JobContract, contract_digest
from sandbox_runtime.hooks.base import published_under


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
    assert ended.message.error.job == ended.result.error.job == "anonymous/1/probe/0"
    assert error_of(ended).startswith("the output 'text' of job anonymous/1/probe/0: ")
    assert sentence in error_of(ended)
    assert "must run again" in error_of(ended)


def test_a_folder_with_a_changed_or_an_added_file_is_a_bad_input(pod: HookPod, producer: Ended) -> None:
    (producer.output("folder") / "inner" / "more.txt").write_text("x")

    ended = pod.run(consumer({"extraConfigs.folder": producer.reference("folder")}))

    assert ended.code == 3
    assert "was changed" in error_of(ended)


def test_an_output_that_the_producer_did_not_make_is_named_and_not_asked_for_again(
    pod: HookPod, producer: Ended
) -> None:
    ended = pod.run(consumer({"extraConfigs.x": producer.reference("dataset")}))

    assert ended.code == 2
    assert "neither an output nor a figure named 'dataset'; its outputs: folder, seen, text" in error_of(ended)


@pytest.fixture
def pools(pod: HookPod) -> Ended:
    ended = pod.run(job_contract(extra={"do": "pools", "texts": ["low", "high"]}, outputs=["pools"]))
    assert ended.code == 0, ended.log
    return ended


def test_a_list_arrives_with_absolute_paths_and_an_element_alone(pod: HookPod, pools: Ended) -> None:
    got = seen(
        pod.run(
            consumer(
                {
                    "extraConfigs.all": pools.reference("pools"),
                    "extraConfigs.high": pools.reference("pools", 1),
                    "extraConfigs.seven": pools.reference("pools", 3),
                }
            )
        )
    )["extra"]

    assert [Path(path).name for path in got["all"][:3]] == ["pool_0.txt", "pool_1.txt", "last"]
    assert Path(got["all"][0]).read_text() == "low"
    assert got["all"][3] == got["seven"] == 7
    assert Path(got["high"]).read_text() == "high"


def test_elements_of_a_list_carry_digests(pools: Ended) -> None:
    output = pools.result.outputs["pools"]

    assert output.elements is not None
    assert [(element.index, element.bytes) for element in output.elements] == [(0, 3), (1, 4), (2, 1)]
    assert output.value[0].startswith("experiments/demo-1f2e3d4c/jobs/anonymous/1/probe/0/attempts/1/")
    assert pools.message.outputs["pools"] == output.value


@pytest.mark.parametrize(("element", "code"), [(0, 0), (1, 3), (2, 3), (3, 0), (None, 3)])
def test_a_changed_element_is_a_bad_input_for_those_who_take_it(
    pod: HookPod, pools: Ended, element: int | None, code: int
) -> None:
    value = pools.result.outputs["pools"].value
    (pod.root / value[1]).write_text("h1gh")
    (pod.root / value[2] / "a.txt").unlink()

    ended = pod.run(consumer({"extraConfigs.x": pools.reference("pools", element)}))

    assert ended.code == code, ended.log
    if code:
        assert ended.message.error is not None
        assert ended.message.error.job == "anonymous/1/probe/0"
        assert "was changed after the job wrote it" in error_of(ended)


def test_an_element_that_is_not_there_is_a_config_error(pod: HookPod, pools: Ended) -> None:
    ended = pod.run(consumer({"extraConfigs.x": pools.reference("pools", 4)}))

    assert ended.code == 2
    assert "element 4 of the output 'pools' of job anonymous/1/probe/0: there is no such element" in error_of(ended)


def test_results_of_several_jobs_are_gathered_in_their_order(pod: HookPod) -> None:
    makers = [
        pod.run(job_contract(extra={"do": "write", "text": text}, outputs=["text"], index=number))
        for number, text in enumerate(["one", "two", "three"])
    ]
    order = [makers[2], makers[0], makers[1]]

    ended = pod.run(
        consumer(
            {
                "extraConfigs.texts": [made.reference("text") for made in order],
                "extraConfigs.rows": [made.reference("rows") for made in order],
                "extraConfigs.none": [],
            }
        )
    )

    got = seen(ended)["extra"]
    assert [Path(path).read_text() for path in got["texts"]] == ["three", "one", "two"]
    assert got["rows"] == [3.0, 3.0, 3.0]
    assert got["none"] == []
    order[1].output("text").unlink()
    again = pod.run(consumer({"extraConfigs.texts": [made.reference("text") for made in order]}, index=7))
    assert again.code == 3
    assert again.message.error is not None
    assert again.message.error.job == "anonymous/1/probe/0"


def test_two_runs_that_gave_the_same_have_equal_contents_and_others_do_not(pod: HookPod) -> None:
    same = [
        pod.run(job_contract(extra={"do": "pools", "texts": ["low", "high"]}, index=index)).message for index in (1, 2)
    ]
    other = pod.run(job_contract(extra={"do": "pools", "texts": ["low", "hig"]}, index=3)).message

    assert same[0].content == same[1].content != other.content
    assert len(same[0].content) == 64
    assert same[0].outputs != same[1].outputs
    assert same[0].sha256 != same[1].sha256


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


# An experiment of the same name that was before this one on the claim

LATER = ExperimentRef(name="demo", namespace="lab", uid="9a8b7c6d-0000", project="lab", run="demo")


def keyed(**more: Any) -> JobContract:
    extra = {"do": "write", "text": "once", "export_path": "outputs/text.txt"}
    return job_contract(extra=extra, **{"cache_key": "k" * 64} | more)


def test_apply_delete_apply_goes_on_with_what_was_done(pod: HookPod) -> None:
    first = pod.run(keyed())

    again = pod.run(keyed(experiment=LATER, seed=7))

    assert again.code == 0, again.log
    assert again.message.recovered
    assert again.message.contract == contract_digest(keyed(experiment=LATER, seed=7)) != first.message.contract
    assert again.result.outputs == first.result.outputs
    assert again.result.metrics == first.result.metrics
    assert again.output("0") == first.output("0")
    assert again.message.path.startswith("experiments/demo-9a8b7c6d/")
    assert "the hook speaks" not in again.log
    link = pod.root / "experiments/demo-9a8b7c6d/outputs/text.txt"
    assert link.resolve() == first.output("0").resolve()
    assert (again.folder / "out").is_dir()
    third = pod.run(keyed(experiment=LATER.model_copy(update={"uid": "5555aaaa-0000"})))
    assert third.message.recovered
    used = pod.run(consumer({"djConfigs.dataset_path": again.reference("0")}, experiment=LATER))
    assert seen(used)["dj"]["dataset_path"] == str(first.output("0"))


@pytest.mark.parametrize(
    "why", ["no cache key", "another key", "a rerun", "another name", "a longer name", "tampered", "a file has changed"]
)
def test_what_a_namesake_left_is_not_taken_when(pod: HookPod, why: str) -> None:
    more: dict[str, Any] = {"experiment": LATER}
    (pod.root / "x.jsonl").write_text("1")
    contract = keyed(cache_key="" if why == "no cache key" else "k" * 64, dj={"dataset_path": "../../x.jsonl"})
    first = pod.run(contract)
    if why == "another key":
        more["cache_key"] = "other"
    elif why == "a rerun":
        more["generation"] = 2
    elif why == "another name":
        more["experiment"] = LATER.model_copy(update={"name": "other"})
    elif why == "a longer name":
        (pod.root / "experiments/demo-1f2e3d4c").rename(pod.root / "experiments/demo-sandbox-1f2e3d4c")
    elif why == "tampered":
        first.output("0").write_text("0nce")
    elif why == "a file has changed":
        (pod.root / "x.jsonl").write_text("2")

    again = pod.run(contract.model_copy(update=more))

    assert again.code == 0, again.log
    assert not again.message.recovered
    assert "the hook speaks" in again.log


def test_a_second_attempt_takes_it_too_when_the_first_was_killed_before_it_could(pod: HookPod) -> None:
    pod.run(keyed())

    assert pod.run(keyed(experiment=LATER, attempt=2)).message.recovered


# Where users find results


@pytest.mark.parametrize(
    ("path", "under", "published"),
    [
        ("a/b.jsonl", "", "a/b.jsonl"),
        ("a/b.jsonl", "iter_2", "a/iter_2/b.jsonl"),
        ("b.jsonl", "iter_2", "iter_2/b.jsonl"),
        ("a/b", "iter_2", "a/b/iter_2"),
        ("a/b/", "iter_2", "a/b/iter_2"),
        ("a/b.jsonl", "iter_2/item_3", "a/iter_2/item_3/b.jsonl"),
        ("a/b", "iter_2/item_3", "a/b/iter_2/item_3"),
        ("a/iter_1/b.jsonl", "iter_2", "a/iter_2/b.jsonl"),
        ("a/b/iter_1/item_0", "iter_2/item_3", "a/b/iter_2/item_3"),
        ("a/iter_1/b.jsonl", "item_3", "a/iter_1/item_3/b.jsonl"),
        ("a/iter_x/b.jsonl", "iter_2", "a/iter_x/iter_2/b.jsonl"),
        ("s3://bucket/b.jsonl", "iter_2", "s3://bucket/b.jsonl"),
        ("/workspace/shared/b.jsonl", "iter_2", "/workspace/shared/iter_2/b.jsonl"),
    ],
)
def test_iterations_and_items_publish_in_folders_of_their_own(path: str, under: str, published: str) -> None:
    assert published_under(path, under) == published
    assert published_under(published, under) == published


def test_an_iteration_publishes_beside_the_one_before(pod: HookPod) -> None:
    for number, text in ((1, "one"), (2, "two")):
        under = f"iter_{number}"
        extra = {"do": "write", "text": text, "export_path": "outputs/text.txt"}
        ended = pod.run(job_contract(extra=extra, index=number, publish_under=under))
        assert ended.result.outputs["0"].published == f"outputs/{under}/text.txt"

    assert (pod.experiment / "outputs/iter_1/text.txt").read_text() == "one"
    assert (pod.experiment / "outputs/iter_2/text.txt").read_text() == "two"
