# SPDX-License-Identifier: Apache-2.0
"""The chart's account with its rights on the real API server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from tests.unit.charts import IMAGE, KUBE_VERSION, OPERATOR, helm, settings

if TYPE_CHECKING:
    from tests.api.conftest import Plane

ACCOUNT = "sandbox-operator"
RBAC = ("ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")


class Installed:
    """The chart's account and rights on the real API server, and a kubeconfig that knows nothing but its token."""

    def __init__(self, plane: Plane, namespace: str, folder: Path, watched: list[str]) -> None:
        self._plane, self._namespace = plane, namespace
        values = settings(image=IMAGE, watchNamespaces=watched)
        answer = helm("template", ACCOUNT, str(OPERATOR), "-n", namespace, KUBE_VERSION, *values)
        assert answer.returncode == 0, answer.stderr
        manifests = [manifest for manifest in yaml.safe_load_all(answer.stdout) if manifest]
        hooked = [m for m in manifests if "helm.sh/hook" in (m["metadata"].get("annotations") or {})]
        self._manifests = [m for m in manifests if m["kind"] in RBAC and m not in hooked]
        self.kinds = {manifest["kind"] for manifest in self._manifests}
        self._kubectl("apply")
        token = plane.kubectl("create", "token", ACCOUNT, "-n", namespace).stdout.strip()
        config = json.loads(plane.admin.read_text())
        config["users"][0]["user"] = {"token": token}
        self.kubeconfig = folder / "account.kubeconfig"
        self.kubeconfig.write_text(json.dumps(config))

    def _kubectl(self, verb: str, *options: str) -> None:
        text = yaml.safe_dump_all(self._manifests)
        self._plane.kubectl(verb, "-n", self._namespace, "-f", "-", *options, stdin=text)

    def remove(self) -> None:
        self._kubectl("delete", "--wait=false")

    def may(self, verb: str, resource: str, namespace: str) -> bool:
        user = f"--as=system:serviceaccount:{self._namespace}:{ACCOUNT}"
        resource, _, part = resource.partition("/")
        options = [f"--subresource={part}"] if part else []  # `pods/log` would mean a pod that is called log
        answer = self._plane.kubectl("auth", "can-i", verb, resource, "-n", namespace, user, *options, check=False)
        assert answer.stdout.strip() in ("yes", "no"), answer.stderr
        return answer.stdout.strip() == "yes"
