# SPDX-License-Identifier: Apache-2.0
"""`sandboxctl` against a real API server: what its commands write, what follows, and what they say."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.api.conftest import Plane
from tests.api.lab import Lab, probes
from tests.api.played import Gate, Pod, fails, succeeds
from tests.api.test_operator_repeats import judged
from tests.api.test_operator_repeats import spec as ranked_pools
from tests.unit.test_cli_plan_sweep import a_sweep

from sandbox_api.result import Output
from sandbox_operator.cli.experiments import EXPERIMENTS, HOOKS, SWEEPS

pytestmark = pytest.mark.usefixtures("operator")
SANDBOXCTL = "from sandbox_operator.cli.main import app; app(prog_name='sandboxctl')"


@dataclass(frozen=True)
class Said:
    code: int
    text: str


@dataclass(frozen=True)
class Terminal:
    """One user's shell, in the namespace of a test."""

    kubeconfig: Path
    namespace: str

    async def begun(self, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-c", SANDBOXCTL, "--kubeconfig", str(self.kubeconfig), "-n", self.namespace, *arguments,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip

    async def sandboxctl(self, *arguments: str) -> Said:
        process = await self.begun(*arguments)
        output, _ = await process.communicate()
        assert process.returncode is not None
        return Said(process.returncode, output.decode().strip())


@pytest.fixture
def terminal(plane: Plane, lab: Lab) -> Terminal:
    return Terminal(plane.admin, lab.namespace)


async def test_a_suspended_experiment_finishes_its_hook_and_goes_on_when_it_is_resumed(
    lab: Lab, terminal: Terminal
) -> None:
    gate = lab.kubelet.table[("a",)] = Gate(succeeds())
    await lab.apply("demo", probes("a", "b"))
    await lab.reached(gate, "the first hook runs")
    await lab.until(lambda: lab.job("demo", "a").get("state") == "Running", "its status says so")

    said = await terminal.sandboxctl("suspend", "demo")
    assert said == Said(0, "demo: anonymous/1/probe/0 (a) runs to its end; no further hook starts until it is resumed")
    gate.opened.set()
    await lab.reason("demo", "Suspended")
    assert (lab.job("demo", "a")["state"], len(lab.jobs_of("demo"))) == ("Succeeded", 1)
    assert await terminal.sandboxctl("suspend", "demo") == Said(1, "demo: is suspended already")

    assert await terminal.sandboxctl("resume", "demo") == Said(0, "demo: goes on, 1/2 jobs done")
    await lab.finished("demo")
    assert lab.status("demo")["outcome"] == "Succeeded"
    assert await terminal.sandboxctl("resume", "demo") == Said(1, "demo: is not suspended")


async def test_watching_a_sweep_says_what_follows_it(lab: Lab, terminal: Terminal) -> None:
    await lab.client.create(SWEEPS, a_sweep(suspend=True), lab.namespace)
    said = await terminal.sandboxctl("watch", "find")
    words = f"follow it with kubectl get sbsw find -n {lab.namespace} -w; its trials are experiments"
    assert said == Said(1, f"{lab.namespace}/find is a sweep: {words}")
    assert "check the name" in (await terminal.sandboxctl("watch", "nope")).text


async def test_suspending_at_once_ends_the_hook_without_a_failure(lab: Lab, terminal: Terminal) -> None:
    gate = lab.kubelet.table[("a", 1)] = Gate(succeeds())
    await lab.apply("demo", probes("a"))
    await lab.reached(gate, "the hook runs")
    await lab.until(lambda: lab.job("demo", "a").get("state") == "Running", "its status says so")

    said = await terminal.sandboxctl("suspend", "demo", "--now")
    assert said.text.startswith("demo: anonymous/1/probe/0 (a) is ended; ")
    await lab.reason("demo", "Suspended")
    await lab.until(lambda: not lab.pods_of("demo"), "its pod is gone")

    await terminal.sandboxctl("resume", "demo")
    await lab.finished("demo")
    job = lab.job("demo", "a")
    assert (job["state"], job["attempts"], job.get("failures")) == ("Succeeded", 2, None)


async def test_a_stopped_experiment_keeps_its_results_and_can_be_run_again(lab: Lab, terminal: Terminal) -> None:
    gate = lab.kubelet.table[("b", 1)] = Gate(succeeds())
    await lab.apply("demo", probes("a", "b"))
    await lab.reached(gate, "the second hook runs")

    said = await terminal.sandboxctl("stop", "demo")
    assert said == Said(0, "demo: ends; results that are there stay")
    await lab.finished("demo")
    assert lab.status("demo")["outcome"] == "Stopped"
    assert lab.job("demo", "a")["state"] == "Succeeded"
    said = await terminal.sandboxctl("stop", "demo")
    assert said == Said(1, "demo: has ended already (Stopped); there is nothing to stop")

    said = await terminal.sandboxctl("rerun", "demo")
    assert said.text == "demo: runs what failed or was skipped, or else everything again (token '1')"
    await lab.until(lambda: lab.status("demo").get("outcome") == "Succeeded", "it has run again")
    assert (lab.job("demo", "a")["attempts"], lab.job("demo", "b")["attempts"]) == (1, 2)


async def test_a_failed_experiment_runs_again_from_where_it_is_told(lab: Lab, terminal: Terminal) -> None:
    lab.kubelet.table |= {("b", 1): fails("User", "ValueError", "row 17"), ("b",): succeeds()}
    await lab.apply("demo", probes("a", "b"))
    await lab.finished("demo")

    said = await terminal.sandboxctl("rerun", "demo", "--from", "nope")
    assert said.code == 1
    assert "spec.rerun.from: no job has the metaName 'nope'" in said.text
    assert "rerun" not in lab.experiments.store[(lab.namespace, "demo")]["spec"]

    said = await terminal.sandboxctl("rerun", "demo", "--from", "a", "--token", "mended")
    assert said == Said(0, "demo: runs a and everything after it again (token 'mended')")
    await lab.until(lambda: lab.status("demo").get("outcome") == "Succeeded", "it has run again")
    assert [lab.job("demo", name)["attempts"] for name in "ab"] == [2, 2]
    said = await terminal.sandboxctl("rerun", "demo", "--token", "mended")
    assert said == Said(1, "demo: the token 'mended' was used already; take another --token")


async def test_a_job_of_ones_own_hook_is_known_by_the_hook_s_name(lab: Lab, terminal: Terminal) -> None:
    """Its metaName stands nowhere in the experiment."""
    hook = {"apiVersion": HOOKS.api_version, "kind": HOOKS.kind, "metadata": {"name": "mine"}}
    await lab.client.create(HOOKS, {**hook, "spec": {"image": "registry.example/mine:1"}}, lab.namespace)
    await lab.apply("demo", {"workspace": {"claim": {"size": "1Gi"}}, "probeJobConfigs": [{"hook": "mine"}]})
    await lab.finished("demo")

    said = await terminal.sandboxctl("rerun", "demo", "--from", "mine")
    assert said == Said(0, "demo: runs mine and everything after it again (token '1')")
    await lab.until(lambda: lab.job("demo", "mine").get("attempts") == 2, "it runs again")


async def test_watch_follows_to_the_end_and_its_exit_code_tells_it(lab: Lab, terminal: Terminal) -> None:
    lab.kubelet.table[("b",)] = fails("User", "ValueError", "row 17")
    await lab.apply("good", probes("a"))
    await lab.apply("bad", probes("b"))
    good, bad = await asyncio.gather(terminal.sandboxctl("watch", "good"), terminal.sandboxctl("watch", "bad"))

    assert good.code == 0
    assert "anonymous/1/probe/0        ProbeViaAnalyzerHook       Succeeded" in good.text
    assert bad.code == 1
    assert "bad: anonymous/1/probe/0 (ProbeViaAnalyzerHook, b) failed: ValueError: row 17" in bad.text


async def test_a_rankings_winner_is_promoted_to_an_experiment_that_the_api_server_takes_and_runs(
    lab: Lab, terminal: Terminal, tmp_path: Path
) -> None:
    lab.kubelet.table |= {("judge",): judged, ("winner",): refined}
    await lab.make_bound_claim("raw")
    small = await lab.apply("small", with_a_recipe())
    await lab.finished("small")
    assert lab.status("small")["outcome"] == "Succeeded", lab.told()
    (tmp_path / "values.yaml").write_text("jobs: {train: {extraConfigs: {train_dataset: null}}}")

    said = await terminal.sandboxctl(
        "promote", "small", "--dataset", "inputs/raw/all.jsonl", "--values", str(tmp_path / "values.yaml"),
        "--name", "large", "-o", str(tmp_path / "large.yaml"),
    )  # fmt: skip
    doubt = "high is tied with the baseline random: the difference may be chance; more repeats tell more"
    assert said == Said(0, f"warning: {doubt}")
    await lab.client.create(EXPERIMENTS, yaml.safe_load((tmp_path / "large.yaml").read_text()), lab.namespace)
    await lab.finished("large")

    status = lab.status("large")
    assert status["outcome"] == "Succeeded", lab.told()
    assert [job["metaName"] for job in status["jobs"]] == ["before", "process", "after", "train", "infer", "judge"]
    assert {(row["beforeJob"], row["afterJob"]) for row in status["comparison"]} == {("before", "after")}
    large = await lab.client.get(EXPERIMENTS, "large", lab.namespace)
    come_from = {key.rpartition("/")[2]: text for key, text in large["metadata"]["annotations"].items()}
    assert (come_from["uid"], come_from["doubts"]) == (small["metadata"]["uid"], doubt)
    process = large["spec"]["pipelines"][0]["executionJobConfigs"][0]["djConfigs"]
    assert process == {"dataset_path": "inputs/raw/all.jsonl", "process": [{"text_length_filter": {"min_len": 12}}]}


def with_a_recipe() -> dict[str, Any]:
    """Pools that are ranked, and a recipe of the best one."""
    spec = ranked_pools()
    recipe = {"process": [{"text_length_filter": {}}]}
    look = {"hook": "ProbeViaAnalyzerHook", "metaName": "look",
            "djConfigs": {"dataset_path": "inputs/raw/a.jsonl", **recipe}}  # fmt: skip
    winner = {"hook": "RefineRecipeViaPoolHook", "metaName": "winner", "probe": "look", "djConfigs": recipe,
              "extraConfigs": {"pool_path": "pools/high.jsonl"}}  # fmt: skip
    last = {"name": "last", "probeJobConfigs": [look], "refineRecipeJobConfigs": [winner]}
    return {**spec, "pipelines": [*spec["pipelines"], last]}


async def refined(pod: Pod) -> None:
    await pod.runs()
    outputs = {"recipe": Output(kind="path", path=f"{pod.folder}/out/recipe.yaml"),
               "bounds": Output(kind="value", value={"text_length_filter.min_len": 12})}  # fmt: skip
    await pod.ends(0, pod.message(outcome="Succeeded", message="bounded", outputs=outputs))


async def test_an_experiment_that_is_not_there_is_told_in_a_sentence(terminal: Terminal) -> None:
    for command in ("show", "suspend"):
        said = await terminal.sandboxctl(command, "nobody")
        assert said.code == 1
        assert said.text.endswith("check the name and --namespace")
