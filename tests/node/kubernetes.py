# SPDX-License-Identifier: Apache-2.0
"""kubectl and helm for tests on the embedded node, and small builders of what they apply."""

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

REPOSITORY = Path(__file__).parents[2]
CLUSTER = REPOSITORY / "cluster" / "cluster"
SYSTEM = "sandbox-system"
T = TypeVar("T")


def until(what: str, condition: Callable[[], T], seconds: float = 240) -> T:
    """The first true value of `condition`; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.1)
    return value


class Kubernetes:
    """kubectl and helm on the embedded node, as a user has them."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment

    def run(self, *command: str, stdin: str | None = None, seconds: int = 300) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command, env=self.environment, cwd=REPOSITORY, input=stdin, capture_output=True, text=True, timeout=seconds
        )

    def ok(self, *command: str, stdin: str | None = None, seconds: int = 300) -> str:
        done = self.run(*command, stdin=stdin, seconds=seconds)
        assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def get(self, *arguments: str) -> Any:
        return json.loads(self.ok("kubectl", "get", *arguments, "-o", "json"))

    def find(self, *arguments: str) -> Any | None:
        done = self.run("kubectl", "get", *arguments, "-o", "json")
        return json.loads(done.stdout) if done.returncode == 0 else None

    def told(self) -> str:
        """What a person would look at first when something does not come."""
        label = "app.kubernetes.io/name=sandbox-operator"
        looks = (
            ("kubectl", "get", "sbx,jobs,pods,pvc", "-A", "-o", "wide"),
            ("kubectl", "get", "events", "-A", "--sort-by=.lastTimestamp"),
            ("kubectl", "logs", "-n", SYSTEM, "-l", label, "--prefix", "--tail=200"),
        )
        texts = [(" ".join(look), self.run(*look)) for look in looks]
        return "\n\n".join(f"$ {command}\n{(done.stdout or done.stderr)[-20_000:]}" for command, done in texts)

    def name(self) -> str:
        """The node's name."""
        (found,) = self.get("nodes")["items"]
        return str(found["metadata"]["name"])

    def apply(self, *objects: dict[str, Any]) -> None:
        self.ok(
            "kubectl",
            "apply",
            "--server-side",
            "-f",
            "-",
            stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}),
        )


def install(node: Kubernetes, images: dict[str, str], *more: str) -> None:
    """helm upgrade --install of both charts; `images` without a data image sets none."""
    charts = ("helm", "upgrade", "--install", "--create-namespace", "-n", SYSTEM, "--wait", "--timeout", "5m")
    left = "owner=helm,status in (pending-install,pending-upgrade,pending-rollback)"  # by a run that was ended
    node.run("kubectl", "-n", SYSTEM, "delete", "secret", "-l", left, "--ignore-not-found")
    node.ok(*charts, "sandbox-operator-crds", "helm/sandbox-operator-crds", "--take-ownership")
    data = ("--set", f"images.data={images['DATA_IMAGE']}") if "DATA_IMAGE" in images else ()
    values = ("--set", f"image={images['OPERATOR_IMAGE']}", *data)
    node.ok(*charts, "sandbox-operator", "helm/sandbox-operator", *values, *more)


def experiment(namespace: str, name: str, **spec: Any) -> dict[str, Any]:
    """A SandboxExperiment; without a workspace it gets a claim made."""
    spec.setdefault("workspace", {"claim": {"size": "1Gi"}})
    return {
        "apiVersion": "sandbox.datajuicer.io/v1alpha1",
        "kind": "SandboxExperiment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def condition(item: dict[str, Any], kind: str) -> dict[str, Any]:
    """A condition by its type; empty when it is absent."""
    return next((c for c in item.get("status", {}).get("conditions", ()) if c["type"] == kind), {})
