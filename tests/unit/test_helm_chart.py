# SPDX-License-Identifier: Apache-2.0
"""What the Helm charts render to, in every mode a user can choose. Not an installation: tests/node does that."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.charts import (
    CRDS,
    IMAGE,
    KUBE_VERSION,
    OPERATOR,
    ROOT,
    Manifest,
    defined,
    helm,
    operator_chart,
    render,
    settings,
)

from sandbox_api.hooks import HOOKS
from sandbox_operator.build.export import IMAGE as EXPORTER
from sandbox_operator.reconcile.settings import settings_from


def refusal(chart: Path = OPERATOR, **values: Any) -> str:
    answer = helm("template", "sandbox-operator", str(chart), KUBE_VERSION, *settings(**values))
    assert answer.returncode != 0, f"accepted: {values}"
    return answer.stderr


def the(manifests: list[Manifest], kind: str, **metadata: str) -> Manifest:
    found = [
        manifest
        for manifest in manifests
        if manifest["kind"] == kind and metadata.items() <= manifest["metadata"].items()
    ]
    assert len(found) == 1, f"{len(found)} of kind {kind} with {metadata}"
    return found[0]


def environment(manifests: list[Manifest]) -> dict[str, str]:
    container = the(manifests, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    return {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}


def pod_specs(manifests: list[Manifest]) -> Iterator[Manifest]:
    for manifest in manifests:
        if manifest["kind"] == "Pod":
            yield manifest["spec"]
        elif manifest["kind"] == "Deployment":
            yield manifest["spec"]["template"]["spec"]


EVERYTHING = {
    "images__data": "registry.example.com/data:1",
    "imagePullSecrets": ["pull"],
    "hookPods__priorityClassName": "low",
    "metrics__serviceMonitor__enabled": True,
    "metrics__serviceMonitor__labels": {"release": "prometheus"},
    "networkPolicy__enabled": True,
    "networkPolicy__metricsFrom": [{"namespaceSelector": {}}],
    "priorityClassName": "system-cluster-critical",
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "infra", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "podLabels": {"team": "data"},
    "podAnnotations": {"note": "x"},
    "serviceAccount__annotations": {"note": "y"},
    "storageClassName": "fast",
}
MODES: dict[str, dict[str, Any]] = {
    "default": {},
    "namespaced": {"watchNamespaces": ["research", "research-dev"]},
    "everything": EVERYTHING,
    "everything namespaced": {**EVERYTHING, "watchNamespaces": ["research"]},
    "own account and rights": {"serviceAccount__create": False, "serviceAccount__name": "mine", "rbac__create": False},
    "no metrics": {"metrics__enabled": False, "networkPolicy__enabled": True},
    "two replicas": {"replicas": 2},
}
in_every_mode = pytest.mark.parametrize("values", MODES.values(), ids=MODES.keys())


@in_every_mode
def test_helm_lint_finds_nothing(values: dict[str, Any]) -> None:
    answer = helm("lint", "--strict", str(OPERATOR), KUBE_VERSION, *settings(image=IMAGE, **values))
    assert answer.returncode == 0, answer.stdout


def test_helm_lint_finds_nothing_in_the_definitions() -> None:
    answer = helm("lint", "--strict", str(CRDS), KUBE_VERSION)
    assert answer.returncode == 0, answer.stdout


# Rights -------------------------------------------------------------------------------------------------------------


def rules(manifests: list[Manifest]) -> list[list[Manifest]]:
    """The rules of each role about experiments and what belongs to them."""
    roles = [manifest for manifest in manifests if manifest["kind"] in ("Role", "ClusterRole")]
    return [role["rules"] for role in roles if not role["metadata"]["name"].endswith(("-lease", "-progress"))]


def verbs(role: list[Manifest], resource: str) -> set[str]:
    return {verb for rule in role if resource in rule["resources"] for verb in rule["verbs"]}


@in_every_mode
def test_no_role_reaches_secrets_logs_nodes_or_everything(values: dict[str, Any]) -> None:
    for role in rules(operator_chart(**values)):
        named = {word for rule in role for key in ("apiGroups", "resources", "verbs") for word in rule[key]}
        assert not named & {"*", "secrets", "pods/log", "pods/exec", "nodes", "customresourcedefinitions"}


def test_the_operator_can_never_delete_user_data() -> None:
    (role,) = rules(operator_chart())
    assert verbs(role, "persistentvolumeclaims") == {"get", "list", "watch", "create", "patch"}
    assert verbs(role, "sandboxexperiments") == {"get", "list", "watch", "create", "patch"}
    assert verbs(role, "sandboxsweeps") == {"get", "list", "watch"}


def test_the_operator_can_do_its_work_and_nothing_else() -> None:
    (role,) = rules(operator_chart())
    assert verbs(role, "sandboxhooks") == {"get", "list", "watch"}
    assert verbs(role, "sandboxexperiments/status") == {"update"}
    assert verbs(role, "sandboxhooks/status") == {"patch"}
    assert verbs(role, "jobs") == {"get", "list", "watch", "create", "delete", "deletecollection"}
    assert verbs(role, "pods") == {"get", "list", "watch"}
    assert verbs(role, "configmaps") == {"get", "create"}
    assert verbs(role, "events") == {"create", "list", "watch"}


def test_namespaced_mode_leaves_the_cluster_alone() -> None:
    namespaced = operator_chart(watchNamespaces=["research", "research-dev"])
    kinds = {manifest["kind"] for manifest in namespaced}
    assert not kinds & {"ClusterRole", "ClusterRoleBinding"}
    for namespace in ("research", "research-dev"):
        binding = the(namespaced, "RoleBinding", namespace=namespace)
        role = the(namespaced, "Role", namespace=namespace, name=binding["roleRef"]["name"])
        assert role["rules"] == rules(operator_chart())[0]
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "sandbox-operator", "namespace": "tools"}]
    assert environment(namespaced)["SANDBOX_NAMESPACES"] == "research,research-dev"


def test_cluster_mode_binds_the_account_that_the_pod_runs_as() -> None:
    manifests = operator_chart()
    binding = the(manifests, "ClusterRoleBinding")
    account = the(manifests, "ServiceAccount")
    assert binding["roleRef"]["name"] == the(manifests, "ClusterRole")["metadata"]["name"]
    assert binding["subjects"][0]["name"] == account["metadata"]["name"]
    assert {spec["serviceAccountName"] for spec in pod_specs(manifests)} == {account["metadata"]["name"]}
    assert environment(manifests)["SANDBOX_NAMESPACES"] == ""


def test_an_account_of_ones_own_is_used_and_nothing_is_bound() -> None:
    manifests = operator_chart(**MODES["own account and rights"])
    assert {spec["serviceAccountName"] for spec in pod_specs(manifests)} == {"mine"}
    assert not {manifest["kind"] for manifest in manifests} & {"ServiceAccount", "ClusterRole", "ClusterRoleBinding"}
    assert "name the service account" in refusal(image=IMAGE, serviceAccount__create=False)


# Pods ---------------------------------------------------------------------------------------------------------------


@in_every_mode
def test_every_pod_is_restricted(values: dict[str, Any]) -> None:
    specs = list(pod_specs(operator_chart(**values)))
    assert len(specs) == 2
    for spec in specs:
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not spec.keys() & {"hostNetwork", "hostPID", "hostIPC", "volumes"}
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


def test_an_upgrade_starts_the_new_one_before_it_ends_the_old_one() -> None:
    spec = the(operator_chart(), "Deployment")["spec"]
    assert spec["replicas"] == 1
    assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] > 5


@in_every_mode
def test_every_operator_works_only_while_it_holds_the_lease(values: dict[str, Any]) -> None:
    """Even where there is one: Kubernetes starts a second one while the first is on a node that does not answer."""
    manifests = operator_chart(**values)
    namespace, _, name = environment(manifests)["SANDBOX_LEASE"].partition("/")
    assert namespace == the(manifests, "Deployment")["metadata"]["namespace"]
    container = the(manifests, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    (identity,) = [entry for entry in container["env"] if entry["name"] == "SANDBOX_IDENTITY"]
    assert identity["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    if values.get("rbac__create") is False:
        return
    role = the(manifests, "Role", namespace=namespace, name=f"{name}-lease")
    assert role["rules"] == [
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]},
        {
            "apiGroups": ["coordination.k8s.io"],
            "resources": ["leases"],
            "resourceNames": [name],
            "verbs": ["get", "patch"],
        },
    ]
    binding = the(manifests, "RoleBinding", namespace=namespace, name=f"{name}-lease")
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "sandbox-operator", "namespace": namespace}]


def test_two_replicas_survive_a_drain_and_prefer_two_nodes() -> None:
    two, one = operator_chart(replicas=2), operator_chart()
    labels = the(two, "Deployment")["spec"]["template"]["metadata"]["labels"]
    budget = the(two, "PodDisruptionBudget")["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"]["matchLabels"].items() <= labels.items()
    (spread,) = the(two, "Deployment")["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert spread["whenUnsatisfiable"] == "ScheduleAnyway", "one node is enough to run on"
    assert spread["labelSelector"]["matchLabels"].items() <= labels.items()
    assert not [m for m in one if m["kind"] == "PodDisruptionBudget"], "it would hold up the drain of a node"
    assert "topologySpreadConstraints" not in the(one, "Deployment")["spec"]["template"]["spec"]


def test_the_kubelet_sees_when_the_operator_hangs_and_a_rollout_when_it_could_work() -> None:
    container = the(operator_chart(), "Deployment")["spec"]["template"]["spec"]["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    pages = {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}
    for probe, page in pages.items():
        assert container[probe]["httpGet"] == {"path": page, "port": "health"}
    assert environment(operator_chart())["SANDBOX_LIVENESS_PORT"] == str(ports["health"]) == "8080"
    assert container["resources"] == {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}}


def test_settings_reach_the_operator_and_only_those_of_hooks_reach_hooks() -> None:
    manifests = operator_chart(**EVERYTHING, workers=4, log={"level": "debug", "format": "text"})
    assert environment(manifests) == {
        "SANDBOX_NAMESPACES": "",
        "SANDBOX_IMAGES": '{"data":"registry.example.com/data:1"}',
        "SANDBOX_IMAGE_PULL_POLICY": "IfNotPresent",
        "SANDBOX_PRIORITY_CLASS": "low",
        "SANDBOX_STORAGE_CLASS": "fast",
        "SANDBOX_WORKERS": "4",
        "SANDBOX_LOG_LEVEL": "debug",
        "SANDBOX_LOG_FORMAT": "text",
        "SANDBOX_LEASE": "tools/sandbox-operator",
        "SANDBOX_LIVENESS_PORT": "8080",
        "SANDBOX_METRICS_PORT": "9090",
        "SANDBOX_PROGRESS_PORT": "8081",
        "SANDBOX_PROGRESS_SERVICE": "tools/sandbox-operator-progress",
        "SANDBOX_PROGRESS_URL": "http://sandbox-operator-progress.tools.svc:8081",
    }
    pod = the(manifests, "Deployment")["spec"]["template"]
    assert pod["spec"]["priorityClassName"] == "system-cluster-critical"
    assert pod["spec"]["imagePullSecrets"] == [{"name": "pull"}]
    assert pod["metadata"]["labels"]["team"] == "data"


def test_images_travel_as_json_and_empty_ones_stay_behind() -> None:
    pinned = "registry.local:5000/sandbox-data@sha256:" + "a" * 64
    images = environment(operator_chart(images__data=pinned))["SANDBOX_IMAGES"]
    assert json.loads(images) == {"data": pinned}
    assert json.loads(environment(operator_chart())["SANDBOX_IMAGES"]) == {}


def test_an_own_label_cannot_take_the_pod_from_its_deployment() -> None:
    deployment = the(operator_chart(podLabels={"app.kubernetes.io/name": "other"}), "Deployment")["spec"]
    assert deployment["selector"]["matchLabels"].items() <= deployment["template"]["metadata"]["labels"].items()


# Network ------------------------------------------------------------------------------------------------------------


def test_the_service_finds_the_operator_and_not_the_test_pod() -> None:
    manifests = operator_chart()
    selector = the(manifests, "Service", name="sandbox-operator")["spec"]["selector"].items()
    assert selector <= the(manifests, "Deployment")["spec"]["template"]["metadata"]["labels"].items()
    assert not selector <= the(manifests, "Pod")["metadata"]["labels"].items()


def test_monitoring_and_network_policy_are_off_by_default() -> None:
    assert not {manifest["kind"] for manifest in operator_chart()} & {"ServiceMonitor", "NetworkPolicy"}


def test_a_service_monitor_scrapes_the_services_metrics_port() -> None:
    manifests = operator_chart(**EVERYTHING)
    monitor, service = the(manifests, "ServiceMonitor"), the(manifests, "Service", name="sandbox-operator")
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}


def test_the_network_policy_opens_metrics_to_the_named_peers_only() -> None:
    policy = the(operator_chart(**EVERYTHING), "NetworkPolicy")["spec"]
    by_port = {rule["ports"][0]["port"]: rule.get("from") for rule in policy["ingress"]}
    hooks = {"matchLabels": {"app.kubernetes.io/name": "sandbox-hook"}}
    assert by_port == {
        "health": None,
        "metrics": [{"namespaceSelector": {}}],
        "progress": [{"namespaceSelector": {}, "podSelector": hooks}],
    }


def test_metrics_can_be_turned_off() -> None:
    manifests = operator_chart(**MODES["no metrics"])
    assert environment(manifests)["SANDBOX_METRICS_PORT"] == "0"
    service = the(manifests, "Service", name="sandbox-operator")
    assert [port["name"] for port in service["spec"]["ports"]] == ["health"]
    policy = the(manifests, "NetworkPolicy")["spec"]
    assert "metrics" not in {port["port"] for rule in policy["ingress"] for port in rule["ports"]}
    message = refusal(image=IMAGE, metrics__enabled=False, metrics__serviceMonitor__enabled=True)
    assert "there is nothing to scrape" in message


# Values -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"imag": "x"}, "'imag' not allowed"),
        ({"images__dta": "x"}, "at '/images': additional properties 'dta' not allowed"),
        ({"watchNamespace": ["x"]}, "'watchNamespace' not allowed"),
        ({"watchNamespaces": "research"}, "at '/watchNamespaces': got string, want array"),
        ({"watchNamespaces": ["Research"]}, "at '/watchNamespaces/0'"),
        ({"workers": "many"}, "at '/workers': got string, want integer"),
        ({"replicas": 50}, "at '/replicas'"),
        ({"log__level": "loud"}, "at '/log/level'"),
        ({"resources__limit": {}}, "at '/resources': additional properties 'limit' not allowed"),
        ({"image": {"repository": "x"}}, "at '/image': got object, want string"),
        ({"metrics__port": 8080}, "at '/metrics/port'"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(values: dict[str, Any], words: str) -> None:
    assert words in refusal(**{"image": IMAGE, **values})


def test_a_missing_image_is_asked_for() -> None:
    assert "image is empty: give the operator's image" in refusal()


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    else:
        yield path


def at(value: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


@pytest.mark.parametrize("chart", [OPERATOR, CRDS], ids=lambda chart: chart.name)
def test_the_schema_knows_every_value_and_nothing_else(chart: Path) -> None:
    schema = json.loads((chart / "values.schema.json").read_text())
    for path in leaves(yaml.safe_load((chart / "values.yaml").read_text())):
        node = schema
        for key in path:
            node = schema["$defs"][node["$ref"].rpartition("/")[2]] if "$ref" in node else node
            if isinstance(node.get("additionalProperties"), dict):  # free names, typed values: labels, quantities
                break
            assert node["additionalProperties"] is False, f"{path}: misspelt neighbours of {key} would be accepted"
            assert key in node["properties"], path
            node = node["properties"][key]


@pytest.mark.parametrize("chart", [OPERATOR, CRDS], ids=lambda chart: chart.name)
def test_the_readme_tells_every_value_with_its_default(chart: Path) -> None:
    values = yaml.safe_load((chart / "values.yaml").read_text())
    rows = re.findall(r"^\| `([\w.]+)` \| `(.*?)` \|", (chart / "README.md").read_text(), re.MULTILINE)
    told = {tuple(name.split(".")): yaml.safe_load(default) for name, default in rows}
    for path, default in told.items():
        assert at(values, path) == default, path
    for path in leaves(values):
        assert any(path[: len(row)] == row for row in told), f"{'.'.join(path)} is not in the README"


def test_the_chart_has_an_image_for_each_hook_of_the_catalogue_and_for_the_exporter() -> None:
    values = yaml.safe_load((OPERATOR / "values.yaml").read_text())
    schema = json.loads((OPERATOR / "values.schema.json").read_text())
    names = {kind.image for hook in HOOKS.values() for kind in (hook.components or {"": hook}).values()}
    assert set(values["images"]) == set(schema["properties"]["images"]["properties"]) == names | {EXPORTER}


def test_charts_carry_the_projects_version() -> None:
    project = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert project is not None
    for chart in (OPERATOR, CRDS):
        about = yaml.safe_load((chart / "Chart.yaml").read_text())
        assert about["version"] == about["appVersion"] == project[1]


# Definitions --------------------------------------------------------------------------------------------------------


def test_the_definitions_come_out_as_written_and_are_kept() -> None:
    rendered = {m["metadata"]["name"]: m for m in render(CRDS) if m["kind"] == "CustomResourceDefinition"}
    written = [yaml.safe_load(path.read_text()) for path in (ROOT / "crds").glob("*.yaml")]
    assert rendered.keys() == {crd["metadata"]["name"] for crd in written}
    for crd in written:
        chart = rendered[crd["metadata"]["name"]]
        assert chart["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
        assert chart["spec"] == crd["spec"]


def test_every_kind_is_told_where_people_read_of_definitions_of_rights_and_of_removal() -> None:
    pages = [CRDS / page for page in ("README.md", "values.yaml", "Chart.yaml", "templates/NOTES.txt")]
    install = ROOT / "docs/how-to/install.md"
    for names in defined():
        assert [page.name for page in (*pages, install) if names["kind"] not in page.read_text()] == []
        assert f"\n| {names['kind']}s |" in (OPERATOR / "README.md").read_text()
        assert f"kubectl delete crd {names['plural']}.sandbox.datajuicer.io" in install.read_text()


def test_users_of_a_namespace_may_use_what_is_defined_but_not_write_its_status() -> None:
    manifests = render(CRDS)
    prefix = "rbac.authorization.k8s.io/aggregate-to-"
    granted: dict[str, dict[str, set[str]]] = {}
    for role in (manifest for manifest in manifests if manifest["kind"] == "ClusterRole"):
        for label in role["metadata"]["labels"]:
            for rule in role["rules"] if label.startswith(prefix) else []:
                for resource in rule["resources"]:
                    found = granted.setdefault(label.removeprefix(prefix), {}).setdefault(resource, set())
                    found.update(rule["verbs"])
    read = {"get", "list", "watch"}
    write = {"create", "update", "patch", "delete", "deletecollection"}
    kinds = [names["plural"] for names in defined()]
    statuses = [f"{kind}/status" for kind in kinds]
    assert granted["view"] == dict.fromkeys((*kinds, *statuses), read)
    assert granted["edit"] == {**dict.fromkeys(kinds, read | write), **dict.fromkeys(statuses, read)}
    assert granted["admin"] == granted["edit"]
    assert {m["kind"] for m in render(CRDS, userRoles__create=False)} == {"CustomResourceDefinition"}


# Progress -----------------------------------------------------------------------------------------------------------


def test_pods_find_the_operator_at_work_under_the_name_that_they_are_told() -> None:
    manifests = operator_chart(progress__port=9999)
    service, told = the(manifests, "Service", name="sandbox-operator-progress"), environment(manifests)
    assert "selector" not in service["spec"], "the operator at work says who is behind it"
    assert [(port["name"], port["port"]) for port in service["spec"]["ports"]] == [("progress", 9999)]
    assert told["SANDBOX_PROGRESS_URL"] == "http://sandbox-operator-progress.tools.svc:9999"
    assert told["SANDBOX_PROGRESS_SERVICE"] == "tools/sandbox-operator-progress"
    assert told["SANDBOX_PROGRESS_PORT"] == "9999"
    found = settings_from({**told, "SANDBOX_POD_IP": "10.0.0.1"})
    assert found.defaults.progress_url == "http://sandbox-operator-progress.tools.svc:9999/v1/progress"


def test_it_may_change_the_one_slice_of_its_service_and_only_with_progress() -> None:
    role = the(operator_chart(), "Role", name="sandbox-operator-progress", namespace="tools")
    told = [(rule["resources"], rule["verbs"], rule.get("resourceNames")) for rule in role["rules"]]
    assert told == [
        (["endpointslices"], ["create"], None),
        (["endpointslices"], ["patch"], ["sandbox-operator-progress"]),
        (["services"], ["get"], ["sandbox-operator-progress"]),
    ]
    the(operator_chart(), "RoleBinding", name="sandbox-operator-progress", namespace="tools")


def test_without_progress_nobody_listens_and_nobody_is_told() -> None:
    manifests = operator_chart(progress__enabled=False, networkPolicy__enabled=True)
    the(manifests, "Service")
    assert not [m for m in manifests if m["metadata"]["name"].endswith("-progress")]
    assert not [name for name in environment(manifests) if "PROGRESS" in name]
    policy = the(manifests, "NetworkPolicy")["spec"]
    assert "progress" not in {port["port"] for rule in policy["ingress"] for port in rule["ports"]}
    assert settings_from(environment(manifests)).defaults.progress_url is None
