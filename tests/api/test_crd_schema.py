# SPDX-License-Identifier: Apache-2.0
"""What the resource's schema does on a real API server: columns, words, rules, and what it keeps of a status."""

from __future__ import annotations

import asyncio
import copy
import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel
from tests.api.conftest import CRDS, Plane
from tests.api.lab import REPOSITORY, experiment, probes, road
from tests.hook_pod import job_contract

from sandbox_api.base import API_VERSION
from sandbox_api.experiment import (
    EnvVar,
    InputVolume,
    NewClaim,
    PodProfile,
    Resources,
    SecretEnv,
    Toleration,
)
from sandbox_api.status import ExperimentStatus
from sandbox_operator.build.defaults import Defaults
from sandbox_operator.build.job import JobRequest, contract_config_map, hook_job
from sandbox_operator.build.volume import workspace_claim
from sandbox_operator.kube.client import Client
from sandbox_operator.kube.config import connect
from sandbox_operator.reconcile.projections import experiment_fact
from sandbox_operator.reconcile.resources import EXPERIMENTS
from sandbox_operator.reconcile.status import write_status

Spec = dict[str, Any]
NAMESPACE = "schema"


@pytest.fixture(scope="module")
def cluster(plane: Plane) -> Iterator[Plane]:
    plane.kubectl("create", "namespace", NAMESPACE)
    yield plane
    plane.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def apply(plane: Plane, manifest: Spec, *options: str, check: bool = True) -> str:
    """`kubectl apply`; what it said."""
    answer = plane.kubectl("apply", "-n", NAMESPACE, "-f", "-", *options, stdin=json.dumps(manifest), check=check)
    return answer.stdout + answer.stderr


def refusal(plane: Plane, spec: Spec, name: str = "demo") -> str:
    """What the server says of a spec that it will not have."""
    manifest = json.dumps(experiment(name, spec))
    answer = plane.kubectl("create", "-n", NAMESPACE, "--dry-run=server", "-f", "-", stdin=manifest, check=False)
    assert answer.returncode != 0, f"accepted: {answer.stdout}"
    return answer.stderr


def set_status(plane: Plane, name: str, status: Spec) -> None:
    plane.kubectl(
        "patch",
        "sbx",
        name,
        "-n",
        NAMESPACE,
        "--subresource=status",
        "--type=merge",
        "-p",
        json.dumps({"status": status}),
    )


def update_status(plane: Plane, name: str, status: ExperimentStatus) -> None:
    """As the operator writes it."""

    async def update() -> None:
        async with Client(connect(kubeconfig=str(plane.admin)), field_manager="sandbox-operator") as client:
            fact = experiment_fact(await client.get(EXPERIMENTS, name, NAMESPACE))
            await write_status(client, EXPERIMENTS, fact, status)

    asyncio.run(update())


def stored(plane: Plane, name: str) -> Spec:
    return dict(
        json.loads(plane.kubectl("get", "sbx", name, "-n", NAMESPACE, "-o", "json", "--show-managed-fields").stdout)
    )


def test_the_definition_is_one_that_client_side_apply_can_carry(cluster: Plane) -> None:
    """`kubectl apply` keeps a copy in an annotation of at most 256 KiB."""
    for crd in CRDS:
        assert crd.stat().st_size < 150_000
        cluster.kubectl("apply", "--dry-run=server", "-f", str(crd))
        definition = yaml.safe_load(crd.read_text())
        live = cluster.kubectl("get", "crd", definition["metadata"]["name"], "-o", "json")
        conditions = {c["type"]: c for c in json.loads(live.stdout)["status"]["conditions"]}
        assert conditions["NamesAccepted"]["status"] == conditions["Established"]["status"] == "True"
        assert "NonStructuralSchema" not in conditions, conditions


def test_the_short_name_lists_what_one_looks_for(cluster: Plane) -> None:
    apply(cluster, experiment("columns", probes("a", queueName="gpu")))
    ready = {"type": "Ready", "status": "False", "reason": "InsufficientGPU", "message": "no node has the GPUs"}
    ready["lastTransitionTime"] = "2026-01-01T00:00:00Z"
    set_status(
        cluster,
        "columns",
        {
            "outcome": "Running", "stage": "probe", "progress": "0/1", "hook": "ProbeViaAnalyzerHook", "retries": 2,
            "conditions": [ready],
        },
    )  # fmt: skip
    narrow = cluster.kubectl("get", "sbx", "-n", NAMESPACE).stdout.splitlines()
    assert narrow[0].split() == ["NAME", "OUTCOME", "REASON", "STAGE", "PROGRESS", "AGE"]
    assert narrow[1].split()[:5] == ["columns", "Running", "InsufficientGPU", "probe", "0/1"]
    wide = cluster.kubectl("get", "sbx", "-n", NAMESPACE, "-o", "wide").stdout.splitlines()
    assert wide[0].split()[6:] == ["HOOK", "LIVE", "RETRIES", "QUEUE", "MESSAGE"]
    assert wide[1].split(maxsplit=9)[6:] == ["ProbeViaAnalyzerHook", "2", "gpu", "no node has the GPUs"]


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("spec", "One experiment: the four job lists, or several named pipelines of them."),
        ("spec.workspace.retention", "Whether a made claim outlives the experiment"),
        ("spec.probeJobConfigs.djConfigs", "A Data-Juicer configuration inline, or the path of one."),
        ("spec.pods.resources.limits", "nvidia.com/gpu: 8"),
        ("spec.retry.backoff", "Wait before the second attempt"),
        ("status.conditions.reason", "One word of a closed list."),
    ],
)
def test_explain_answers_for_every_level(cluster: Plane, field: str, words: str) -> None:
    answer = ""
    for _ in range(100):  # the server publishes a new kind's schema a moment after it serves the kind
        found = cluster.kubectl("explain", f"sbx.{field}", check=False)
        answer = " ".join(found.stdout.split())
        if found.returncode == 0:
            break
        time.sleep(0.1)
    assert words in answer


VALID = [
    ("a claim by name", probes("a", claim_name="shared")),
    ("a claim to make", probes("a")),
    ("pipelines instead of lists", {
        "workspace": {"claimName": "c"},
        "pipelines": [{"name": "one", "probeJobConfigs": [{"hook": "ProbeViaAnalyzerHook"}]}],
    }),
    ("configurations as paths", {
        "workspace": {"claimName": "c"},
        "probeJobConfigs": [{"hook": "X", "djConfigs": "inputs/raw/dj.yaml", "extraConfigs": "inputs/raw/x.yaml"}],
    }),
    ("amounts as numbers and as text", {
        **probes("a"),
        "pods": {"default": {"resources": {"requests": {"cpu": 2, "memory": "4Gi"}}}},
    }),
]  # fmt: skip


@pytest.mark.parametrize("spec", [spec for _, spec in VALID], ids=[name for name, _ in VALID])
def test_what_the_language_allows_is_accepted(cluster: Plane, spec: Spec) -> None:
    manifest = json.dumps(experiment("demo", spec))
    cluster.kubectl("create", "-n", NAMESPACE, "--dry-run=server", "--validate=strict", "-f", "-", stdin=manifest)


WRONG: list[tuple[str, Spec, str]] = [
    ("both claims", {**probes("a"), "workspace": {"claimName": "c", "claim": {}}},
     'spec.workspace.claimName: Invalid value: "object": give either claimName (an existing claim) or claim'),
    ("no claim", {**probes("a"), "workspace": {}}, "give either claimName (an existing claim) or claim (one to make)"),
    ("no workspace", {"probeJobConfigs": [{"hook": "X"}]}, "spec.workspace: Required value"),
    ("lists and pipelines", {**probes("a"), "pipelines": [{"name": "p"}]},
     'spec.pipelines: Invalid value: "object": give either the four job lists or pipelines, not both'),
    ("input without a source", {**probes("a"), "inputs": [{"name": "raw"}]},
     'spec.inputs[0]: Invalid value: "object": give either claimName or configMapName, not both'),
    ("input with both sources", {**probes("a"), "inputs": [{"name": "raw", "claimName": "c", "configMapName": "m"}]},
     'spec.inputs[0]: Invalid value: "object": give either claimName or configMapName, not both'),
    ("two inputs of one name", {**probes("a"), "inputs": [{"name": "r", "claimName": "c"}] * 2},
     'spec.inputs[1]: Duplicate value: {"name":"r"}'),
    ("a job without a hook", {"workspace": {"claimName": "c"}, "probeJobConfigs": [{"metaName": "a"}]},
     "spec.probeJobConfigs[0].hook: Required value"),
    ("a name with a dot", probes("a.b"), "spec.probeJobConfigs[0].metaName: Invalid value"),
    ("an unknown policy", {**probes("a"), "suspendPolicy": "Later"},
     'spec.suspendPolicy: Unsupported value: "Later": supported values: "Boundary", "Now"'),
    ("a wrong duration", {**probes("a"), "timeouts": {"active": "soon"}}, "spec.timeouts.active: Invalid value"),
    ("root", {**probes("a"), "runAsUser": 0}, "spec.runAsUser: Invalid value"),
    ("65 jobs", {**probes("a"), "probeJobConfigs": [{"hook": "X"}] * 65}, "spec.probeJobConfigs: Too many: 65"),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "words"), [entry[1:] for entry in WRONG], ids=[entry[0] for entry in WRONG])
def test_a_mistake_of_form_is_refused_with_its_field(cluster: Plane, spec: Spec, words: str) -> None:
    assert words in refusal(cluster, spec)


def test_a_name_leaves_room_for_the_names_of_its_jobs(cluster: Plane) -> None:
    assert "the name may have at most 52 characters" in refusal(cluster, probes("a"), name="n" * 53)
    manifest = json.dumps(experiment("n" * 52, probes("a")))
    cluster.kubectl("create", "-n", NAMESPACE, "--dry-run=server", "-f", "-", stdin=manifest)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"projectname": "x"}, 'unknown field "spec.projectname"'),
        ({"probeJobConfigs": [{"hook": "X", "metaname": "x"}]}, 'unknown field "spec.probeJobConfigs[0].metaname"'),
        ({"workspace": {"claimName": "c", "retain": True}}, 'unknown field "spec.workspace.retain"'),
        ({"pods": {"default": {"nodeselector": {}}}}, 'unknown field "spec.pods.default.nodeselector"'),
    ],
)
def test_a_misspelt_key_is_an_error_that_names_it(cluster: Plane, change: Spec, field: str) -> None:
    assert field in refusal(cluster, {**probes("a"), **change})


FROZEN: list[tuple[str, Spec]] = [
    ("another job", {"probeJobConfigs": probes("a", "b")["probeJobConfigs"]}),
    ("inside a typeless configuration",
     {"probeJobConfigs": [{**probes("a")["probeJobConfigs"][0], "djConfigs": {"dataset_path": "data/other.jsonl"}}]}),
    ("a configuration's type",
     {"probeJobConfigs": [{**probes("a")["probeJobConfigs"][0], "djConfigs": "inputs/dj.yaml"}]}),
    ("the claim", {"workspace": {"claim": {"size": "2Gi"}}}),
    ("an existing claim", {"workspace": {"claim": None, "claimName": "other"}}),
    ("a budget", {"retry": {"user": 5}}),
    ("an image", {"images": {"data": "other"}}),
    ("the user", {"runAsUser": 2000}),
    ("a new list", {"evaluationJobConfigs": [{"hook": "X"}]}),
]  # fmt: skip
MUTABLE: list[Spec] = [
    {"suspend": True}, {"suspendPolicy": "Now"}, {"stop": "Now"}, {"ttlSecondsAfterFinished": 60},
    {"workspace": {"retention": "Delete"}}, {"rerun": {"token": "1"}},
]  # fmt: skip


def patched(plane: Plane, name: str, change: Spec) -> str:
    """What the server says to a change; empty when it accepts."""
    answer = plane.kubectl(
        "patch", "sbx", name, "-n", NAMESPACE, "--type=merge", "-p", json.dumps({"spec": change}), "--dry-run=server",
        check=False,
    )  # fmt: skip
    return "" if answer.returncode == 0 else answer.stderr


@pytest.fixture(scope="module")
def started(cluster: Plane) -> str:
    apply(cluster, experiment("started", probes("a")))
    set_status(cluster, "started", {"outcome": "Running", "startTime": "2026-01-01T00:00:00Z", "revision": 1})
    return "started"


@pytest.mark.parametrize("change", [change for _, change in FROZEN], ids=[name for name, _ in FROZEN])
def test_a_started_experiment_is_frozen(cluster: Plane, started: str, change: Spec) -> None:
    words = patched(cluster, started, change)
    assert "the experiment has started: only suspend" in words
    assert "apply a changed experiment under a new name" in words


def test_a_status_in_a_write_of_spec_does_not_thaw_it(cluster: Plane, started: str) -> None:
    """The rule lets writes of the status pass by their revision, which a write of spec can't change."""
    item = stored(cluster, started)
    item["spec"]["runAsUser"] = 2000
    item["status"] |= {"revision": 99, "startTime": None}
    answer = cluster.kubectl("replace", "-n", NAMESPACE, "-f", "-", stdin=json.dumps(item), check=False)
    assert "the experiment has started: only suspend" in answer.stderr


@pytest.mark.parametrize("change", MUTABLE, ids=lambda change: "-".join(change))
def test_what_steers_a_started_experiment_may_change(cluster: Plane, started: str, change: Spec) -> None:
    assert patched(cluster, started, change) == ""


@pytest.mark.parametrize("change", [change for _, change in FROZEN], ids=[name for name, _ in FROZEN])
def test_before_the_start_everything_may_change(cluster: Plane, change: Spec) -> None:
    apply(cluster, experiment("waiting", probes("a")))
    set_status(cluster, "waiting", {"outcome": "Pending"})
    assert patched(cluster, "waiting", change) == ""


def test_a_new_rerun_token_thaws_the_jobs_of_what_is_over_or_suspended_but_never_the_claim(cluster: Plane) -> None:
    jobs = {"probeJobConfigs": probes("a", "b")["probeJobConfigs"]}
    again = {**jobs, "rerun": {"token": "2"}}
    apply(cluster, experiment("again", probes("a")))
    set_status(cluster, "again", {"outcome": "Running", "startTime": "2026-01-01T00:00:00Z", "revision": 1})
    assert "has started" in patched(cluster, "again", again), "while it runs"
    cluster.kubectl("patch", "sbx", "again", "-n", NAMESPACE, "--type=merge", "-p", '{"spec": {"suspend": true}}')
    assert patched(cluster, "again", again) == "", "suspended"
    assert "has started" in patched(cluster, "again", jobs), "without a token"
    cluster.kubectl("patch", "sbx", "again", "-n", NAMESPACE, "--type=merge", "-p", '{"spec": {"suspend": false}}')
    set_status(cluster, "again", {"outcome": "Succeeded", "completionTime": "2026-01-01T01:00:00Z"})
    assert patched(cluster, "again", again) == "", "finished"
    assert "has started" in patched(cluster, "again", {**again, "workspace": {"claim": {"size": "9Gi"}}})


def test_tools_can_select_by_outcome_and_suspension(cluster: Plane) -> None:
    for name, outcome in (("good", "Succeeded"), ("bad", "Failed")):
        apply(cluster, experiment(name, probes("a", suspend=name == "bad")))
        set_status(cluster, name, {"outcome": outcome})

    def names(selector: str) -> set[str]:
        found = cluster.kubectl("get", "sbx", "-n", NAMESPACE, "-o", "name", f"--field-selector={selector}")
        return {line.rsplit("/", 1)[1] for line in found.stdout.split()} & {"good", "bad"}

    assert names("status.outcome=Failed") == {"bad"}
    assert names("status.outcome=Succeeded") == {"good"}
    assert names("spec.suspend=false") == {"good"}
    assert names("spec.suspend=true") == {"bad"}


def filled(kind: Any) -> Any:
    """A value of a type with nothing left out: each field of each model set, one entry in each list and mapping."""
    kinds = [option for option in get_args(kind) if option is not NoneType]
    if get_origin(kind) is Annotated:
        return filled(kinds[0])
    if get_origin(kind) in (Union, UnionType):
        return filled(kinds[0])
    if get_origin(kind) is Literal:
        return kinds[-1]
    if get_origin(kind) is list:
        return [filled(kinds[0])]
    if get_origin(kind) is dict:
        return {"some.key": filled(kinds[1])}
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind.model_validate({name: filled(field.annotation) for name, field in kind.model_fields.items()})
    return {str: "text", int: 7, float: 2.5, bool: True, Any: ["x", {"deep": [1, 2.5, {"er": False}]}]}[kind]


def test_a_full_status_comes_back_as_it_was_written(cluster: Plane) -> None:
    status = filled(ExperimentStatus).model_copy(update={"revision": 1})
    assert not [name for name, value in status if value in (None, [], {})]
    apply(cluster, experiment("full", probes("a")))
    update_status(cluster, "full", status)
    assert experiment_fact(stored(cluster, "full")).status.model_dump() == status.model_dump()


def owners_of_spec(item: Spec) -> list[Spec]:
    """Who has written which fields of spec: server-side apply and GitOps tools go by it."""
    return [entry["fieldsV1"] for entry in item["metadata"]["managedFields"] if "f:spec" in entry["fieldsV1"]]


def test_a_new_status_takes_away_what_it_lacks_and_touches_nothing_else(cluster: Plane) -> None:
    apply(cluster, experiment("less", probes("a")))
    update_status(cluster, "less", filled(ExperimentStatus))
    less, before = ExperimentStatus(outcome="Pending", revision=2), stored(cluster, "less")
    update_status(cluster, "less", less)
    after = stored(cluster, "less")
    assert after["spec"] == before["spec"]
    assert owners_of_spec(after) == owners_of_spec(before) != []
    assert experiment_fact(stored(cluster, "less")).status == less


def a_full_request(**configs: Any) -> JobRequest:
    return JobRequest(
        contract=job_contract("ProbeViaAnalyzerHook", dj={"dataset_path": "$(HOME)/$$x"}, extra={"k": 1}, **configs),
        image="registry.example/data:1",
        claim="shared",
        inputs=(
            InputVolume.model_validate({"name": "Raw_1", "claimName": "datasets", "subPath": "a/b"}),
            InputVolume.model_validate({"name": "recipes", "configMapName": "my-recipes"}),
        ),
        profile=PodProfile.model_validate(
            {
                "nodeSelector": {"disk": "ssd"},
                "tolerations": [
                    Toleration.model_validate(
                        {"key": "gpu", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}
                    ),
                    Toleration.model_validate({"key": "a", "operator": "Equal", "value": "b", "effect": "NoSchedule"}),
                ],
                "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
                "runtimeClassName": "nvidia",
                "schedulerName": "mine",
                "imagePullSecrets": ["pull"],
                "env": [EnvVar.model_validate({"name": "A", "value": "$(B)"})],
                "sharedMemory": "1Gi",
                "patch": {"hostNetwork": False, "dnsPolicy": "Default"},
            }
        ),
        resources=Resources.model_validate(
            {"requests": {"cpu": 2, "memory": "4Gi"}, "limits": {"nvidia.com/gpu": 8, "memory": "8Gi"}}
        ),
        secrets=(SecretEnv.model_validate({"env": "HF_TOKEN", "name": "hf", "key": "token"}),),
        run_as=1234,
        deadline=100,
    )


@pytest.mark.parametrize("size", ["small", "in a ConfigMap"])
def test_the_server_takes_every_manifest_as_it_is_built(cluster: Plane, size: str) -> None:
    """Strictly: a field that the server does not know is a mistake of ours."""
    long = {f"k{n}": str(n * 7919) * 40 for n in range(6000)} if size != "small" else {}
    request = a_full_request(local=long)
    job = hook_job(request, Defaults(image_pull_policy="Always"))
    config_map = contract_config_map(request)
    claim = workspace_claim(
        name="demo", namespace=NAMESPACE, uid="1f2e3d4c-0000", retention="Delete", defaults=Defaults(),
        claim=NewClaim.model_validate({"size": "1Gi", "storageClassName": "fast", "accessModes": ["ReadWriteOnce"]}),
    )  # fmt: skip
    assert (config_map is None) == (size == "small")
    for manifest in filter(None, (job, config_map, claim)):
        manifest = copy.deepcopy(manifest)
        manifest["metadata"]["namespace"] = NAMESPACE
        text = json.dumps(manifest)
        answer = cluster.kubectl("create", "--dry-run=server", "--validate=strict", "-o", "json", "-f", "-", stdin=text)
        made = json.loads(answer.stdout)
        assert made["metadata"]["ownerReferences"] == manifest["metadata"]["ownerReferences"]


def examples() -> list[Path]:
    """Files under configs/ that hold an experiment."""
    texts = {path: path.read_text() for path in sorted((REPOSITORY / "configs").rglob("*.y*ml"))}
    return [path for path, text in texts.items() if f"apiVersion: {API_VERSION}" in text]


def test_every_example_that_users_copy_is_accepted(cluster: Plane) -> None:
    found = examples()
    assert found, "configs/ holds no example"
    for path in found:
        answer = cluster.kubectl(
            "create", "-n", NAMESPACE, "--dry-run=server", "--validate=strict", "-f", str(path), check=False
        )
        assert answer.returncode == 0, f"{path}: {answer.stderr}"


def test_the_guides_own_form_is_accepted(cluster: Plane) -> None:
    apply(cluster, experiment("guide", road()), "--dry-run=server", "--validate=strict")
