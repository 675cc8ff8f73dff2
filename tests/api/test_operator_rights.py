# SPDX-License-Identifier: Apache-2.0
"""The rights that the chart gives suffice for all that the operator does, and for nothing else: real RBAC, real tokens."""

from __future__ import annotations

import asyncio
import random

import pytest
from tests.api.conftest import Operators, Plane
from tests.api.lab import Lab, probes, road
from tests.api.played import Gate, disrupted, lacks_image
from tests.api.rights import ACCOUNT, Installed
from tests.api.sweep_lab import a_sweep, bowl, measures, the_sweep
from tests.api.test_operator_several_pods import make_hook, workers
from tests.unit.charts import IMAGE, KUBE_VERSION, OPERATOR, helm, settings

from sandbox_operator.reconcile.resources import SWEEPS


def suspended(lab: Lab, name: str) -> bool:
    return bool(lab.experiments.store[lab.namespace, name]["spec"].get("suspend"))


BOTH = pytest.mark.parametrize("installed", ["namespaced", "of the cluster"], indirect=True)


@BOTH
async def test_the_charts_rights_suffice_for_all_that_the_operator_does(
    lab: Lab, installed: Installed, operators: Operators, request: pytest.FixtureRequest
) -> None:
    """Every kind of request it ever makes: claims made and handed over, long contracts, Jobs removed, Events written."""
    namespaced = request.node.callspec.params["installed"] == "namespaced"
    assert installed.kinds == (
        {"ServiceAccount", "Role", "RoleBinding"}
        if namespaced
        else {"ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"}
    )
    lease = {"SANDBOX_LEASE": f"{lab.namespace}/{ACCOUNT}"}
    lab.kubelet.table |= {("retried", "a", 1): disrupted(), ("stuck", "a"): lacks_image()}
    operator = operators(installed.kubeconfig, **lease, **({"SANDBOX_NAMESPACES": lab.namespace} if namespaced else {}))
    long = probes("a")
    words = [random.Random(n).randbytes(9).hex() for n in range(9000)]
    long["probeJobConfigs"][0]["djConfigs"]["process"] = [{"flagged_words_filter": {"lang": word}} for word in words]
    await lab.apply("demo", road(ttlSecondsAfterFinished=1))
    await lab.apply("long", long)
    await lab.apply("retried", probes("a"))
    await lab.apply("stuck", probes("a", timeouts={"pending": "1s"}))
    await make_hook(lab)
    await lab.apply("together", workers({"metaName": "one", "nodes": 2}, {"metaName": "two", "nodes": 2}))
    await lab.finished("demo", "long", "retried", "stuck", "together")
    outcomes = {name: lab.status(name)["outcome"] for name in ("demo", "long", "retried", "together", "stuck")}
    assert outcomes == {
        "demo": "Succeeded",
        "long": "Succeeded",
        "retried": "Succeeded",
        "together": "Succeeded",
        "stuck": "Failed",
    }, lab.told()
    await lab.event("demo", "Succeeded")
    await lab.client.create(SWEEPS, the_sweep("tuned", a_sweep(maxTrials=1)), lab.namespace)
    lab.kubelet.table[("tuned-0000", "process")] = gate = Gate(measures(bowl))
    await lab.reached(gate, "its trial runs")
    await lab.client.patch(SWEEPS, "tuned", {"spec": {"suspend": True}}, lab.namespace)
    await lab.until(lambda: suspended(lab, "tuned-0000"), "the trial is suspended with its sweep")
    gate.opened.set()
    await lab.finished("tuned-0000")
    await lab.client.patch(SWEEPS, "tuned", {"spec": {"suspend": False}}, lab.namespace)
    await lab.event("tuned", "Succeeded")
    await lab.until(lambda: not lab.jobs_of("demo"), "the finished Jobs are removed")
    await lab.until(lambda: not lab.jobs_of("stuck"), "the Job that waited too long is removed")
    await lab.change("demo", {"workspace": {"retention": "Delete"}})
    await lab.owned("demo-workspace")
    assert await asyncio.to_thread(operator.stop) == 0
    assert f"the lease {lab.namespace}/{ACCOUNT} is given back" in operator.log
    # Another test's namespace may be on its way out, where nothing can be made any more, whatever one's rights.
    forbidden = [line for line in operator.log.splitlines() if "forbidden" in line.lower() and "terminated" not in line]
    assert forbidden == []


@BOTH
async def test_it_may_read_no_secret_no_log_and_start_no_process_in_a_pod(
    lab: Lab, installed: Installed, request: pytest.FixtureRequest
) -> None:
    forbidden = [
        *((verb, "secrets") for verb in ("get", "list", "watch", "create")),
        ("get", "pods/log"), ("create", "pods/exec"), ("create", "pods"), ("delete", "pods"),
        ("delete", "persistentvolumeclaims"), ("update", "sandboxexperiments"), ("delete", "sandboxexperiments"),
        *((verb, "sandboxsweeps") for verb in ("create", "update", "patch", "delete")), ("create", "sandboxhooks"),
        ("list", "configmaps"), ("list", "services"), ("delete", "services"),
        ("get", "leases"), ("patch", "leases"), ("delete", "leases"), ("create", "rolebindings"), ("get", "nodes"), ("create", "deployments"),
    ]  # fmt: skip
    assert not [what for what in forbidden if installed.may(*what, lab.namespace)]
    assert installed.may("create", "jobs.batch", lab.namespace)
    elsewhere = request.node.callspec.params["installed"] != "namespaced"
    assert installed.may("list", "pods", "default") is elsewhere


@pytest.mark.parametrize("installed", ["namespaced"], indirect=True)
async def test_without_a_right_it_says_which_one_and_goes_on_when_it_has_it(
    lab: Lab, plane: Plane, installed: Installed, operators: Operators
) -> None:
    """Watching the whole cluster with the rights for one namespace: it waits, and its log names the request."""
    operator = operators(installed.kubeconfig)
    await lab.apply("demo", probes("a"))
    await lab.log_says(operator, "cannot list resource")
    assert operator.code is None, "it waits instead of dying"
    binding = ("clusterrolebinding", f"late-{lab.namespace}")
    account = f"--serviceaccount={lab.namespace}:{ACCOUNT}"
    plane.kubectl("create", *binding, "--clusterrole=cluster-admin", account)
    try:
        await lab.finished("demo", limit=60)
    finally:
        operator.kill()
        plane.kubectl("delete", *binding)


@pytest.mark.parametrize(
    "values", [{}, {"replicas": 2, "watchNamespaces": ["NAMESPACE"], "networkPolicy__enabled": True}]
)
def test_the_api_server_takes_every_object_of_the_chart(plane: Plane, lab: Lab, values: dict[str, object]) -> None:
    """Strictly: a misspelt field in a template is refused."""
    if "watchNamespaces" in values:
        values = {**values, "watchNamespaces": [lab.namespace]}
    where = ("template", ACCOUNT, str(OPERATOR), "-n", lab.namespace, KUBE_VERSION, "--skip-tests")
    answer = helm(*where, *settings(image=IMAGE, **values))
    assert answer.returncode == 0, answer.stderr
    told = plane.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", stdin=answer.stdout).stdout
    assert told.count("created (server dry run)") == answer.stdout.count("\nkind: ") == len(told.splitlines())
    assert ("poddisruptionbudget" in told) is (values.get("replicas") == 2)
