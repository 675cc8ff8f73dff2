# SPDX-License-Identifier: Apache-2.0
"""configs/custom/components on the runtime, from its wheel, through the real process: one of each that a developer may add."""

import gzip
import json
import os
from pathlib import Path

import pytest
from tests.custom import documents, wheel
from tests.hook_pod import PATHS, HookPod, job_contract, write_jsonl

from sandbox_api.hook_resource import extra_problems, hooks_in, merged_extra
from sandbox_operator.plan.compile import compile_spec

DATA = "inputs/raw/demo.jsonl.gz"


@pytest.fixture(scope="module")
def bigram(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheel("components", tmp_path_factory.mktemp("components"))


def test_the_example_is_a_plan() -> None:
    hooks, problems = hooks_in(documents("components"))
    assert not problems
    (experiment,) = (item for item in documents("components") if item["kind"] == "SandboxExperiment")
    assert compile_spec(experiment["spec"], hooks).problems == ()


def test_count_clean_train_write_and_score(tmp_path: Path, bigram: Path) -> None:
    pod = HookPod(tmp_path, environ={"PYTHONPATH": os.pathsep.join([*(str(path) for path in PATHS), str(bigram)])})
    plain = write_jsonl(pod.inputs / "raw" / "demo.jsonl", [{"text": f"abab {'ab' * number}"} for number in range(30)])
    (pod.inputs / "raw" / "demo.jsonl.gz").write_bytes(gzip.compress(plain.read_bytes()))
    hooks, _ = hooks_in(documents("components"))

    def run(name: str, stage: str, dj: object = None, **settings: object):  # type: ignore[no-untyped-def]
        assert extra_problems(hooks[name], settings) == []
        extra = dict(merged_extra(hooks[name], settings))
        outputs = list(hooks[name].outputs)
        ended = pod.run(job_contract(name, stage=stage, meta_name=name, dj=dj, extra=extra, outputs=outputs))
        assert ended.code == 0, ended.log
        return ended

    counted = run("bigram-count", "probe", {"dataset_path": DATA})
    stats = [json.loads(line)["pairs"] for line in counted.output("stats").read_text().splitlines()]
    assert len(stats) == 30
    assert stats == [5, *[6] * 29], "the shortest, `abab `, ends otherwise than all others"
    assert counted.message.metrics == {"bigram-count.pairs.mean": sum(stats) / 30}

    export = {"dataset_path": DATA, "export_path": "outputs/clean.jsonl"}
    cleaned = run("bigram-clean", "execution", export, min_pairs=6)
    assert cleaned.message.metrics == {"bigram-clean.rows_in": 30.0, "bigram-clean.rows_out": 29.0}
    assert len(cleaned.output("dataset").read_text().splitlines()) == 29
    assert (pod.experiment / "outputs/clean.jsonl").resolve() == cleaned.output("dataset").resolve()

    trained = run("bigram-train", "execution", train_dataset=DATA)
    losses = [
        json.loads(line)["bigram-train.loss"] for line in (trained.folder / "metrics.jsonl").read_text().splitlines()
    ]
    assert len(losses) == 3
    assert losses == sorted(losses, reverse=True)
    assert trained.message.metrics == {"bigram-train.loss": losses[-1]}
    model = trained.output("model")
    assert [path.name for path in model.glob("model_exe_bigram_*.log")], "what it printed stands beside it"

    wrote = run("bigram-infer", "execution", model=str(model), prompts=["a", "b"])
    texts = [json.loads(line)["text"] for line in wrote.output("dataset").read_text().splitlines()]
    assert [text[0] for text in texts] == ["a", "b"]
    assert set("".join(texts)) <= set("ab ")

    scored = run("bigram-score", "evaluation", model=str(model), dataset_path=DATA)
    assert 1 < scored.message.metrics["bigram-score.perplexity"] < 4

    judged = run("bigram-judge", "evaluation", model=str(model), dataset_path=DATA)
    perplexity = scored.message.metrics["bigram-score.perplexity"]
    assert judged.message.metrics == {"bigram-judge": perplexity, "bigram-judge.perplexity": perplexity}
    assert judged.result.outputs["value"].value == perplexity


def test_under_a_name_of_ones_own_a_hook_of_data_wants_a_component(tmp_path: Path, bigram: Path) -> None:
    pod = HookPod(tmp_path, environ={"PYTHONPATH": os.pathsep.join([*(str(path) for path in PATHS), str(bigram)])})
    contract = job_contract("bigram-clean", stage="execution", dj={"dataset_path": "a.jsonl"}, outputs=["dataset"])
    ended = pod.run(contract)
    assert ended.code == 2, ended.log
    assert ended.message.error is not None
    assert ended.message.error.message == "type: is missing; it has: varied"
