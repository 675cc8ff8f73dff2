# SPDX-License-Identifier: Apache-2.0
"""The manifests of a hook's Job and of what it needs, against golden files that a person can read."""

import json
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.builders import DEFAULTS, RECIPE, UID, Play, a_spec, an_experiment, created, four_jobs, plan, probe

from sandbox_api.contract import CONTRACT_ENV, CONTRACT_FILE_ENV, MAX_INLINE, contract_digest, decode_contract
from sandbox_api.experiment import NewClaim, Resources
from sandbox_api.status import JobStatus
from sandbox_operator.build.defaults import Defaults
from sandbox_operator.build.job import JobRequest, contract_config_map, hook_job, limits_of
from sandbox_operator.build.names import ANNOTATION_CONTRACT
from sandbox_operator.build.quantity import amount
from sandbox_operator.build.volume import workspace_claim
from sandbox_operator.plan.actions import CreateJob
from sandbox_operator.plan.compile import compile_spec
from sandbox_operator.plan.contracts import Asked, helper_request

GOLDEN = Path(__file__).with_name("golden")


def golden(name: str) -> Any:
    return yaml.safe_load((GOLDEN / name).read_text())


def first_job(spec: dict[str, Any], defaults: Defaults = DEFAULTS) -> CreateJob:
    (job,) = created(plan(an_experiment(spec), defaults=defaults))
    return job


def pod_of(job: CreateJob) -> dict[str, Any]:
    pod: dict[str, Any] = job.manifest["spec"]["template"]["spec"]
    return pod


def environment(job: CreateJob) -> dict[str, Any]:
    (container,) = pod_of(job)["containers"]
    return {entry["name"]: entry for entry in container["env"]}


def full_spec() -> dict[str, Any]:
    """Everything that can be said of a pod."""
    return a_spec(
        probes=[probe(pod="gpu", secrets=[{"env": "HF_TOKEN", "name": "hf", "key": "token"}])],
        inputs=[
            {"name": "raw", "claimName": "datasets", "subPath": "videos"},
            {"name": "recipes", "configMapName": "my-recipes"},
        ],
        pods={
            "gpu": {
                "resources": {"requests": {"cpu": "2"}, "limits": {"nvidia.com/gpu": 1, "memory": "4Gi"}},
                "nodeSelector": {"pool": "gpu"},
                "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
                "affinity": {"nodeAffinity": {}},
                "runtimeClassName": "nvidia",
                "schedulerName": "volcano",
                "imagePullSecrets": ["registry"],
                "env": [{"name": "A", "value": "$(HOME) $$ $(X) $5"}],
                "sharedMemory": "8Gi",
                "patch": {"securityContext": {"supplementalGroups": [44]}, "hostIPC": False},
            }
        },
        timeouts={"pending": "10m", "active": "1h"},
        runAsUser=2000,
    )


# Golden files


@pytest.mark.parametrize(("name", "spec"), [("job-smallest.yaml", a_spec()), ("job-full.yaml", full_spec())])
def test_the_job_is_the_one_in_the_golden_file(name: str, spec: dict[str, Any]) -> None:
    job = first_job(spec, Defaults(images={"data": "registry.example.com/data:1"}, priority_class="hooks"))
    manifest = json.loads(json.dumps(job.manifest))
    contract = next(
        e for e in manifest["spec"]["template"]["spec"]["containers"][0]["env"] if e["name"] == CONTRACT_ENV
    )
    contract["value"] = "base64(gzip(contract.json))"  # compressed bytes are the library's, not part of the contract

    assert manifest == golden(name)


def test_the_contract_is_the_one_in_the_golden_file() -> None:
    """A second job: it has inputs, an own name for its output, and configurations of both kinds."""
    play = Play(four_jobs())
    play.step()
    (job,) = created(play.succeed())
    contract = decode_contract(environment(job)[CONTRACT_ENV]["value"])

    assert contract.model_dump(mode="json") == golden("contract.yaml")
    assert contract_digest(contract) == "d8efe88cefa4301b883cc96ed0738ea25d82a2b447253de40549c9e2c542500c"
    assert job.contract == job.manifest["metadata"]["annotations"][ANNOTATION_CONTRACT] == contract_digest(contract)


@pytest.mark.parametrize(
    ("name", "retention", "claim", "storage_class"),
    [
        ("claim-retain.yaml", "Retain", {"size": "1Gi"}, None),
        ("claim-delete.yaml", "Delete", {"size": "50Gi", "accessModes": ["ReadWriteOnce"]}, "fast"),
    ],
)
def test_the_claim_is_the_one_in_the_golden_file(
    name: str, retention: str, claim: dict[str, Any], storage_class: str | None
) -> None:
    made = workspace_claim(
        name="demo",
        namespace="lab",
        uid=UID,
        claim=NewClaim.model_validate(claim),
        retention=retention,
        defaults=Defaults(storage_class=storage_class),
    )

    assert made == golden(name)


# What a pod may rely on


def test_a_claim_is_one_volume_of_a_pod_however_many_inputs_lie_on_it() -> None:
    """The kubelet waits without end to mount a pod that has two volumes of one claim."""
    spec = a_spec(
        inputs=[
            {"name": "raw", "claimName": "datasets", "subPath": "videos"},
            {"name": "recipes", "configMapName": "datasets"},
            {"name": "models", "claimName": "datasets", "subPath": "models"},
            {"name": "earlier", "claimName": "demo-workspace", "subPath": "experiments"},
        ],
    )
    pod = pod_of(first_job(spec))
    (container,) = pod["containers"]
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    claims = {
        v["name"]: v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"] if "persistentVolumeClaim" in v
    }

    assert sorted(claims.values()) == ["datasets", "demo-workspace"]
    for path, claim, folder in (
        ("raw", "datasets", "videos"),
        ("models", "datasets", "models"),
        ("earlier", "demo-workspace", "experiments"),
    ):
        mount = mounts[f"/inputs/{path}"]
        assert (claims[mount["name"]], mount["subPath"], mount["readOnly"]) == (claim, folder, True)
    assert claims[mounts["/workspace"]["name"]] == "demo-workspace"
    assert "readOnly" not in mounts["/workspace"]
    assert {volume["name"] for volume in pod["volumes"]} == {mount["name"] for mount in mounts.values()}


@pytest.mark.parametrize("text", ["$(HOME)", "$$", "$(X)", "$", "a$b$(c)$$$(d)", "plain"])
def test_values_of_users_arrive_as_they_were_written(text: str) -> None:
    """The kubelet turns $$ into $ and expands $(NAME)."""
    job = first_job(a_spec(pods={"default": {"env": [{"name": "A", "value": text}]}}))
    value = environment(job)["A"]["value"]

    assert value.replace("$$", "\0").count("$") == 0  # so nothing is left to expand
    assert value.replace("$$", "$") == text


@given(st.text(alphabet="$()AX{} ", max_size=12))
def test_the_contract_holds_no_character_that_the_kubelet_would_expand(text: str) -> None:
    dj = {"dataset_path": "inputs/raw/a.jsonl", "project_name": text, "process": RECIPE}
    value = environment(first_job(a_spec(probes=[probe(djConfigs=dj)])))[CONTRACT_ENV]["value"]

    assert "$" not in value
    assert decode_contract(value).configs.dj == dj


def test_a_contract_that_is_too_long_lies_in_a_config_map_of_the_attempt() -> None:
    # Different words in each operator, so that compression does not make it short again.
    words = [f"{n * 7919 % 104729:x}{n * 104729 % 1299709:x}" for n in range(12_000)]
    job = first_job(a_spec(probes=[probe(djConfigs={"dataset_path": "a.jsonl", "text_keys": words})]))

    assert job.config_map is not None
    text = job.config_map["data"]["contract"]
    assert len(text) > MAX_INLINE
    assert decode_contract(text).configs.dj["text_keys"] == words
    assert job.config_map["immutable"] is True
    assert job.config_map["metadata"]["name"] == job.manifest["metadata"]["name"]
    assert job.config_map["metadata"]["ownerReferences"] == job.manifest["metadata"]["ownerReferences"]
    pod = pod_of(job)
    assert environment(job)[CONTRACT_FILE_ENV]["value"] == "/sandbox/contract/contract"
    assert CONTRACT_ENV not in environment(job)
    assert {"name": "contract", "configMap": {"name": job.manifest["metadata"]["name"]}} in pod["volumes"]
    assert {"name": "contract", "mountPath": "/sandbox/contract", "readOnly": True} in pod["containers"][0][
        "volumeMounts"
    ]


def test_a_short_contract_needs_no_config_map() -> None:
    job = first_job(a_spec())

    assert job.config_map is None
    request = JobRequest(decode_contract(environment(job)[CONTRACT_ENV]["value"]), "image", "claim")
    assert contract_config_map(request) is None


def test_the_deadline_is_only_a_backstop_behind_the_runtimes_own() -> None:
    job = first_job(a_spec(timeouts={"pending": "10m", "active": "2h"}))
    contract = decode_contract(environment(job)[CONTRACT_ENV]["value"])

    assert job.manifest["spec"]["activeDeadlineSeconds"] == 600 + 7200 + 60
    assert contract.active_seconds_left == 7200


def test_the_contract_tells_the_pods_limits_as_numbers() -> None:
    spec = a_spec(
        pods={"default": {"resources": {"requests": {"cpu": "500m"}, "limits": {"memory": "4Gi", "nvidia.com/gpu": 2}}}}
    )
    limits = decode_contract(environment(first_job(spec))[CONTRACT_ENV]["value"]).limits

    assert (limits.cpus, limits.memory_bytes, limits.gpus) == (0.5, 4 * 2**30, 2)


@pytest.mark.parametrize(
    ("patch", "path", "expected"),
    [
        ({"hostIPC": True}, ["hostIPC"], True),
        ({"securityContext": {"fsGroup": 5}}, ["securityContext", "fsGroup"], 5),
        ({"securityContext": {"fsGroup": 5}}, ["securityContext", "runAsNonRoot"], True),
        ({"securityContext": {"fsGroup": None}}, ["securityContext", "fsGroup"], None),
        ({"enableServiceLinks": None}, ["enableServiceLinks"], None),
        ({"initContainers": [{"name": "a"}]}, ["initContainers"], [{"name": "a"}]),
        ({"dnsConfig": {"options": None, "searches": ["x"]}}, ["dnsConfig"], {"searches": ["x"]}),
    ],
)
def test_a_profiles_patch_is_merged_last(patch: dict[str, Any], path: list[str], expected: Any) -> None:
    found: Any = pod_of(first_job(a_spec(pods={"default": {"patch": patch}})))
    for key in path:
        found = found.get(key)

    assert found == expected


def test_a_jobs_own_resources_replace_the_profiles_one_by_one() -> None:
    profile = Resources.model_validate({"requests": {"cpu": "2", "memory": "1Gi"}, "limits": {"memory": "1Gi"}})
    own = Resources.model_validate({"limits": {"memory": "2Gi", "nvidia.com/gpu": 1}})

    assert limits_of(profile, own) == Resources.model_validate(
        {"requests": {"cpu": "2", "memory": "1Gi"}, "limits": {"memory": "2Gi", "nvidia.com/gpu": 1}}
    )
    assert limits_of(None, None) is None


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (2, 2), ("2", 2), ("500m", 0.5), ("1.5", 1.5), ("4Gi", 4 * 2**30), ("1k", 1000), ("2M", 2e6), ("1e3", 1000),
        ("1E", 1e18), ("1Ei", 2**60), (".5", 0.5), ("3u", 3e-6), ("7n", 7e-9),
    ],
)  # fmt: skip
def test_quantities_are_read_as_kubernetes_means_them(text: int | str, number: float) -> None:
    assert amount(text) == pytest.approx(number)


@pytest.mark.parametrize("text", ["", "4GB", "lots", "1.2.3", "Gi", "1 Gi"])
def test_what_is_no_quantity_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="not a quantity"):
        amount(text)


# Progress


TELLING = Defaults(
    images={"data": "registry.example.com/data:1"}, progress_url="http://operator.tools.svc:8081/v1/progress"
)


def test_a_pod_that_is_to_tell_its_progress_has_a_token_for_that_and_for_nothing_else() -> None:
    job = first_job(a_spec(), TELLING)
    pod = pod_of(job)
    assert pod["automountServiceAccountToken"] is False
    (volume,) = (volume for volume in pod["volumes"] if "projected" in volume)
    token = {"audience": "sandbox.datajuicer.io/progress", "expirationSeconds": 3600, "path": "token"}
    assert volume["projected"] == {"sources": [{"serviceAccountToken": token}]}
    mounts = [mount for mount in pod["containers"][0]["volumeMounts"] if mount["name"] == volume["name"]]
    assert mounts == [{"name": volume["name"], "mountPath": "/var/run/secrets/sandbox", "readOnly": True}]
    contract = decode_contract(environment(job)[CONTRACT_ENV]["value"])
    assert contract.progress is not None
    assert contract.progress.url == TELLING.progress_url


def test_progress_turned_on_or_off_changes_nothing_that_is_asked_of_a_job() -> None:
    """An experiment that runs through an upgrade finds its own Jobs and state again."""
    with_it, without = first_job(a_spec(), TELLING), first_job(a_spec(), DEFAULTS)
    assert with_it.contract == without.contract
    assert with_it.manifest["metadata"]["name"] == without.manifest["metadata"]["name"]
    assert not [volume for volume in pod_of(without)["volumes"] if "projected" in volume]


def test_a_pod_that_only_looks_at_the_volume_tells_nothing() -> None:
    snapshot = an_experiment(a_spec())
    compiled = compile_spec(snapshot.spec, {})
    assert compiled.spec is not None
    (job,) = compiled.jobs
    committed = {job.id: JobStatus(id=job.id, hook=job.hook.name, meta_name=job.meta_name)}
    asked = Asked(snapshot, compiled.spec, TELLING, "claim", TELLING.images, 1, committed)
    tasks: list[Literal["read", "check", "merge"]] = ["read", "check", "merge"]
    for task in tasks:
        request = helper_request(asked, job, 1, task)
        assert request.contract.progress is None
        assert "projected" not in json.dumps(hook_job(request, TELLING))
