# SPDX-License-Identifier: Apache-2.0
"""The watcher's four verbs as a hook's author uses them; what they leave is what the exporter and other pods read."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
from tests.hook_pod import EXPERIMENT, HookPod, job_contract

from sandbox_runtime.components import Watcher
from sandbox_runtime.errors import ConfigError
from sandbox_runtime.metrics import MetricsLog
from sandbox_runtime.secrets import HIDDEN
from sandbox_runtime.watcher import SandboxWatcher
from sandbox_runtime.workspace import Workspace

SWEEP = {
    "sweep_name": "hpo",
    "method": "bayes",
    "metric": {"name": "quality_score", "goal": "maximize"},
    "parameters": {"character_repetition_filter.rep_len": {"values": [5, 10]}, "x": {"min": 0.0, "max": 1.0}},
}


class Frame:
    """As much of a DataFrame as is asked of one."""

    def to_csv(self, file: Any) -> None:
        file.write(",len\nmean,3.5\n")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path / "volume", tmp_path / "inputs", job_contract(), "pod00001")
    made.out.mkdir(parents=True)
    return made


@pytest.fixture
def watcher(workspace: Workspace) -> SandboxWatcher:
    return SandboxWatcher(workspace, MetricsLog(workspace.metrics, "toy"), EXPERIMENT.uid)


def lines(workspace: Workspace) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in workspace.metrics.read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "t"} for line in found]


def test_a_number_and_the_ends_of_a_mapping_are_lines_with_the_guides_keys(
    watcher: SandboxWatcher, workspace: Workspace
) -> None:
    assert watcher.watch(0.5, "score") == 0.5
    watcher.watch({"results": {"fvd": 12, "kvd": 0.25}, "metric": "fvd2048_16f"}, "eval")
    watcher.watch({"loss": 2.0}, "eval", step=40)
    assert lines(workspace) == [
        {"step": 1, "score": 0.5},
        {"step": 1, "eval.results.fvd": 12.0, "eval.results.kvd": 0.25, "_values": {"eval.metric": "fvd2048_16f"}},
        {"step": 40, "eval.loss": 2.0},
    ]


def test_what_is_not_finite_is_left_out_and_named(
    watcher: SandboxWatcher, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    watcher.watch({"loss": float("nan"), "lr": 0.1, "deep": {"inf": float("inf")}}, "train")
    watcher.watch(float("-inf"), "alone")
    assert lines(workspace) == [
        {"step": 1, "train.lr": 0.1, "_notFinite": ["train.loss", "train.deep.inf"]},
        {"step": 1, "_notFinite": ["alone"]},
    ]
    assert "watch('train'): left out, not finite: train.loss, train.deep.inf" in capsys.readouterr().out


def test_pairs_of_evaluators_tables_and_odd_things_are_kept(watcher: SandboxWatcher, workspace: Workspace) -> None:
    watcher.watch(([0.5, 0.25], 0.5), "accuracy")
    watcher.watch(Frame(), "analysis")
    watcher.watch([True, None, Path("x")], "odd")
    first, second, third = lines(workspace)
    assert first == {"step": 1, "accuracy.all.0": 0.5, "accuracy.all.1": 0.25, "accuracy.best": 0.5}
    table = workspace.root / second["_tables"]["analysis"]
    assert table.read_text() == ",len\nmean,3.5\n"
    assert third == {"step": 1, "_values": {"odd.0": True, "odd.1": None, "odd.2": "x"}}
    assert watcher.query("analysis") == table


def test_configurations_are_lines_beside_the_metrics(watcher: SandboxWatcher, workspace: Workspace) -> None:
    watcher.watch_cfgs([({"np": 4, "process": [{"a": None}]}, "sandbox"), (None, "none"), ({"x": Path("p")}, "extra")])
    watcher.watch_cfgs([(Namespace(np=4, hub=Namespace(token="s3cret", name="a")), "sandbox")])
    assert [json.loads(line) for line in workspace.configs.read_text().splitlines()] == [
        {"sandbox.np": 4, "sandbox.process": [{"a": None}], "extra.x": "p"},
        {"sandbox.np": 4, "sandbox.hub": {"token": HIDDEN, "name": "a"}},
    ]


def test_a_sweep_is_checked_and_recorded_and_its_id_is_the_same_every_time(
    watcher: SandboxWatcher, workspace: Workspace
) -> None:
    sweep = watcher.setup_sweep(SWEEP, "project")
    assert watcher.setup_sweep(json.loads(json.dumps(SWEEP)), "project") == sweep
    assert watcher.setup_sweep(SWEEP, "another") != sweep
    path = workspace.experiment / "hpo.json"
    path.write_text(json.dumps(SWEEP))
    assert watcher.setup_sweep("hpo.json", "project") == sweep
    recorded = json.loads(watcher.outputs[f"sweep_{sweep}"].read_text())
    assert recorded == {"project": "project", "definition": SWEEP}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"method": "guess"}, "hpo_config.method: "),
        ({"metric": None}, "hpo_config.metric: every method needs a metric"),
        ({"metric": {}}, "hpo_config.metric.name: is missing"),
        ({"parameters": {}}, "hpo_config.parameters: is empty; name at least one parameter"),
        (
            {"parameters": {"a": {"value": float("nan")}}},
            'hpo_config.parameters["a"].value: nan is not a finite number',
        ),
        ({"parameters": {"a": {"value": {1, 2}}}}, "hpo_config: JSON can't hold it: "),
        ({"controller": {"x": float("inf")}}, "hpo_config: JSON can't hold it: "),
    ],
)
def test_a_sweep_that_is_wrong_is_refused_with_the_field(
    watcher: SandboxWatcher, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        watcher.setup_sweep({**SWEEP, **change})
    assert said in str(refused.value)


def test_components_have_the_same_verbs_and_their_keys_begin_with_the_metaname_once(
    watcher: SandboxWatcher, workspace: Workspace
) -> None:
    ported = Watcher(watcher.log, watcher)
    ported.watch({"loss": 1.0}, "toy")
    ported.watch(2.0, "lr")
    assert [set(line) - {"step"} for line in lines(workspace)] == [{"toy.loss"}, {"toy.lr"}]
    assert ported.query("toy.loss") == 1.0
    ported.watch_cfgs([({"a": 1}, "sandbox")])
    assert workspace.configs.exists()


def test_one_pod_asks_for_what_another_has_found(tmp_path: Path) -> None:
    """Committed figures and outputs of earlier hooks, lines of those that run, the newest first; typed."""
    pods = HookPod(tmp_path)
    first = pods.run(job_contract(extra={"do": "watch", "value": 0.5}, meta_name="first", outputs=["file", "list"]))
    assert first.code == 0, first.log
    asked = ["first.rows", "first.loss", "first.words", "first.file", "nothing", "first.list"]
    second = pods.run(job_contract(extra={"do": "ask", "keys": asked}, meta_name="second", index=1))
    assert second.code == 0, second.log
    found = second.result.outputs["0"].value
    assert found[:3] == [3.0, 0.5, "some words"]
    assert found[3] == str(first.output("file"))
    assert found[4:] == [None, [1, 2]]
    assert [name for name in first.result.outputs if name.startswith("sweep_")], "the sweep is one of its outputs"
    configs = [json.loads(line) for line in (first.folder / "configs.jsonl").read_text().splitlines()]
    assert configs[0]["first.extraConfigs.value"] == 0.5
    assert configs[1] == {"sandbox.seed": 42}
