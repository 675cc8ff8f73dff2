# SPDX-License-Identifier: Apache-2.0
"""`sandboxctl export recipe`: which file is read from the volume, by what pod, and what is written of it.

On a real API server the pod's life is played; what a pod has printed can only be asked where there is a kubelet, so
that is the fake API server's part here, and the real node's in `configs/hpo/run.sh`.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.api.conftest import Operators, Plane, kubeconfig
from tests.api.fakeapi import FakeAPI
from tests.api.lab import Lab, probes, road
from tests.api.played import PODS
from tests.api.test_sandboxctl import Said, Terminal

from sandbox_operator.cli.experiments import SWEEPS

RAN = "dataset_path: /workspace/a.jsonl\nexport_path: /workspace/b.jsonl\nprocess:\n- text_length_filter: {min_len: 12}\nnp: 2\n"


async def until_pod(lab: Lab) -> dict[str, Any]:
    def found() -> list[dict[str, Any]]:
        return [pod for (_, name), pod in lab.pods.store.items() if "-export-" in name]

    await lab.until(found, "a pod is to read the volume")
    return found()[0]


async def ends(lab: Lab, phase: str, message: str = "") -> dict[str, Any]:
    """Plays the life of the pod that reads; its manifest."""
    pod = await until_pod(lab)
    ended = {"exitCode": 0 if phase == "Succeeded" else 1, "reason": "Error", "message": message}
    container = {
        "name": "read",
        "image": "x",
        "imageID": "",
        "ready": False,
        "restartCount": 0,
        "state": {"terminated": ended},
    }
    status = {"phase": phase, "containerStatuses": [container]}
    await lab.client.patch(PODS, pod["metadata"]["name"], {"status": status}, lab.namespace, subresource="status")
    return pod


async def exported(terminal: Terminal, lab: Lab, api: FakeAPI, text: str, *arguments: str) -> Said:
    running = asyncio.create_task(terminal.sandboxctl("export", "recipe", *arguments))
    pod = await until_pod(lab)
    api.logs[(lab.namespace, pod["metadata"]["name"])] = text
    await ends(lab, "Succeeded")
    said = await running
    await lab.until(lambda: not [name for _, name in lab.pods.store if "-export-" in name], "the pod is removed")
    return said


@pytest.fixture
async def fake(api: FakeAPI, fake_lab: Lab, tmp_path: Path, operators: Operators) -> Terminal:
    """A shell at the fake API server, where an operator has run an experiment to its end."""
    file = kubeconfig(api, tmp_path)
    operators(file)
    await fake_lab.apply("demo", road())
    await fake_lab.finished("demo")
    return Terminal(file, fake_lab.namespace)


async def test_the_recipe_that_was_run_is_written_with_where_it_comes_from(
    fake: Terminal, fake_lab: Lab, api: FakeAPI, tmp_path: Path
) -> None:
    target = tmp_path / "recipe.yaml"
    said = await exported(fake, fake_lab, api, RAN, "demo", "-o", str(target))

    assert said == Said(0, "")
    text, job = target.read_text(), fake_lab.job("demo", "process")
    assert yaml.safe_load(text) == {"process": [{"text_length_filter": {"min_len": 12}}], "np": 2}
    uid = fake_lab.experiments.store[(fake_lab.namespace, "demo")]["metadata"]["uid"]
    for words in (
        f"lab/demo, uid {uid}",
        "anonymous/1/execution/0 (process, ProcessDataHook)",
        job["result"]["sha256"],
    ):
        assert words in text
    assert "Left out, as it says which data, and where to: dataset_path, export_path." in text
    nowhere = tmp_path / "nowhere"
    said = await exported(fake, fake_lab, api, RAN, "demo", "-o", str(nowhere / "x"))
    assert said == Said(1, f"--output: there is no folder {nowhere}; make it first")


async def test_a_sweeps_best_trial_is_named_with_its_value_and_its_parameters(
    fake: Terminal, fake_lab: Lab, api: FakeAPI
) -> None:
    best = {"trial": 3, "experiment": "demo", "value": 0.875, "parameters": {"text_length_filter.min_len": 12}}
    sweep = {"apiVersion": SWEEPS.api_version, "kind": SWEEPS.kind, "metadata": {"name": "search"}, "spec": {}}
    await fake_lab.client.create(SWEEPS, sweep, fake_lab.namespace)
    none = await fake.sandboxctl("export", "recipe", "--sweep", "search")
    status = {"status": {"objective": "quality.mean", "best": best}}
    await fake_lab.client.patch(SWEEPS, "search", status, fake_lab.namespace, subresource="status")
    said = await exported(fake, fake_lab, api, RAN, "--sweep", "search")

    assert none == Said(1, "search: no trial has a value of the metric yet, so none is the best")
    assert (
        "# sweep: lab/search, its best trial so far: 3\n# quality.mean: 0.875\n#   text_length_filter.min_len: 12\n"
        in said.text
    )


async def test_the_pod_mounts_the_volume_read_only_and_an_api_server_with_restricted_pods_takes_it(
    plane: Plane, lab: Lab, operators: Operators
) -> None:
    """What keeps it from reading is told, and it is removed."""
    operators(plane.operator, SANDBOX_NAMESPACES=lab.namespace)
    terminal = Terminal(plane.admin, lab.namespace)
    restricted = "pod-security.kubernetes.io/enforce=restricted"
    await asyncio.to_thread(plane.kubectl, "label", "namespace", lab.namespace, restricted)
    await lab.apply("demo", {**road(), "runAsUser": 4242})
    await lab.finished("demo")

    running = asyncio.create_task(terminal.sandboxctl("export", "recipe", "demo", "--job", "refine"))
    pod = await ends(lab, "Failed", "cat: /workspace/x: No such file or directory")
    said = await running
    found = lab.job("demo", "refine")["outputs"]["refined_recipe"]
    (container,) = pod["spec"]["containers"]
    assert container["command"] == ["cat", "--", f"/workspace/{found}"]
    assert container["volumeMounts"] == [{"name": "workspace", "mountPath": "/workspace", "readOnly": True}]
    assert pod["spec"]["securityContext"]["runAsUser"] == 4242
    assert said.code == 1
    assert said.text.startswith(
        f"demo: {found} can't be read from the claim demo-workspace: cat: /workspace/x: No such"
    )
    await lab.until(lambda: (*pod_key(pod),) not in lab.pods.store, "the pod is removed")


def pod_key(pod: dict[str, Any]) -> tuple[str, str]:
    return pod["metadata"]["namespace"], pod["metadata"]["name"]


async def test_without_one_recipe_nothing_is_started(plane: Plane, lab: Lab, operators: Operators) -> None:
    operators(plane.operator, SANDBOX_NAMESPACES=lab.namespace)
    terminal = Terminal(plane.admin, lab.namespace)
    spec = road()
    twice = [
        {**job, "metaName": name, "output": ["set"]} for job in spec["executionJobConfigs"] for name in ("one", "two")
    ]
    twice[1]["input"] = {"djConfigs": "anonymous.refine.refined_recipe"}
    await lab.apply("looked", probes("a"))
    await lab.apply("twice", {**spec, "executionJobConfigs": twice, "evaluationJobConfigs": []})
    await lab.finished("looked", "twice")

    none = await terminal.sandboxctl("export", "recipe", "looked")
    several = await terminal.sandboxctl("export", "recipe", "twice")
    unknown = await terminal.sandboxctl("export", "recipe", "twice", "--job", "three")
    both = await terminal.sandboxctl("export", "recipe", "twice", "--sweep", "search")
    assert none == Said(
        1,
        "looked: there is no recipe: a ProcessDataHook or refine job is not among the jobs that are done; sandboxctl show tells them",
    )
    told = "one (anonymous/1/execution/0), two (anonymous/1/execution/1)"
    assert several == Said(1, f"twice: 2 jobs have a recipe: {told}; name one with --job")
    assert unknown.text.startswith("twice: there is no recipe: 'three' is not among")
    assert both == Said(1, "name either an experiment or, with --sweep, a sweep")
    assert not [name for _, name in lab.pods.store if "-export-" in name]
