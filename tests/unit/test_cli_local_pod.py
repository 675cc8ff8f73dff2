# SPDX-License-Identifier: Apache-2.0
"""A Job as a process: what it finds in its environment, how it ends, and what is left of it."""

import asyncio
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.hook_pod import job_contract
from tests.local_lab import ENVIRON

from sandbox_api.contract import JobContract
from sandbox_api.experiment import EnvVar, NewClaim, PodProfile, SecretEnv
from sandbox_api.result import decode_message
from sandbox_operator.build.defaults import Defaults
from sandbox_operator.build.job import JobRequest, contract_config_map, hook_job
from sandbox_operator.build.names import ANNOTATION_CONTRACT
from sandbox_operator.build.volume import workspace_claim
from sandbox_operator.cli.local_cluster import LocalCluster
from sandbox_operator.cli.local_folder import LocalFolder
from sandbox_operator.cli.local_pod import Machine, Programs, environment
from sandbox_operator.plan.actions import CreateClaim, CreateJob, DeleteFinishedJobs, DeleteJob, PatchClaim


def request(contract: JobContract | None = None, **more: Any) -> JobRequest:
    return JobRequest(contract or job_contract(extra={"do": "write"}), image="local:data", claim="demo", **more)


def creation(request: JobRequest) -> CreateJob:
    manifest = hook_job(request, Defaults())
    return CreateJob(manifest, manifest["metadata"]["annotations"][ANNOTATION_CONTRACT], contract_config_map(request))


@pytest.fixture
def folder(tmp_path: Path) -> LocalFolder:
    made = LocalFolder(tmp_path / "run")
    made.lock()
    return made


def machine(folder: LocalFolder, **more: Any) -> Machine:
    return replace(Machine(folder.workspace, folder.inputs, ENVIRON, {}, Programs(sys.executable)), **more)


async def quiet(cluster: LocalCluster) -> None:
    while cluster.is_alive:
        await cluster.news(None)


def env_of(request: JobRequest, machine: Machine) -> dict[str, str]:
    (container,) = hook_job(request, Defaults())["spec"]["template"]["spec"]["containers"]
    return environment(container, machine, "uid-1", "pod-1")


def test_variables_arrive_as_they_were_written(folder: LocalFolder) -> None:
    profile = PodProfile.model_validate({"env": [{"name": "A", "value": "$(HOME) $$ costs $5"}]})
    env = env_of(request(profile=profile), machine(folder, environ={"PATH": "/bin", "A": "mine", "SANDBOX_X": "no"}))

    assert env["A"] == "$(HOME) $$ costs $5"
    assert (env["PATH"], env["SANDBOX_POD_UID"], env["SANDBOX_POD_NAME"]) == ("/bin", "uid-1", "pod-1")
    assert env["SANDBOX_WORKSPACE"] == str(folder.workspace)
    assert "SANDBOX_X" not in env


def test_a_secret_reaches_only_the_hook_that_asks_for_it(folder: LocalFolder) -> None:
    secret = SecretEnv.model_validate({"env": "TOKEN", "name": "hf", "key": "token"})
    here = machine(folder, environ={"TOKEN": "s3cret"}, secrets={"TOKEN": "s3cret"})

    assert env_of(request(secrets=(secret,)), here)["TOKEN"] == "s3cret"
    assert "TOKEN" not in env_of(request(), here)


def test_paths_of_a_pod_become_paths_of_this_machine(folder: LocalFolder) -> None:
    values = {
        "PYTHONPATH": "/inputs/code/a.whl:/opt/x",
        "A": "--data=/workspace",
        "B": "/inputsraw",
        "C": "/a/inputs/b",
    }
    profile = PodProfile.model_validate({"env": [{"name": k, "value": v} for k, v in values.items()]})
    env = env_of(request(profile=profile), machine(folder, environ={"PYTHONPATH": "/mine"}))

    assert env["PYTHONPATH"] == f"{folder.inputs}/code/a.whl:/opt/x:/mine"
    assert (env["A"], env["B"], env["C"]) == (f"--data={folder.workspace}", "/inputsraw", "/a/inputs/b")


def test_a_variable_may_name_one_before_it(folder: LocalFolder) -> None:
    container = {
        "env": [
            {"name": "A", "value": "1"},
            {"name": "B", "value": "$(A) $(C) $$(A)"},
        ]
    }
    assert environment(container, machine(folder), "u", "p")["B"] == "1 $(C) $(A)"
    assert EnvVar(name="A").value == ""


async def test_a_job_is_made_once_and_its_result_is_its_pods_message(folder: LocalFolder) -> None:
    cluster, action = LocalCluster(folder, machine(folder)), creation(request())
    await cluster.act(action)
    await cluster.act(action)
    (alive,) = cluster.pods()
    assert (alive.phase, alive.hook.exit_code) == ("Running", None)
    await quiet(cluster)

    (job,), (pod,) = cluster.jobs(), cluster.pods()
    message = decode_message(pod.hook.termination_message)
    assert (job.complete, job.failed, job.attempt, job.contract) == (True, None, 1, action.contract)
    assert message is not None
    assert (message.outcome, message.pod_uid) == ("Succeeded", pod.uid)


async def test_a_contract_that_is_too_long_for_the_environment_lies_in_a_file(folder: LocalFolder) -> None:
    noise = "".join(chr(0x4E00 + (i * 7919) % 20000) for i in range(60000))
    action = creation(request(job_contract(extra={"do": "write", "text": noise})))
    assert action.config_map is not None
    cluster = LocalCluster(folder, machine(folder))
    await cluster.act(action)
    await quiet(cluster)

    assert cluster.jobs()[0].complete


async def test_what_a_killed_hook_printed_last_stands_for_its_message(folder: LocalFolder) -> None:
    cluster = LocalCluster(folder, machine(folder))
    await cluster.act(creation(request(job_contract(extra={"do": "kill"}))))
    await quiet(cluster)

    (job,), (pod,) = cluster.jobs(), cluster.pods()
    assert (job.failed, pod.phase, pod.hook.exit_code) == ("BackoffLimitExceeded", "Failed", 137)


async def test_a_pod_that_outlives_its_job_s_deadline_is_ended(folder: LocalFolder) -> None:
    cluster = LocalCluster(folder, machine(folder))
    await cluster.act(creation(request(job_contract(extra={"do": "wait"}), deadline=1)))
    await quiet(cluster)

    assert cluster.jobs()[0].failed == "DeadlineExceeded"


async def test_a_deleted_job_ends_its_pod_and_leaves_nothing(folder: LocalFolder) -> None:
    cluster = LocalCluster(folder, machine(folder))
    action = creation(request(job_contract(extra={"do": "wait"})))
    await cluster.act(action)
    delete = DeleteJob(action.manifest["metadata"]["name"])
    await cluster.act(delete)
    await cluster.act(delete)
    assert cluster.jobs()[0].deleting
    await quiet(cluster)

    assert (cluster.jobs(), cluster.pods(), list(folder.jobs.iterdir())) == ((), (), [])


async def test_finished_jobs_are_removed_and_others_stay(folder: LocalFolder) -> None:
    cluster = LocalCluster(folder, machine(folder))
    await cluster.act(creation(request()))
    await quiet(cluster)
    await cluster.act(creation(request(job_contract(extra={"do": "wait"}, index=1))))
    await cluster.act(DeleteFinishedJobs())
    (left,) = cluster.jobs()
    await cluster.act(DeleteJob(left.name))
    await quiet(cluster)

    assert left.job_id == "anonymous/1/probe/1"


async def test_at_most_so_many_pods_live_at_a_time(folder: LocalFolder) -> None:
    cluster = LocalCluster(folder, machine(folder), most=1)
    first, second = creation(request()), creation(request(job_contract(extra={"do": "write"}, index=1)))
    await cluster.act(first)
    await cluster.act(second)
    assert len(cluster.jobs()) == 1
    await quiet(cluster)
    await cluster.act(second)
    await quiet(cluster)

    assert [job.complete for job in cluster.jobs()] == [True, True]


async def test_a_program_of_the_hook_s_own_is_run_as_it_is(folder: LocalFolder) -> None:
    script = 'printf "%s" "$0" > "$SANDBOX_WORKSPACE/said"; exit 4'
    cluster = LocalCluster(folder, machine(folder))
    await cluster.act(creation(request(command=("sh", "-c", script, "$(SANDBOX_POD_NAME)"))))
    await quiet(cluster)

    assert (folder.workspace / "said").read_text() == cluster.pods()[0].name
    assert cluster.pods()[0].hook.exit_code == 4


async def test_a_program_may_stand_elsewhere_here(folder: LocalFolder) -> None:
    programs = Programs(sys.executable, raw={"dedup": "/bin/sh"})
    cluster = LocalCluster(folder, machine(folder, programs=programs))
    wanted = replace(request(command=("/not/here", "-c", "exit 5")), image="local:dedup")
    await cluster.act(creation(wanted))
    await quiet(cluster)

    assert cluster.pods()[0].hook.exit_code == 5


async def test_an_indexed_job_has_a_pod_for_each_index(folder: LocalFolder) -> None:
    """As readers are, of results that are too long for one message."""
    cluster = LocalCluster(folder, machine(folder))
    script = 'echo "$SANDBOX_POD_UID" > "$SANDBOX_WORKSPACE/$JOB_COMPLETION_INDEX"'
    await cluster.act(creation(request(command=("sh", "-c", script), pieces=3)))
    await quiet(cluster)

    told = {(folder.workspace / str(index)).read_text().strip() for index in range(3)}
    assert told == {pod.uid for pod in cluster.pods()}
    assert len({pod.name for pod in cluster.pods()}) == 3
    assert cluster.jobs()[0].complete
    again = LocalCluster(folder, machine(folder))
    await again.load()
    assert {pod.uid for pod in again.pods()} == told


async def test_a_claim_is_a_folder_that_is_found_again(folder: LocalFolder) -> None:
    claim = workspace_claim(
        name="demo", namespace="lab", uid="u", claim=NewClaim(), retention="Retain", defaults=Defaults()
    )
    cluster = LocalCluster(folder, machine(folder))
    await cluster.act(CreateClaim(claim))
    owner = {"apiVersion": "v1", "kind": "X", "name": "demo", "uid": "u"}
    await cluster.act(PatchClaim("demo-workspace", {"metadata": {"uid": "x", "ownerReferences": [owner]}}))
    again = LocalCluster(folder, machine(folder))
    await again.load()

    facts = again.claims("given")
    made = facts["demo-workspace"]
    assert (made.phase, made.access_mode, made.experiment, made.owner_uid) == ("Bound", "ReadWriteMany", "demo", "u")
    assert facts["given"].phase == "Bound"


async def test_an_unfinished_pod_of_an_earlier_run_has_ended_from_outside(folder: LocalFolder) -> None:
    cluster = LocalCluster(folder, machine(folder))
    await cluster.act(creation(request()))
    await quiet(cluster)
    (file,) = folder.jobs.glob("*/pod.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), "ended_at": None, "code": None}))
    again = LocalCluster(folder, machine(folder))
    await again.load()

    (pod,) = again.pods()
    assert (pod.phase, pod.hook.exit_code) == ("Failed", 143)
    assert "sandboxctl was ended while the hook ran" in (pod.disruption or "")
    assert not again.is_alive


async def test_what_a_hook_leaves_behind_ends_with_it(folder: LocalFolder) -> None:
    """A grandchild in a session of its own, deaf to SIGTERM, of a program that does not care for it."""
    script = 'setsid sh -c \'trap "" TERM; echo $$$$ > "$SANDBOX_WORKSPACE/pid"; sleep 600\' & while [ ! -s "$SANDBOX_WORKSPACE/pid" ]; do sleep 0.05; done'
    cluster = LocalCluster(folder, machine(folder))
    await cluster.act(creation(request(command=("sh", "-c", script))))
    await asyncio.wait_for(quiet(cluster), 30)

    assert not lives(int((folder.workspace / "pid").read_text()))


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
