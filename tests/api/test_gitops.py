# SPDX-License-Identifier: Apache-2.0
"""Experiments from Git on a real API server: what GitOps tools see in every state, and that nothing looks like drift.

The resources that `gitops/` is tested with are the operator's own: the first test here has it make each of them anew, and
compares. After a change of what the operator says: SANDBOX_CAPTURE=1 pytest tests/api/test_gitops.py, and read the diff.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Mapping
from typing import Any

import pytest
import yaml
from tests.api.conftest import Operators, Plane
from tests.api.lab import Lab, experiment, probes, road
from tests.api.played import CLAIMS, Gate, Table, fails, lacks_image, succeeds
from tests.api.sweep_lab import a_sweep, bowl, measures, sweep_lab, template
from tests.gitops import KINDS, Manifest, acted, actions

from sandbox_operator.build.names import trial_name
from sandbox_operator.cli.experiments import EXPERIMENTS, HOOKS, SWEEPS
from sandbox_operator.cli.output import as_yaml

HOLD = "test.example/hold"
"""A finalizer, under which a deleted resource can be looked at."""
_MASKS = (
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "2026-01-01T00:00:00Z"),
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "00000000-0000-4000-8000-000000000000"),
    (r"\b[0-9a-f]{64}\b", "0" * 64),
    (r"\bseed: \d+", "seed: 7"),
    (r"(attempts/\d+)/[0-9a-f]{8}", r"\1/00000000"),
    (r"(experiments/[a-z-]+)-[0-9a-f]{8}\b", r"\1-00000000"),
    (r"-[0-9a-f]{10}(-a\d+)", r"-0000000000\1"),
    (r"\blab-[0-9a-f]{8}\b", "research"),
    (r"\b(done) in \d+ s", r"\1 in 1 s"),
    (r"\b(bytes): \d+", r"\1: 1"),
    (r"\bdigest: '?[0-9a-f]{16}'?", "digest: '0000000000000000'"),
)
"""What differs from one run to the next."""

CHANGED_BY_ACTIONS = ("suspend", "stop", "rerun")


def recorded(item: Manifest) -> str:
    """A resource as it is kept for the tests: the same text in every run."""
    kept = ("name", "namespace", "uid", "generation", "creationTimestamp", "deletionTimestamp", "finalizers")
    metadata = {key: item["metadata"][key] for key in kept if key in item["metadata"]}
    status = {key: value for key, value in (item.get("status") or {}).items() if key != "revision"}
    if "jobs" in status:  # how fast a pod went through its states is not what is looked at
        hasty = ("waitingSince", "retryAt", "startTime", "activeSeconds")
        status["jobs"] = [{key: job[key] for key in job if key not in hasty} for job in status["jobs"]]
    text = as_yaml({**{key: item[key] for key in ("apiVersion", "kind")}, "metadata": metadata, "spec": item["spec"],
                    **({"status": status} if status else {})})  # fmt: skip
    for pattern, fixed in _MASKS:
        text = re.sub(pattern, fixed, text)
    return text


def compare(kind: str, found: Mapping[str, Manifest]) -> None:
    """Each state as it is recorded; with SANDBOX_CAPTURE, records it."""
    folder = KINDS / kind / "testdata"
    for state, item in found.items():
        path, text = folder / f"{state}.yaml", recorded(item)
        if os.environ.get("SANDBOX_CAPTURE"):
            path.write_text(text)
            for after in folder.glob(f"after_*_{state}.yaml"):
                whole, known = yaml.safe_load(text), yaml.safe_load(after.read_text())["spec"]
                kept = {field: value for field, value in whole["spec"].items() if field not in CHANGED_BY_ACTIONS}
                whole["spec"] = kept | {field: known[field] for field in CHANGED_BY_ACTIONS if field in known}
                after.write_text(as_yaml(whole))
        assert yaml.safe_load(text) == yaml.safe_load(path.read_text()), (
            f"{path.name}: see the docstring of this module"
        )
    assert {path.stem for path in folder.glob("*.yaml") if not path.stem.startswith("after_")} == set(found)


async def test_the_operator_still_makes_the_resources_that_gitops_tools_are_tested_with(
    plane: Plane, lab: Lab, operators: Operators
) -> None:
    found: dict[str, Manifest] = {}

    async def capture(*states: str) -> None:
        for state in states:
            found[state] = await lab.client.get(EXPERIMENTS, state.replace("_", "-"), lab.namespace)

    async def apply(name: str, spec: Manifest, **metadata: Any) -> None:
        manifest = experiment(name, spec)
        await lab.client.create(EXPERIMENTS, {**manifest, "metadata": {"name": name, **metadata}}, lab.namespace)

    await lab.make_bound_claim("volume")
    terminating = await lab.make_claim("terminating")
    held = {"metadata": {"finalizers": [HOLD]}}
    await lab.client.patch(CLAIMS, terminating["metadata"]["name"], held, lab.namespace)
    await lab.client.delete(CLAIMS, "terminating", lab.namespace)

    await apply("created", probes("quick", claim_name="volume"))
    await capture("created")

    lab.kubelet.table |= {
        ("broken",): fails("User", "ValueError", "row 17"),
        ("hold",): Gate(succeeds()),
        ("imageless",): lacks_image(),
    }
    operator = operators(plane.operator, SANDBOX_NAMESPACES=lab.namespace)
    await apply("pending", probes("quick", claim_name="terminating"))
    await apply("claim-missing", probes("quick", claim_name="nowhere"))
    await apply("running", probes("quick", "hold", claim_name="volume"))
    await apply("waiting", probes("imageless", claim_name="volume"))
    await apply("suspended", probes("quick", claim_name="volume", suspend=True))
    await apply("suspended-between", probes("quick", "hold", claim_name="volume"))
    await apply("succeeded", probes("quick", claim_name="volume"))
    await apply("failed", probes("broken", "quick", claim_name="volume"))
    await apply("stopped", probes("quick", "hold", claim_name="volume"))
    await apply("invalid", probes("quick", claim_name="volume", comparison=[{"before": "quick", "after": "nothing"}]))
    await apply("invalid-after-success", probes("quick", claim_name="volume"))
    await apply("rerunning", probes("quick", "broken", claim_name="volume"))
    await apply("behind", probes("quick", claim_name="volume"))
    await apply("deleting", probes("quick", "hold", claim_name="volume"), finalizers=[HOLD])

    async def at_hold(*names: str) -> None:
        await lab.until(
            lambda: all(lab.job(name, "hold").get("state") == "Running" for name in names), f"{names}: hold runs"
        )

    await at_hold("running", "suspended-between", "stopped", "deleting")
    await lab.reason("pending", "ClaimTerminating")
    await lab.reason("claim-missing", "ClaimNotFound")
    await lab.until(lambda: lab.job("waiting", "imageless").get("reason") == "ImageUnavailable", "its image is missing")
    await lab.reason("suspended", "Suspended")
    await lab.change("suspended-between", {"suspend": True, "suspendPolicy": "Now"})
    await lab.reason("suspended-between", "Suspended")
    await lab.change("stopped", {"stop": "Now"})
    await lab.reason("invalid", "InvalidSpec")
    await lab.finished("succeeded", "failed", "stopped", "invalid-after-success", "rerunning", "behind")
    await lab.change(
        "invalid-after-success", {"rerun": {"token": "1"}, "comparison": [{"before": "quick", "after": "nothing"}]}
    )
    await lab.reason("invalid-after-success", "InvalidSpec")
    lab.kubelet.table[("rerunning", "broken")] = Gate(succeeds())
    await lab.change("rerunning", {"rerun": {"token": "1"}})
    await lab.until(lambda: lab.job("rerunning", "broken").get("state") == "Running", "it runs again")
    operator.kill()
    await lab.change("behind", {"rerun": {"token": "1"}})
    await lab.client.delete(EXPERIMENTS, "deleting", lab.namespace)
    await lab.until(
        lambda: "deletionTimestamp" in lab.experiments.store[(lab.namespace, "deleting")]["metadata"], "it is going"
    )
    await capture(
        "pending", "claim_missing", "running", "waiting", "suspended", "suspended_between", "succeeded", "failed",
        "stopped", "invalid", "invalid_after_success", "rerunning", "behind", "deleting",
    )  # fmt: skip
    await lab.client.patch(EXPERIMENTS, "deleting", {"metadata": {"finalizers": None}}, lab.namespace)
    await lab.client.patch(CLAIMS, "terminating", {"metadata": {"finalizers": None}}, lab.namespace)
    compare("SandboxExperiment", found)


async def test_the_operator_still_makes_the_hooks_that_gitops_tools_are_tested_with(
    plane: Plane, lab: Lab, operators: Operators
) -> None:
    async def apply(name: str, *finalizers: str, **spec: Any) -> None:
        meta = {"name": name, "finalizers": [*finalizers]}
        kind = {"apiVersion": HOOKS.api_version, "kind": HOOKS.kind, "metadata": meta}
        await lab.client.create(HOOKS, {**kind, "spec": {"image": "registry.example/dedup:1", **spec}}, lab.namespace)

    async def get(name: str) -> Manifest:
        return await lab.client.get(HOOKS, name, lab.namespace)

    async def seen(*names: str) -> None:
        for _ in range(400):
            if all([(await get(name)).get("status") for name in names]):
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"the operator says nothing of {names}")

    await apply("created")
    found = {"created": await get("created")}
    operator = operators(plane.operator, SANDBOX_NAMESPACES=lab.namespace)
    await apply("valid")
    await apply("invalid", schema={"type": "no such type"})
    await apply("behind")
    await apply("deleting", HOLD)
    await seen("valid", "invalid", "behind", "deleting")
    operator.kill()
    await lab.client.patch(HOOKS, "behind", {"spec": {"image": "registry.example/dedup:2"}}, lab.namespace)
    await lab.client.delete(HOOKS, "deleting", lab.namespace)
    found |= {name: await get(name) for name in ("valid", "invalid", "behind", "deleting")}
    await lab.client.patch(HOOKS, "deleting", {"metadata": {"finalizers": None}}, lab.namespace)
    compare("SandboxHook", found)


def one_by_one(**more: Any) -> Manifest:
    """Two trials, one after the other, on a claim that is there."""
    return {
        **a_sweep(maxTrials=2, parallelism=1),
        "template": template(workspace={"claimName": "volume"}, cache="Never"),
        **more,
    }


async def test_the_operator_still_makes_the_sweeps_that_gitops_tools_are_tested_with(
    plane: Plane, operators: Operators
) -> None:
    hold = Gate(measures(bowl))
    names = ("running", "suspended-between", "deleting")
    table: Table = {(trial_name(name, 1), "process"): hold for name in names}
    table[(trial_name("failed", 0), "process")] = fails("User", "ValueError", "row 17")
    async with sweep_lab(plane, table) as lab:
        await lab.make_bound_claim("volume")

        async def get(name: str) -> Manifest:
            return await lab.client.get(SWEEPS, name, lab.namespace)

        await lab.apply_sweep("created", one_by_one())
        found = {"created": await get("created")}
        operator = operators(plane.operator, SANDBOX_NAMESPACES=lab.namespace)
        for name in ("running", "suspended-between", "succeeded", "behind", "deleting"):
            await lab.apply_sweep(name, one_by_one())
        await lab.apply_sweep("suspended", one_by_one(suspend=True))
        await lab.apply_sweep("failed", one_by_one(maxFailedTrials=0))
        await lab.apply_sweep("invalid", one_by_one(metric={"name": "process.nothing"}))
        nowhere = template(workspace={"claimName": "nowhere"})
        await lab.apply_sweep("claim-missing", one_by_one(template=nowhere))
        await lab.client.patch(SWEEPS, "deleting", {"metadata": {"finalizers": [HOLD]}}, lab.namespace)

        await lab.sweep_ends("succeeded", "behind", "failed")
        for name in names:
            await lab.until(
                lambda name=name: (
                    [row["state"] for row in lab.sweep(name).get("trials") or ()] == ["Succeeded", "Running"]
                ),  # type: ignore[misc]
                f"the second trial of {name} runs",
            )
        await lab.change_sweep("suspended-between", {"suspend": True})
        await lab.sweep_reason("suspended-between", "Suspended")
        await lab.sweep_reason("suspended", "Suspended")
        await lab.sweep_reason("invalid", "InvalidSpec")
        await lab.sweep_reason("claim-missing", "ClaimNotFound")
        operator.kill()
        await lab.change_sweep("behind", {"maxTrials": 3})
        await lab.client.delete(SWEEPS, "deleting", lab.namespace)
        states = (
            "running", "suspended", "suspended_between", "succeeded", "failed", "invalid", "claim_missing", "behind",
            "deleting",
        )  # fmt: skip
        found |= {state: await get(state.replace("_", "-")) for state in states}
        await lab.client.patch(SWEEPS, "deleting", {"metadata": {"finalizers": None}}, lab.namespace)
    compare("SandboxSweep", found)


TRACKING = {"app.kubernetes.io/instance": "experiments"}
TRACKED = {"argocd.argoproj.io/tracking-id": "experiments:sandbox.datajuicer.io/SandboxExperiment:research/demo"}


def applied(plane: Plane, lab: Lab, manifest: Manifest, *options: str, manager: str = "argocd-controller") -> Manifest:
    """Server-side apply as GitOps tools do it; the resource after it."""
    command = (
        "-n",
        lab.namespace,
        "apply",
        "--server-side",
        f"--field-manager={manager}",
        "--show-managed-fields",
        "-o",
        "json",
        *options,
    )
    found: Manifest = json.loads(plane.kubectl(*command, "-f", "-", stdin=json.dumps(manifest)).stdout)
    return found


def from_git(name: str, spec: Manifest) -> Manifest:
    return {**experiment(name, spec), "metadata": {"name": name, "labels": TRACKING, "annotations": TRACKED}}


def owners(item: Manifest) -> dict[str, set[str]]:
    """The parts of a resource that each field manager has written."""
    found: dict[str, set[str]] = {}
    for entry in item["metadata"]["managedFields"]:
        found.setdefault(entry["manager"], set()).update(key.removeprefix("f:") for key in entry["fieldsV1"])
    return found


def marks_of(item: Manifest) -> set[str]:
    """Keys of its labels and annotations."""
    return {*(item["metadata"].get("labels") or {}), *(item["metadata"].get("annotations") or {})}


def assert_not_drifted(manifest: Manifest, before: Manifest, after: Manifest) -> None:
    """What was applied is there as it was, and of the operator's there is the status alone."""
    assert after["metadata"]["generation"] == before["metadata"]["generation"] == 1
    assert after["spec"] == before["spec"]
    for part in ("labels", "annotations", "finalizers", "ownerReferences"):
        assert after["metadata"].get(part) == manifest["metadata"].get(part), part
    (ours,) = set(owners(after)) - {"argocd-controller"}
    assert owners(after)[ours] == {"status"}


@pytest.mark.usefixtures("operator")
async def test_what_is_applied_again_shows_no_drift_and_children_bear_no_mark_of_who_applied_it(
    plane: Plane, lab: Lab
) -> None:
    """A claim of its own that is owned, a refined recipe, a cache: whatever the operator writes, it is never in spec."""
    manifest = from_git("demo", {**road(cache="Auto"), "workspace": {"claim": {"size": "1Gi"}, "retention": "Delete"}})
    before = applied(plane, lab, manifest)
    await lab.finished("demo")
    assert lab.status("demo")["outcome"] == "Succeeded", lab.told()
    after = applied(plane, lab, manifest)

    assert_not_drifted(manifest, before, after)
    diff = plane.kubectl(
        "-n", lab.namespace, "diff", "--server-side", "--field-manager=argocd-controller", "-f", "-",
        stdin=json.dumps(manifest), check=False,
    )  # fmt: skip
    assert (diff.returncode, diff.stdout) == (0, "")
    children = [*lab.jobs_of("demo"), *lab.pods_of("demo"), *(await lab.client.list(CLAIMS, lab.namespace)).items]
    assert len(children) >= 2 * len(road()["probeJobConfigs"]) + 1
    for child in children:
        assert not marks_of(child) & {*TRACKING, *TRACKED}, child["metadata"]["name"]
        assert child["metadata"]["ownerReferences"], "who applied the parent removes the children by it"


async def test_a_sweep_that_is_applied_again_shows_no_drift_and_its_trials_bear_no_mark_of_who_applied_it(
    plane: Plane, operators: Operators
) -> None:
    async with sweep_lab(plane) as lab:
        operators(plane.operator, SANDBOX_NAMESPACES=lab.namespace)
        metadata = {"name": "demo", "labels": TRACKING, "annotations": TRACKED}
        kind = {"apiVersion": SWEEPS.api_version, "kind": SWEEPS.kind}
        manifest = {**kind, "metadata": metadata, "spec": a_sweep(maxTrials=3, suspend=False)}
        before = applied(plane, lab, manifest)
        await lab.sweep_ends("demo")
        after = applied(plane, lab, manifest)

        assert lab.sweep("demo")["outcome"] == "Succeeded", lab.told()
        assert_not_drifted(manifest, before, after)
        for child in (*lab.trials("demo").values(), *(await lab.client.list(CLAIMS, lab.namespace)).items):
            assert not marks_of(child) & {*TRACKING, *TRACKED}, child["metadata"]["name"]


@pytest.mark.usefixtures("operator")
async def test_an_action_edits_what_git_does_not_state_and_git_wins_over_what_it_states(plane: Plane, lab: Lab) -> None:
    lab.kubelet.table |= {("a", 1): fails("User", "ValueError", "row 17"), ("a",): succeeds(), ("b",): Gate(succeeds())}
    failed, held = from_git("failed", probes("a")), from_git("held", probes("b", suspend=False))
    for manifest in (failed, held):
        applied(plane, lab, manifest)
    await lab.finished("failed")
    await lab.until(lambda: lab.job("held", "b").get("state") == "Running", "it runs")

    async def act(name: str, action: str) -> None:
        item = await lab.client.get(EXPERIMENTS, name, lab.namespace)
        assert actions(item)[action]
        await lab.client.patch(EXPERIMENTS, name, {"spec": acted(item, action)["spec"]}, lab.namespace)

    await act("failed", "retry")
    await lab.until(lambda: lab.status("failed").get("outcome") == "Succeeded", "it has run again")
    assert applied(plane, lab, failed)["spec"]["rerun"] == {"token": "1"}
    await act("held", "suspend")
    await lab.until(lambda: lab.experiments.store[(lab.namespace, "held")]["spec"]["suspend"], "it is asked to wait")
    assert applied(plane, lab, held, "--force-conflicts")["spec"]["suspend"] is False


@pytest.mark.usefixtures("operator")
async def test_kubectl_waits_for_ready(plane: Plane, lab: Lab) -> None:
    lab.kubelet.table[("bad",)] = fails("User", "ValueError", "row 17")
    gate = lab.kubelet.table[("good",)] = Gate(succeeds())
    await lab.apply("good", probes("good"))
    await lab.apply("bad", probes("bad"))
    await lab.reached(gate, "the hook runs")

    def wait(name: str, condition: str, seconds: int) -> tuple[int, str]:
        about = (f"--for=condition={condition}", f"--timeout={seconds}s", f"sbx/{name}")
        answer = plane.kubectl("-n", lab.namespace, "wait", *about, check=False)
        return answer.returncode, answer.stdout.strip()

    assert (await asyncio.to_thread(wait, "good", "Ready", 1))[0] == 1
    gate.opened.set()
    met = "sandboxexperiment.sandbox.datajuicer.io/{} condition met"
    assert await asyncio.to_thread(wait, "good", "Ready", 40) == (0, met.format("good"))
    assert await asyncio.to_thread(wait, "bad", "Stalled", 40) == (0, met.format("bad"))
    assert (await asyncio.to_thread(wait, "bad", "Ready", 1))[0] == 1
