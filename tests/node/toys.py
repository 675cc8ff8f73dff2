# SPDX-License-Identifier: Apache-2.0
"""Experiments of toy hooks (tests/toy) on the real node: small to write, each pod a second, held and let go by the test."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.node.kubernetes import REPOSITORY, Kubernetes, condition, experiment, until
from tests.node.registry import Image, Registry

from sandbox_operator.build.names import LABEL_EXPERIMENT, LABEL_TASK

SITE_PACKAGES = "/opt/venv/lib/python3.11/site-packages"
SMALL = {"requests": {"cpu": "10m", "memory": "32Mi"}}
Object = dict[str, Any]


def toy_image(registry: Registry, operator_image: str, more: dict[str, bytes] | None = None) -> Image:
    """The toy hooks on top of an operator's image; `more` are further files by absolute path."""
    folder = REPOSITORY / "tests" / "toy"
    ours = {f"{SITE_PACKAGES}/{path.relative_to(folder)}": path.read_bytes() for path in sorted(_files(folder))}
    return registry.put_on(operator_image, "sandbox-operator/toy", {**ours, **(more or {})})


def toy(do: str, name: str | None = None, *, job: Object | None = None, **extra: Any) -> Object:
    """A job that does one thing of `tests/toy/toy_hooks.py`; `job` are further fields of it."""
    return {"hook": "toy", "metaName": name or do, "extraConfigs": {"do": do, **extra}, **(job or {})}


@dataclass(frozen=True)
class Toys:
    """A namespace, and the operator that runs toys in it."""

    node: Kubernetes
    namespace: str

    @classmethod
    def of(cls, node: Kubernetes, namespace: str, image: str) -> "Toys":
        """Toys whose hook has this image."""
        node.apply(
            {
                "apiVersion": "sandbox.datajuicer.io/v1alpha1",
                "kind": "SandboxHook",
                "metadata": {"name": "toy", "namespace": namespace},
                "spec": {"image": image, "outputs": ["first"], "cacheable": True},
            }
        )
        return cls(node, namespace)

    def start(self, name: str, jobs: Sequence[Object], **spec: Any) -> None:
        """Apply an experiment whose jobs run one after another; back-offs are a second."""
        spec = {
            "pods": {"default": {"resources": SMALL}},
            "executionJobConfigs": list(jobs),
            **spec,
            "retry": {"backoff": "1s", **spec.get("retry", {})},
        }
        self.node.apply(experiment(self.namespace, name, **spec))

    def change(self, name: str, **spec: Any) -> None:
        """Change fields of an experiment's spec, as a person would with kubectl."""
        self.node.ok(
            "kubectl", "patch", "sbx", name, "-n", self.namespace, "--type=merge", "-p", json.dumps({"spec": spec})
        )

    def item(self, name: str) -> Object:
        found: Object = self.node.get("sbx", name, "-n", self.namespace)
        return found

    def status(self, name: str) -> Object:
        status: Object = self.item(name).get("status") or {}
        assert all(c["reason"] != "InvalidSpec" for c in status.get("conditions", ())), status["conditions"]
        return status

    def job(self, name: str, meta_name: str | None = None) -> Object:
        """A job's status by its metaName, or the first one's; empty where it has none yet."""
        jobs: list[Object] = self.status(name).get("jobs") or []
        return next((job for job in jobs if meta_name in (None, job["metaName"])), {})

    def becomes(
        self, name: str, what: str, is_so: Callable[[Object], Any], meta_name: str | None = None, seconds: float = 240
    ) -> Object:
        """A job's status, once something is so of it."""

        def look() -> Object | None:
            job = self.job(name, meta_name)
            return job if job and is_so(job) else None

        try:
            found = until(f"{name}: {what}", look, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; its status is {self.status(name)}") from None
        assert found is not None
        return found

    def began(self, name: str, meta_name: str | None = None, attempt: int = 1) -> Object:
        """A job's status, once the status says that it runs, and its hook says that it works."""
        job = self.becomes(
            name,
            f"attempt {attempt} runs",
            lambda job: job["state"] == "Running" and job["attempts"] == attempt,
            meta_name,
        )
        until(f"attempt {attempt} of {job['id']} began", lambda: list(self.attempts(name, job, attempt, "began")))
        return job

    def ended(self, name: str, seconds: float = 240) -> Object:
        """The status of an experiment, once it has ended."""
        try:
            return until(f"{name} ends", lambda: self._final(name), seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; its status is {self.status(name)}") from None

    def succeeded(self, name: str, seconds: float = 240) -> list[Object]:
        """The jobs of an experiment, once it has ended, which it must have done well."""
        status = self.ended(name, seconds)
        assert status["outcome"] == "Succeeded", status["jobs"]
        assert condition(self.item(name), "Succeeded")["status"] == "True"
        jobs: list[Object] = status["jobs"]
        return jobs

    def _final(self, name: str) -> Object:
        status = self.status(name)
        return status if status.get("completionTime") else {}

    def volume(self, claim: str) -> Path:
        """Where a claim's volume lies on this machine."""
        volume = self.node.get("pvc", claim, "-n", self.namespace)["spec"]["volumeName"]
        return Path(self.node.get("pv", volume)["spec"]["hostPath"]["path"])

    def folder(self, name: str) -> Path:
        """Where an experiment's folder lies on this machine."""
        workspace = self.status(name)["workspace"]
        return self.volume(workspace["claimName"]) / workspace["path"]

    def attempts(self, name: str, job: Object, attempt: int | str = "*", file: str = "") -> Iterator[Path]:
        """The folders of a job's attempts, one a pod; or those of their files that are there."""
        return (self.folder(name) / "jobs" / job["id"] / "attempts").glob(f"{attempt}/*/{file}".rstrip("/"))

    def let_go(self, name: str, word: str) -> None:
        """Let the hooks go that hold until `word`."""
        (self.folder(name) / word).touch()

    def jobs(self, name: str, task: str = "run") -> list[Object]:
        """The Kubernetes Jobs of an experiment, oldest first: those that run hooks, or those of another task."""
        return sorted(self._of("jobs", name, task), key=lambda job: job["metadata"]["creationTimestamp"])

    def pods(self, name: str) -> list[Object]:
        """The pods of an experiment's hooks that are still there: a Job may go before its pod does."""
        return self._of("pods", name, "run")

    def _of(self, kind: str, name: str, task: str) -> list[Object]:
        selector = f"{LABEL_EXPERIMENT}={name},{LABEL_TASK}={task}"
        found: list[Object] = self.node.get(kind, "-n", self.namespace, "-l", selector)["items"]
        return found

    def pod(self, name: str) -> str:
        """The name of the one pod of an experiment whose hook runs: its phase lags behind."""
        (pod,) = (
            pod
            for pod in self.pods(name)
            if any("running" in container["state"] for container in pod["status"].get("containerStatuses", ()))
        )
        return str(pod["metadata"]["name"])

    def events(self, name: str) -> list[Object]:
        """The Events about an experiment."""
        selector = f"involvedObject.kind=SandboxExperiment,involvedObject.name={name}"
        found: list[Object] = self.node.get("events", "-n", self.namespace, "--field-selector", selector)["items"]
        return found


def hold(name: str = "hold", *, until: str = "go", job: Object | None = None) -> Object:
    """A job that works until the test lets it go."""
    return toy("hold", name, until=until, job=job)


def reads(meta_name: str) -> Object:
    """The input of a job that is told what another one has made."""
    return {"input": {"extraConfigs.read": f"anonymous.{meta_name}.first"}}


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
