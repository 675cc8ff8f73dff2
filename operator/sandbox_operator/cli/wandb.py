# SPDX-License-Identifier: Apache-2.0
"""`sandboxctl wandb sync`: export an experiment once more, by the same exporter; what is in the run already stays."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from sandbox_api.experiment import ExperimentSpec
from sandbox_api.export import API_KEY_ENV, BASE_URL_ENV, EXPORT_COMMAND, EXPORT_ENV, ExportContract, encode_export
from sandbox_api.sentences import schema_problems
from sandbox_api.status import ExperimentStatus
from sandbox_api.tracking import SecretKey

from ..build.defaults import Defaults
from ..build.export import SYNC, ExportRequest, export_job, is_export_name
from ..kube.client import Client
from ..kube.errors import NotFound
from ..kube.resources import Resource
from ..plan.compile import compile_spec
from ..plan.tracking import export_request, image_of
from .command import Name, Namespace, fail, say, with_cluster
from .experiments import EXPERIMENTS, Ended
from .local_folder import LocalFolder, read_run
from .pod_words import PODS, words_of

JOBS = Resource("batch", "v1", "jobs", "Job")
JOB_OF_POD = "batch.kubernetes.io/job-name"
LOOK_SECONDS = 1.0

app = typer.Typer(no_args_is_help=True, help="Export to Weights & Biases.")


@app.callback()
def _group() -> None:
    """Export to Weights & Biases."""


@app.command()
def sync(
    context: typer.Context,
    name: Name,
    secret: Annotated[
        str | None, typer.Option(metavar="NAME/KEY", help="Secret with the key. Default: spec.tracking.wandb's.")
    ] = None,
    image: Annotated[str | None, typer.Option(help="The exporter's image. Default: the experiment's.")] = None,
    folder: Annotated[
        Path | None, typer.Option("--folder", "-f", help="Folder of a run with `run --local`, in place of a cluster.")
    ] = None,
    timeout: Annotated[
        int, typer.Option(min=1, help="Seconds that the exporter may take; what it has sent by then is in the run.")
    ] = 1800,
    namespace: Namespace = None,
) -> None:
    """Tell Weights & Biases what it lacks of an experiment, and print the run's address; twice is as good as once.

    On a cluster a Job with the exporter's image does it, and is removed.
    """
    try:
        given = _secret(secret)
        if folder is not None:
            raise typer.Exit(_sync_folder(folder, name))
    except Ended as error:
        fail(str(error))

    async def run(client: Client, where: str) -> str:
        return await _sync(client, where, name, given, image, timeout)

    address, _ = with_cluster(context, namespace, run)
    say(f"{name}: {address or 'all of it is in the run'}", style="green")


def contract_for(
    name: str, namespace: str, uid: str, spec: ExperimentSpec, status: ExperimentStatus, image: str = ""
) -> ExportRequest:
    """The request for one export of an experiment as it stands. Raises Ended where there is nothing to export yet.

    One that goes on is exported so far, and its run stays unfinished.
    """
    if status.start_time is None or status.workspace is None:
        raise Ended(f"{name} has not started yet; there is nothing to export")
    request = export_request(name, namespace, uid, spec, status, status.workspace.claim_name, image)
    return replace(request, contract=request.contract.model_copy(update={"mode": "online"}))


async def _sync(client: Client, where: str, name: str, given: SecretKey | None, image: str | None, seconds: int) -> str:
    item = await client.get(EXPERIMENTS, name, where)
    spec, status = _read(name, item.get("spec") or {}), ExperimentStatus.model_validate(item.get("status") or {})
    if status.completion_time is None:
        raise Ended(f"{name} has not ended yet; its exporter, where spec.tracking asks for one, follows it")
    uid = item["metadata"]["uid"]
    found = image or image_of(status, spec, Defaults())
    if not found:
        raise Ended(f"{name} was begun without an exporter; name its image with --image")
    request = contract_for(name, where, uid, spec, status, found)
    key = given or request.api_key
    if key is None:
        raise Ended(f"{name}: spec.tracking.wandb.apiKeySecretRef names no key; give one with --secret NAME/KEY")
    # The Job has a limit too: one whose command was killed outright stays in nobody's way for ever.
    request = replace(request, api_key=key, suffix=SYNC, deadline=seconds + 60)
    for job in (await client.list(JOBS, where, label_selector=f"sandbox.datajuicer.io/experiment-uid={uid}")).items:
        done = {c["type"] for c in (job.get("status") or {}).get("conditions") or () if c["status"] == "True"}
        if is_export_name(job["metadata"]["name"], name, uid) and not done & {"Complete", "Failed"}:
            raise Ended(f"{name}: its exporter {job['metadata']['name']} is at work; wait for it, or delete it")
    await _gone(client, where, request.name, seconds)
    await client.create(JOBS, export_job(request, Defaults()), where)
    try:
        return await _wait(client, where, request.name, seconds)
    finally:  # after Ctrl-C too
        await client.delete(JOBS, request.name, where)


async def _gone(client: Client, where: str, job: str, seconds: int) -> None:
    """Wait until a Job of an earlier time has gone, and its pods."""
    for _ in range(int(seconds / LOOK_SECONDS) + 1):
        if not await client.delete(JOBS, job, where) and not await _pods(client, where, job):
            return
        await asyncio.sleep(LOOK_SECONDS)
    raise Ended(f"pods of an earlier {job} have not gone in {seconds} s; kubectl get pods -l {JOB_OF_POD}={job}")


async def _wait(client: Client, where: str, job: str, seconds: int) -> str:
    """Until the Job is over; the run's address. Raises Ended with what its pod said."""
    told = ""
    for _ in range(int(seconds / LOOK_SECONDS) + 1):
        try:
            found = await client.get(JOBS, job, where)
        except NotFound:
            raise Ended(f"the Job {job} was deleted") from None
        pods = await _pods(client, where, job)
        conditions = {
            c["type"]: c for c in (found.get("status") or {}).get("conditions") or () if c["status"] == "True"
        }
        words = [text for pod in pods if (text := _said(pod))]
        if "Complete" in conditions:
            return words[-1].strip() if words else ""
        if "Failed" in conditions:
            raise Ended(f"the exporter has failed: {words[-1] if words else conditions['Failed'].get('message', '')}")
        if words and words[-1] != told:
            told = words[-1]
            if told.startswith("refused"):
                raise Ended(told)
            say(told, error=True)
        await asyncio.sleep(LOOK_SECONDS)
    raise Ended(f"the exporter {job} has not ended in {seconds} s{f': {told}' if told else ''}")


async def _pods(client: Client, where: str, job: str) -> list[dict[str, Any]]:
    return list((await client.list(PODS, where, label_selector=f"{JOB_OF_POD}={job}")).items)


def _said(pod: Mapping[str, Any]) -> str:
    """How a pod has ended, or what keeps it from its beginning."""
    if (pod.get("status") or {}).get("phase") == "Pending":
        return f"the pod {pod['metadata']['name']} has not begun: {words_of(pod)}"
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    ended = [status["state"]["terminated"] for status in statuses if (status.get("state") or {}).get("terminated")]
    return str(ended[0].get("message", "")) if ended else ""


def _secret(text: str | None) -> SecretKey | None:
    if text is None:
        return None
    name, _, key = text.partition("/")
    if not name or not key:
        raise Ended(f"--secret: write NAME/KEY, not {text!r}")
    try:
        return SecretKey(name=name, key=key)
    except ValidationError as error:
        problems = "; ".join(problem.removeprefix(".") for problem in schema_problems(error, SecretKey, ""))
        raise Ended(f"--secret: write NAME/KEY; {problems}") from None


def _read(name: str, spec: Mapping[str, Any]) -> ExperimentSpec:
    found = compile_spec(spec, {}).spec
    if found is None:
        raise Ended(f"{name}: its spec can't be read; sandboxctl plan says why")
    return found


def _sync_folder(folder: Path, name: str) -> int:
    """Run the exporter here, on a local run's folder; its exit code."""
    stored, status = read_run(folder, name)
    spec = _read(name, stored.spec)
    contract: ExportContract = contract_for(name, stored.namespace, stored.uid, spec, status).contract
    if contract.ending is None:
        raise Ended(f"{name} has not ended yet; go on with `run --local --resume`")
    if importlib.util.find_spec("wandb") is None:
        raise Ended("--folder: exports with wandb, which is not installed here; install sandbox-operator[cli,tracking]")
    if API_KEY_ENV not in os.environ:
        raise Ended(f"{API_KEY_ENV}: is not set; it must hold the key")
    wandb = spec.tracking.wandb if spec.tracking is not None else None
    address = {BASE_URL_ENV: wandb.base_url} if wandb is not None and wandb.base_url else {}
    environ = {
        **os.environ,
        **address,
        EXPORT_ENV: encode_export(contract),
        "SANDBOX_WORKSPACE": str(LocalFolder(folder).workspace),
        "SANDBOX_TERMINATION_MESSAGE": os.devnull,
    }
    command = [sys.executable, "-m", "sandbox_runtime.main", EXPORT_COMMAND[1]]
    return subprocess.run(command, env=environ, check=False).returncode
