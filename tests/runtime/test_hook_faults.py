# SPDX-License-Identifier: Apache-2.0
"""What the data hooks make of trouble: bad input named by its field, failing operators, SIGTERM in the middle."""

import json
import signal
from typing import Any

import pytest
from tests.hook_pod import Ended, HookPod, job_contract, write_jsonl

GATE = '''
"""An operator of a user: it waits while `hold` is there and fails while `broken` is there; it says when it begins."""

import time
from pathlib import Path

from data_juicer.ops.base_op import OPERATORS, Mapper


@OPERATORS.register_module("gate_mapper")
class GateMapper(Mapper):
    def __init__(self, folder: str = "", *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.folder = Path(folder)

    def process_single(self, sample):
        (self.folder / "began").touch()
        while (self.folder / "hold").exists():
            time.sleep(0.05)
        if (self.folder / "broken").exists():
            raise ValueError(f"no gate for row {sample['meta']['number']}")
        return sample
'''


def error_of(ended: Ended) -> str:
    assert ended.message.error is not None, ended.log
    return ended.message.error.message


def gated(pod: HookPod, *, attempt: int = 1) -> Any:
    """Two operators that are done quickly, then the gate."""
    (pod.inputs / "gate_mapper.py").write_text(GATE)
    recipe = [
        {"text_length_filter": {"max_len": 1000}},
        {"document_deduplicator": None},
        {"gate_mapper": {"folder": str(pod.inputs)}},
        {"words_num_filter": {"min_num": 5}},
    ]
    dj = {
        "dataset_path": "inputs/raw/demo.jsonl",
        "custom_operator_paths": ["inputs/gate_mapper.py"],
        "process": recipe,
        "np": 2,
    }
    return job_contract("ProcessDataHook", dj=dj, attempt=attempt, meta_name="process")


def assert_went_on(ended: Ended, rows: list[dict[str, Any]]) -> None:
    assert ended.code == 0, ended.log
    assert "2 of them done by an earlier attempt" in ended.message.message
    assert "OP [text_length_filter] Done" not in ended.log
    assert "OP [gate_mapper] Done" in ended.log
    texts = dict.fromkeys(row["text"] for row in rows if len(row["text"]) <= 1000)
    kept = [json.loads(line)["text"] for line in ended.output("dataset").read_text().splitlines()]
    assert kept == [text for text in texts if len(text.split()) >= 5]
    metrics = ended.result.metrics
    assert metrics["process.ops.0_text_length_filter.rows_in"] == len(rows)
    assert metrics["process.ops.1_document_deduplicator.rows_out"] == len(texts)
    assert metrics["process.rows_out"] == len(kept)
    assert not (ended.folder.parents[2] / "state").exists() or not any((ended.folder.parents[2] / "state").iterdir())


def test_after_sigterm_the_next_attempt_goes_on_after_the_operators_that_are_done(
    hook_pod: HookPod, rows: list[dict[str, Any]]
) -> None:
    (hook_pod.inputs / "hold").touch()
    running = hook_pod.start(gated(hook_pod))
    running.wait_for(hook_pod.inputs / "began")
    running.process.send_signal(signal.SIGTERM)
    stopped = running.end()
    (hook_pod.inputs / "hold").unlink()

    assert stopped.code == 143, stopped.log
    assert stopped.message.error is not None
    assert stopped.message.error.class_ == "Preempted"
    assert_went_on(hook_pod.run(gated(hook_pod, attempt=2)), rows)


def test_an_operator_that_fails_on_rows_fails_the_hook_and_the_retry_goes_on_from_there(
    hook_pod: HookPod, rows: list[dict[str, Any]]
) -> None:
    (hook_pod.inputs / "broken").touch()
    failed = hook_pod.run(gated(hook_pod))
    (hook_pod.inputs / "broken").unlink()

    assert failed.code == 1
    assert failed.message.error is not None
    assert failed.message.error.class_ == "User"
    assert error_of(failed).startswith("djConfigs.process[2].gate_mapper: the operator failed on rows: ")
    assert "ValueError: no gate for row" in error_of(failed)
    assert failed.result.outputs == {}
    assert_went_on(hook_pod.run(gated(hook_pod, attempt=2)), rows)


def test_ray_gives_the_rows_of_the_default_executor_and_counts_each_operator_when_asked(
    hook_pod: HookPod, rows: list[dict[str, Any]]
) -> None:
    dj = {
        "dataset_path": "inputs/raw/demo.jsonl",
        "executor_type": "ray",
        "export_path": "outputs/ray.jsonl",
        "process": [{"text_length_filter": {"max_len": 200}}, {"words_num_filter": {"min_num": 14}}],
    }
    ended = hook_pod.run(job_contract("ProcessDataHook", dj=dj, extra={"countEachOp": True}, meta_name="process"))

    assert ended.code == 0, ended.log
    short = [row["text"] for row in rows if len(row["text"]) <= 200]
    expected = [text for text in short if len(text.split()) >= 14]
    kept = [json.loads(line)["text"] for line in (hook_pod.experiment / "outputs/ray.jsonl").read_text().splitlines()]
    assert sorted(kept) == sorted(expected)
    metrics = ended.result.metrics
    assert metrics["process.ops.0_text_length_filter.rows_out"] == len(short)
    assert (metrics["process.rows_in"], metrics["process.rows_out"]) == (len(rows), len(expected))


@pytest.mark.parametrize(
    ("changes", "sentences"),
    [
        ({"dataset_path": "inputs/raw/gone.jsonl"}, ["djConfigs.dataset_path: ", "gone.jsonl"]),
        ({"dataset_path": None}, ["djConfigs.dataset_path: "]),
        ({"dataset_path": "inputs/raw/empty.jsonl"}, ["djConfigs.dataset_path: ", "no rows"]),
        ({"dataset_path": "inputs/raw/torn.jsonl"}, ["djConfigs.dataset_path: ", "torn.jsonl, line 2: not JSON"]),
        ({"dataset_pth": "x"}, ["djConfigs.dataset_pth: ", "did you mean dataset_path"]),
        (
            {"process": [{"text_lenght_filter": None}]},
            ["djConfigs.process[0].text_lenght_filter: ", "text_length_filter"],
        ),
        (
            {"process": [{"text_length_filter": {"min_length": 3}}]},
            ["djConfigs.process[0].text_length_filter: ", "min_len"],
        ),
        ({"executor_type": "ray"}, ["djConfigs.process[1].document_deduplicator: ", "use ray_document_deduplicator"]),
        ({"export_path": "outputs/x.csv"}, ["djConfigs.export_path: ", ".jsonl"]),
    ],
)
def test_bad_input_is_a_config_error_that_names_its_field(
    hook_pod: HookPod, changes: dict[str, Any], sentences: list[str]
) -> None:
    write_jsonl(hook_pod.inputs / "raw" / "empty.jsonl", [])
    (hook_pod.inputs / "raw" / "torn.jsonl").write_text('{"text": "a"}\n{"text": \n')
    dj = {
        "dataset_path": "inputs/raw/demo.jsonl",
        "process": [{"text_length_filter": None}, {"document_deduplicator": None}],
        **changes,
    }

    ended = hook_pod.run(job_contract("ProcessDataHook", dj=dj))

    assert ended.code == 2, ended.log
    assert error_of(ended).startswith(sentences[0])
    for sentence in sentences[1:]:
        assert sentence in error_of(ended)


def test_k_sigma_without_its_probe_says_what_to_do(hook_pod: HookPod) -> None:
    ended = hook_pod.run(job_contract("RefineRecipeViaKSigmaHook", stage="refine", dj={"process": []}))

    assert ended.code == 2
    assert error_of(ended).startswith("probe: there is no probe to refine from")


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        ({"k": 0}, "extraConfigs.k: input should be greater than 0; it is 0"),
        ({"kk": 3}, "extraConfigs.kk: RefineRecipeViaKSigmaHook has no such setting"),
        ({"path_k_sigma_recipe": "outputs/recipe.txt"}, "extraConfigs.path_k_sigma_recipe: string should match"),
    ],
)
def test_wrong_settings_of_k_sigma_are_named(hook_pod: HookPod, extra: dict[str, Any], sentence: str) -> None:
    ended = hook_pod.run(job_contract("RefineRecipeViaKSigmaHook", stage="refine", dj={"process": []}, extra=extra))

    assert ended.code == 2
    assert sentence in error_of(ended)


def test_rows_of_another_job_that_are_none_name_that_job(hook_pod: HookPod) -> None:
    dj = {"dataset_path": "inputs/raw/demo.jsonl", "process": [{"text_length_filter": {"min_len": 100000}}]}
    nothing = hook_pod.run(job_contract("ProcessDataHook", dj=dj, stage="execution", meta_name="process"))
    assert nothing.code == 0, nothing.log
    assert nothing.result.metrics["process.rows_out"] == 0

    ended = hook_pod.run(
        job_contract(
            "ProbeViaAnalyzerHook",
            stage="evaluation",
            dj={"process": dj["process"]},
            inputs={"djConfigs.dataset_path": nothing.reference("dataset")},
        )
    )

    assert ended.code == 2, ended.log
    assert error_of(ended).startswith("djConfigs.dataset_path: ")
    assert "the output 'dataset' of job anonymous/1/execution/0" in error_of(ended)
