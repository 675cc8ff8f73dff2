# SPDX-License-Identifier: Apache-2.0
"""Components as a developer of Data-Juicer's sandbox writes them: they run, and are watched while they run."""

import asyncio
import contextlib
import copy
import json
import math
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.hook_pod import job_contract

from sandbox_runtime.components import BaseEvaluator, BaseModelExecutor, Watcher, config_of, factory
from sandbox_runtime.components.base import END_MARKER
from sandbox_runtime.errors import ConfigError
from sandbox_runtime.metrics import MetricsLog
from sandbox_runtime.watcher import SandboxWatcher
from sandbox_runtime.workspace import Workspace


class Trainer(BaseModelExecutor):
    """As the guide has it: an async `_run` that blocks, lines of a log that are parsed for the loss."""

    def __init__(self, model_config: dict[str, Any], watcher: Any = None) -> None:
        super().__init__(model_config, watcher)
        self.seen = threading.Event()

    async def _run(self, run_type: str, run_obj: Any = None, **kwargs: Any) -> None:
        print("step 1 loss: 2.5")
        assert self.seen.wait(30), "the first line is seen while this works"
        subprocess.run([sys.executable, "-c", "print('step 2 loss: 1.25')"], check=True)
        print("no end of line", end="")
        Path(self.model_config["work_dir"], "model.bin").write_text("weights")

    async def _watch_run(self, line: str, **kwargs: Any) -> None:
        if found := re.search(r"loss:\s*([0-9.]+)", line):
            self.watcher.watch(float(found[1]), "loss")
            self.seen.set()


def run(executor: BaseModelExecutor) -> Any:
    """As in a pod: what is printed goes to descriptor 1, past what pytest has put in its place."""
    with open(1, "w", closefd=False, buffering=1) as stdout, contextlib.redirect_stdout(stdout):
        return asyncio.run(executor.run("mine"))


def watched(tmp_path: Path) -> tuple[Watcher, MetricsLog]:
    workspace = Workspace(tmp_path, tmp_path / "inputs", job_contract(), "pod00001")
    workspace.out.mkdir(parents=True)
    log = MetricsLog(tmp_path / "metrics.jsonl", "train")
    return Watcher(log, SandboxWatcher(workspace, log, "uid")), log


def figures(tmp_path: Path) -> list[dict[str, Any]]:
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    return [{name: value for name, value in json.loads(line).items() if name != "t"} for line in lines]


def test_a_trainer_written_for_the_sandbox_runs_and_is_watched_while_it_works(tmp_path: Path) -> None:
    watcher, _ = watched(tmp_path)
    trainer = Trainer({"type": "mine", "work_dir": str(tmp_path / "work")}, watcher)
    assert run(trainer) == tmp_path / "work"
    assert figures(tmp_path) == [{"step": 1, "train.loss": 2.5}, {"step": 2, "train.loss": 1.25}]
    assert watcher.last == {"loss": 1.25}
    (log,) = (tmp_path / "work").glob("model_exe_mine_*.log")
    assert log.read_text().splitlines() == ["step 1 loss: 2.5", "step 2 loss: 1.25", f"no end of line{END_MARKER}"]


def test_an_error_ends_the_run_when_the_watching_has_ended(tmp_path: Path) -> None:
    class Broken(Trainer):
        async def _run(self, run_type: str, run_obj: Any = None, **kwargs: Any) -> None:
            print("loss: 7")
            raise RuntimeError("out of data")

    watcher, _ = watched(tmp_path)
    with pytest.raises(RuntimeError, match="out of data"):
        run(Broken({"work_dir": str(tmp_path)}, watcher))
    assert watcher.last == {"loss": 7.0}


def test_a_mistake_in_the_watching_does_not_end_the_training(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    class Blind(Trainer):
        async def _run(self, run_type: str, run_obj: Any = None, **kwargs: Any) -> None:
            print("a line")

        async def _watch_run(self, line: str, **kwargs: Any) -> None:
            raise ValueError(f"can't read {line!r}")

    trainer = Blind({"work_dir": str(tmp_path)}, watched(tmp_path)[0])
    assert run(trainer) == tmp_path
    assert "Blind no longer watches its log: ValueError: can't read 'a line'" in capfd.readouterr().out


def test_a_component_watches_what_a_hook_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Numbers of any kind, texts, lists, an evaluator's pair, tables; what is not finite is named in the log."""

    class Table:
        def to_csv(self, file: Any) -> None:
            file.write("a,b\n")

    watcher, _ = watched(tmp_path)
    watcher.watch({"mean": np.float32(0.5), "per": {"a": 1, "word": "x"}, "broken": float("nan")}, "score", step=7)
    watcher.watch(([0.1, 0.2], 0.2), "pair")
    watcher.watch("a text", "score")
    watcher.watch(0.25, "train")
    watcher.watch(Table(), "train.table")
    *lines, last = figures(tmp_path)
    assert lines == [
        {
            "step": 7,
            "train.score.mean": 0.5,
            "train.score.per.a": 1.0,
            "_values": {"train.score.per.word": "x"},
            "_notFinite": ["train.score.broken"],
        },
        {"step": 1, "train.pair.all.0": 0.1, "train.pair.all.1": 0.2, "train.pair.best": 0.2},
        {"step": 1, "_values": {"train.score": "a text"}},
        {"step": 1, "train": 0.25},
    ]
    assert (tmp_path / last["_tables"]["train.table"]).read_text() == "a,b\n"
    assert "left out, not finite: train.score.broken" in capsys.readouterr().out
    own = {"score.mean": 0.5, "score.per.a": 1.0, "pair.all.0": 0.1, "pair.all.1": 0.2, "pair.best": 0.2}
    assert math.isnan(watcher.last.pop("score.broken")), "the newest value: the result must not say an older one"
    assert watcher.last == own | {"": 0.25}, "a figure without a name of its own is called as the job is"


def test_settings_are_read_by_key_and_by_attribute_as_in_the_sandbox(tmp_path: Path) -> None:
    class Small(BaseModelExecutor):
        def __init__(self, model_config: Any, watcher: Any = None) -> None:
            super().__init__(model_config, watcher)
            self.steps = model_config.train.steps

        async def _run(self, run_type: str, run_obj: Any = None, **kwargs: Any) -> Any:
            config = self.model_config
            Path(config.work_dir, "said").write_text(f"{config['train']['steps']} {config.train.get('lr', 1)}")
            return {"steps": self.steps, "stages": config.train.stages[0].name == "warm", "has": "lr" in config.train}

    settings = {"work_dir": str(tmp_path), "train": {"steps": 3, "stages": [{"name": "warm"}]}}
    executor = Small(config_of(settings))
    assert run(executor) == {"steps": 3, "stages": True, "has": False}
    assert (tmp_path / "said").read_text() == "3 1"
    assert copy.deepcopy(executor.model_config) == settings
    with pytest.raises(AttributeError, match="the settings have no 'lr'; they have: steps, stages"):
        assert executor.model_config.train.lr


def test_an_evaluator_is_called_with_its_kind_and_its_object() -> None:
    class Longer(BaseEvaluator):
        def run(self, eval_type: str, eval_obj: Any = None, **kwargs: Any) -> float:
            return len(eval_obj) / self.eval_config.unit

    assert Longer({"unit": 2}).run("data", "four") == 2.0


def test_a_factory_names_what_it_has() -> None:
    with pytest.raises(ConfigError, match=r"type: this image has no component 'nonesuch' of model_train; it has: "):
        factory("model_train")({"type": "nonesuch"})
    with pytest.raises(ConfigError, match=r"type: is missing; model_train has: "):
        factory("model_train")({})
    with pytest.raises(ConfigError, match=r"factory: there is no 'nonesuch'; there is: .*model_train"):
        factory("nonesuch")
