# SPDX-License-Identifier: Apache-2.0
"""What happens to an experiment besides its hooks: deleted, applied again, suspended, interfered with, long over."""

from __future__ import annotations

import asyncio
import json

from tests.api.conftest import Operators, Plane
from tests.api.lab import Lab, OperatorProcess, probes, road
from tests.api.played import CLAIMS, CONFIG_MAPS, JOBS, Gate, fails, succeeds

from sandbox_api.contract import CONTRACT_FILE_ENV
from sandbox_operator.build.names import job_name


async def test_deleted_while_it_runs_its_jobs_and_pods_go_and_the_retained_claim_stays(
    lab: Lab, operator: OperatorProcess
) -> None:
    lab.kubelet.table[("process",)] = Gate(succeeds())
    await lab.apply("demo", road())
    await lab.until(lambda: lab.job("demo", "process").get("state") == "Running", "the third hook runs")
    await lab.delete("demo")
    # The garbage collector learns of a new kind every 30 s, so its first deletion may take that long.
    await lab.until(lambda: not lab.jobs.store, "its Jobs go", limit=90)
    await lab.until(lambda: not lab.pods.store, "its pods go")
    claim = await lab.claim("demo-workspace")
    assert claim is not None
    assert not claim["metadata"].get("deletionTimestamp")
    assert operator.code is None


async def test_a_claim_with_retention_delete_goes_with_its_experiment(lab: Lab, operator: OperatorProcess) -> None:
    for name, retention in (("goes", "Delete"), ("stays", "Retain"), ("handed-over", "Retain")):
        await lab.apply(name, probes("a", workspace={"claim": {"size": "1Gi"}, "retention": retention}))
    await lab.finished("goes", "stays", "handed-over")
    await lab.change("handed-over", {"workspace": {"retention": "Delete"}})

    await lab.owned("handed-over-workspace")  # of a finished experiment too
    for name in ("goes", "stays", "handed-over"):
        await lab.delete(name)
    for _ in range(1000):
        left = [name for name in ("goes", "stays", "handed-over") if await lab.claim(f"{name}-workspace")]
        if left == ["stays"]:
            break
        await asyncio.sleep(0.05)
    assert left == ["stays"]
    assert operator.code is None


async def test_applied_again_it_adopts_the_claim_it_left(lab: Lab, operator: OperatorProcess) -> None:
    await lab.apply("demo", probes("a"))
    await lab.finished("demo")
    first = await lab.claim("demo-workspace")
    await lab.delete("demo")
    await lab.apply("demo", probes("a", "b"))
    await lab.until(lambda: lab.status("demo").get("progress") == "2/2", "the second one ends")
    second = await lab.claim("demo-workspace")
    assert first is not None
    assert second is not None
    assert second["metadata"]["uid"] == first["metadata"]["uid"]
    assert operator.code is None


async def test_suspended_at_a_boundary_it_goes_on_when_told(lab: Lab, operator: OperatorProcess) -> None:
    gate = lab.kubelet.table[("refine",)] = Gate(succeeds())
    await lab.apply("demo", road())
    await lab.reached(gate, "the second hook runs")
    await lab.change("demo", {"suspend": True})
    await lab.until(lambda: lab.status("demo")["observedGeneration"] == 2, "the change is seen")
    assert lab.job("demo", "refine")["state"] == "Running", "the running hook is left alone"
    gate.opened.set()
    await lab.reason("demo", "Suspended")
    assert lab.condition("demo", "Suspended")["status"] == "True"
    assert lab.job("demo", "refine")["state"] == "Succeeded"
    assert len(lab.made) == 2
    await lab.change("demo", {"suspend": False})
    await lab.finished("demo")
    assert lab.status("demo")["outcome"] == "Succeeded"
    assert not lab.condition("demo", "Suspended")
    lab.assert_no_job_was_made_twice()
    assert operator.code is None


async def test_suspended_from_the_beginning_it_makes_nothing(lab: Lab, operator: OperatorProcess) -> None:
    await lab.apply("demo", probes("a", suspend=True))
    await lab.reason("demo", "Suspended")
    assert not lab.made
    assert not lab.status("demo").get("startTime")
    await lab.change("demo", {"suspend": False})
    await lab.finished("demo")
    assert operator.code is None


async def test_its_jobs_are_removed_when_their_time_is_over_and_its_results_stay(
    lab: Lab, operator: OperatorProcess
) -> None:
    await lab.apply("demo", probes("a", "b", ttlSecondsAfterFinished=2))
    await lab.apply("other", probes("a"))
    await lab.finished("demo", "other")
    await lab.until(lambda: not lab.jobs_of("demo"), "its Jobs are removed")
    await lab.until(lambda: not lab.pods_of("demo"), "and their pods")
    assert lab.status("demo")["outcome"] == "Succeeded"
    assert len(lab.status("demo")["jobs"]) == 2
    assert len(lab.jobs_of("other")) == 1
    await lab.change("other", {"ttlSecondsAfterFinished": 0})
    await lab.until(lambda: not lab.jobs_of("other"), "a time that is set later counts too")
    assert operator.code is None


async def test_a_contract_too_long_for_an_environment_variable_travels_in_a_config_map(
    lab: Lab, operator: OperatorProcess
) -> None:
    spec = probes("a")
    noise = [hash((n, "noise")).to_bytes(9, "little", signed=True).hex() for n in range(9000)]
    spec["probeJobConfigs"][0]["djConfigs"] = {
        "dataset_path": "data/demo.jsonl",
        "process": [{"flagged_words_filter": {"lang": "$(HOME) $$x", "words_aug_join_char": word}} for word in noise],
    }
    await lab.apply("demo", spec)
    await lab.finished("demo")
    assert lab.status("demo")["outcome"] == "Succeeded", lab.told()
    (job,) = lab.jobs_of("demo")
    names = [variable["name"] for variable in job["spec"]["template"]["spec"]["containers"][0]["env"]]
    assert CONTRACT_FILE_ENV in names
    config_map = await lab.client.get(CONFIG_MAPS, job["metadata"]["name"], lab.namespace)
    assert config_map["immutable"] is True
    await lab.delete("demo")
    maps = (await lab.client.list(CONFIG_MAPS, lab.namespace)).items
    for _ in range(200):
        maps = (await lab.client.list(CONFIG_MAPS, lab.namespace)).items
        if not [one for one in maps if one["metadata"]["name"] == job["metadata"]["name"]]:
            break
        await asyncio.sleep(0.05)
    assert job["metadata"]["name"] not in json.dumps(maps), "it goes with its experiment"
    assert operator.code is None


async def test_a_job_deleted_by_hand_is_a_preemption_and_is_tried_again(lab: Lab, operator: OperatorProcess) -> None:
    gate = lab.kubelet.table[("a", 1)] = Gate(succeeds())
    await lab.apply("demo", probes("a"))
    await lab.reached(gate, "the hook runs")
    await lab.until(lambda: lab.job("demo", "a").get("state") == "Running", "and the status says so")
    (job,) = lab.jobs_of("demo")
    await lab.client.delete(JOBS, job["metadata"]["name"], lab.namespace)
    await lab.finished("demo")
    told = lab.job("demo", "a")
    assert (told["state"], told["attempts"], told["failures"]["preempted"]) == ("Succeeded", 2, 1)
    lab.assert_no_job_was_made_twice()
    assert operator.code is None


async def test_a_pod_deleted_by_hand_is_a_preemption_and_is_tried_again(lab: Lab, operator: OperatorProcess) -> None:
    gate = lab.kubelet.table[("a", 1)] = Gate(succeeds())
    await lab.apply("demo", probes("a"))
    await lab.reached(gate, "the hook runs")
    (pod,) = lab.pods_of("demo")
    await lab.client.delete(lab.pods.resource, pod["metadata"]["name"], lab.namespace)
    await lab.finished("demo")
    told = lab.job("demo", "a")
    assert (told["state"], told["attempts"], told["failures"]["preempted"]) == ("Succeeded", 2, 1)
    lab.assert_pods_ran_once()
    assert operator.code is None


async def test_a_pod_on_a_silent_node_is_given_up_where_a_second_one_does_no_harm(
    lab: Lab, operator: OperatorProcess
) -> None:
    """A ReadWriteMany volume: each attempt has a folder of its own. On ReadWriteOnce it could not be mounted."""
    gates = {name: Gate(succeeds()) for name in ("many", "once")}
    for name, mode in (("many", "ReadWriteMany"), ("once", "ReadWriteOnce")):
        lab.kubelet.table[(name, "a", 1)] = gates[name]
        claim = {"claim": {"size": "1Gi", "accessModes": [mode]}}
        await lab.apply(name, probes("a", workspace=claim, timeouts={"nodeLost": "2s"}))
    for name, gate in gates.items():
        await lab.reached(gate, f"the hook of {name} runs")
    lab.kubelet.deaf = True
    for name in gates:
        (pod,) = lab.pods_of(name)
        path = lab.pods.resource.path(namespace=lab.namespace, name=pod["metadata"]["name"])
        await lab.client.request(("delete", "pods"), "DELETE", path, body={"gracePeriodSeconds": 1})
    await lab.finished("many")
    assert (lab.job("many", "a")["state"], lab.job("many", "a")["attempts"]) == ("Succeeded", 2)
    assert (lab.job("once", "a")["state"], lab.job("once", "a")["attempts"]) == ("Running", 1)
    assert operator.code is None


async def test_a_committed_result_outlives_its_job(lab: Lab, operator: OperatorProcess) -> None:
    gate = lab.kubelet.table[("b",)] = Gate(succeeds())
    await lab.apply("demo", probes("a", "b"))
    await lab.reached(gate, "the second hook runs")
    await lab.client.delete(JOBS, lab.job("demo", "a")["jobName"], lab.namespace)
    await lab.until(lambda: len(lab.jobs_of("demo")) == 1, "the first Job is gone")
    gate.opened.set()
    await lab.finished("demo")
    assert [job["attempts"] for job in lab.status("demo")["jobs"]] == [1, 1]
    assert operator.code is None


async def test_a_job_of_somebody_else_in_our_name_is_a_loud_failure(
    lab: Lab, plane: Plane, operators: Operators
) -> None:
    uid = (await lab.apply("demo", probes("a")))["metadata"]["uid"]
    name = job_name("demo", uid, "anonymous/1/probe/0", 1)
    pod = {"restartPolicy": "Never", "containers": [{"name": "x", "image": "x"}]}
    foreign = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": {"template": {"spec": pod}}}
    made = await lab.client.create(JOBS, foreign, lab.namespace)
    operators(plane.operator, SANDBOX_NAMESPACES=lab.namespace)
    await lab.finished("demo")
    assert lab.status("demo")["outcome"] == "Failed"
    assert lab.job("demo", "a")["reason"] == "NameTaken"
    assert name in lab.job("demo", "a")["message"]
    left = await lab.client.get(JOBS, name, lab.namespace)
    assert left["metadata"]["uid"] == made["metadata"]["uid"], "left alone"


async def test_a_spec_that_becomes_unreadable_leaves_the_running_hook_alone(
    lab: Lab, plane: Plane, operators: Operators
) -> None:
    """An image that the operator no longer has, after an upgrade with other values: what was resolved counts."""
    gate = lab.kubelet.table[("a",)] = Gate(succeeds())
    first = operators(plane.operator, SANDBOX_NAMESPACES=lab.namespace)
    await lab.apply("demo", probes("a", "b"))
    await lab.reached(gate, "the first hook runs")
    first.stop()
    second = operators(plane.operator, SANDBOX_NAMESPACES=lab.namespace, SANDBOX_IMAGES="{}")
    gate.opened.set()
    await lab.finished("demo")
    assert lab.status("demo")["outcome"] == "Succeeded"
    images = {job["spec"]["template"]["spec"]["containers"][0]["image"] for job in lab.jobs_of("demo")}
    assert images == {"registry.example/data:1"}
    await lab.apply("later", probes("a"))
    assert "spec.images.data" in await lab.reason("later", "InvalidSpec")
    assert second.code is None


async def test_the_next_attempt_waits_until_the_last_pod_is_gone(lab: Lab, operator: OperatorProcess) -> None:
    """Two pods of one job never run at the same time."""
    lab.kubelet.table[("a", 1)] = fails("Infra", "OSError", "stale file handle")
    await lab.apply("demo", probes("a"))
    await lab.finished("demo")
    assert [attempt for _, _, attempt, _ in lab.kubelet.pods] == [1, 2]
    assert operator.code is None


async def test_two_experiments_share_a_claim_by_name(lab: Lab, operator: OperatorProcess) -> None:
    await lab.make_claim("shared")
    for name in ("one", "two"):
        await lab.apply(name, probes("a", claim_name="shared"))
    await lab.finished("one", "two")
    await lab.delete("one")
    claim = await lab.client.get(CLAIMS, "shared", lab.namespace)
    assert not claim["metadata"].get("ownerReferences")
    assert operator.code is None
