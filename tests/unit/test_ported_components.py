# SPDX-License-Identifier: Apache-2.0
"""Classes as users of Data-Juicer's sandbox have them run here with the imports changed that the README names, and no more."""

import os
import re
from pathlib import Path

import pytest
from tests.custom import CUSTOM
from tests.hook_pod import PATHS, Ended, HookPod, job_contract

OF_THE_SANDBOX = """
import os
import re

from data_juicer.core.sandbox.evaluators import BaseEvaluator
from data_juicer.core.sandbox.hooks import BaseHook
from data_juicer.core.sandbox.model_executors import BaseModelExecutor


class ScriptTrainExecutor(BaseModelExecutor):
    def __init__(self, model_config, watcher=None):
        super().__init__(model_config, watcher)
        self.work_dir = model_config.work_dir

    async def _run(self, run_type, run_obj=None, **kwargs):
        steps = self.model_config.train.training_config.steps
        script = os.path.join(self.work_dir, "train.sh")
        with open(script, "w") as f:
            f.write("for step in $(seq $1); do echo step $step, loss: 0.$step; done; echo weights > model.bin; exit $2")
        self.run_subprocess(script, [steps, self.model_config.get("code", 0)], self.work_dir)
        return self.work_dir

    def _watch_run(self, line, **kwargs):
        if self.watcher is not None:
            match = re.search(r"loss:\\s*([0-9.]+)", line)
            if match:
                self.watcher.watch(float(match.group(1)), "loss")


class LinesEvaluator(BaseEvaluator):
    def run(self, eval_type, eval_obj=None, **kwargs):
        if eval_type == "data":
            with open(self.eval_config.dataset_path) as f:
                return {"lines": len(f.readlines()), "least": self.eval_config.get("least", 0)}
        raise NotImplementedError("Unsupported evaluation type: {}".format(eval_type))


class SizeEvaluator(BaseEvaluator):
    def run(self, eval_type, eval_obj=None, **kwargs):
        return [{"bytes": os.path.getsize(path), "first": i == 0} for i, path in enumerate(self.eval_config.ckpt_paths)]


class CountHook(BaseHook):
    def hook(self, **kwargs):
        self.watcher.watch(len(self.extra_cfg.words), "words")
        return [self.extra_cfg["words"]]
"""
ENTRY_POINTS = """
[sandbox.hooks]
port-train = sandbox_runtime.hooks.models:TrainModelHook
port-judge = sandbox_runtime.hooks.evaluate:EvaluateDataHook
port-size = sandbox_runtime.hooks.evaluate_model:EvaluateModelHook
port-count = ported:CountHook
[sandbox.components.model_train]
script = ported:ScriptTrainExecutor
[sandbox.components.data_evaluator]
lines = ported:LinesEvaluator
[sandbox.components.model_evaluator]
size = ported:SizeEvaluator
"""


def ported() -> str:
    """The module with the imports that the README's table has on the right."""
    readme = (CUSTOM / "components" / "README.md").read_text()
    table = re.findall(r"^\| `(from [^`]+)` \| `(from [^`]+)` \|$", readme, re.MULTILINE)
    assert len(table) == 3
    text = OF_THE_SANDBOX
    for old, new in table:
        assert f"\n{old}\n" in text
        text = text.replace(old, new)
    changed = [one for one, other in zip(OF_THE_SANDBOX.splitlines(), text.splitlines(), strict=True) if one != other]
    assert all(line.startswith("from data_juicer.core.sandbox.") for line in changed)
    return text


@pytest.fixture
def pod(tmp_path: Path) -> HookPod:
    package = tmp_path / "package"
    (package / "ported-1.0.dist-info").mkdir(parents=True)
    (package / "ported.py").write_text(ported())
    (package / "ported-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: ported\nVersion: 1.0\n")
    (package / "ported-1.0.dist-info" / "entry_points.txt").write_text(ENTRY_POINTS)
    return HookPod(tmp_path, environ={"PYTHONPATH": os.pathsep.join(map(str, [*PATHS, package]))})


def run(pod: HookPod, hook: str, extra: object, outputs: list[str], stage: str = "execution") -> Ended:
    ended = pod.run(job_contract(hook, stage=stage, meta_name="job", extra=extra, outputs=outputs))
    assert ended.code == 0, ended.log
    return ended


def test_an_executor_trains_by_a_script_and_its_folder_is_published_where_its_settings_say(pod: HookPod) -> None:
    extra = {"type": "script", "work_dir": "outputs/trained", "train": {"training_config": {"steps": 3}}}
    ended = run(pod, "port-train", extra, ["model", "checkpoints"])
    assert ended.message.metrics == {"job.loss": 0.3}
    assert (ended.output("model") / "model.bin").read_text() == "weights\n"
    assert (pod.experiment / "outputs" / "trained").resolve() == ended.output("model").resolve()


def test_a_script_that_fails_fails_the_job(pod: HookPod) -> None:
    extra = {"type": "script", "code": 7, "train": {"training_config": {"steps": 3}}}
    ended = pod.run(job_contract("port-train", stage="execution", meta_name="job", extra=extra, outputs=["model"]))
    assert ended.code == 1, ended.log
    assert ended.message.error is not None
    assert "returned non-zero exit status 7" in ended.message.error.message


def test_an_evaluator_and_a_hook_work_as_they_are(pod: HookPod) -> None:
    pod.experiment.mkdir(parents=True, exist_ok=True)
    (pod.experiment / "a.jsonl").write_text("{}\n{}\n")
    judged = run(pod, "port-judge", {"type": "lines", "dataset_path": "a.jsonl"}, ["value"], "evaluation")
    assert judged.message.metrics == {"job": 2.0, "job.lines": 2.0, "job.least": 0.0}

    (pod.experiment / "b.bin").write_text("12345")
    sized = run(pod, "port-size", {"type": "size", "ckpt_paths": ["a.jsonl", "b.bin"]}, ["value", "each"], "evaluation")
    assert sized.message.metrics == {"job": 6.0, "job.bytes": 6.0}
    assert [row["bytes"] for row in sized.result.outputs["each"].value] == [6, 5]

    counted = run(pod, "port-count", {"words": ["a", "b"]}, ["words"], "probe")
    assert counted.result.outputs["words"].value == ["a", "b"]
    assert counted.message.metrics == {"job.words": 2.0}
