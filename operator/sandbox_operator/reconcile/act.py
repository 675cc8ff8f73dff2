# SPDX-License-Identifier: Apache-2.0
"""Carries out what a plan asks for, and remembers what the API server refused, so that the next plan can say it."""

from __future__ import annotations

import logging
from typing import Any

from sandbox_api.contract import contract_digest, decode_contract
from sandbox_api.status import Reason

from ..build.export import EXPORT
from ..build.job import CONTRACT_KEY
from ..build.names import LABEL_TASK, LABEL_UID
from ..kube.client import Client
from ..kube.errors import AlreadyExists, ApiError, NotFound
from ..plan.actions import Action, CreateClaim, CreateJob, DeleteFinishedJobs, DeleteJob, PatchClaim
from ..plan.facts import JobFact, Refusal, Snapshot
from ..plan.sweep_facts import CreateRemoval, CreateTrial, PatchTrial, SweepAction, SweepSnapshot
from . import projections as project
from .cache import Cache
from .resources import CLAIMS, CONFIG_MAPS, EXPERIMENTS, JOBS, SERVICES

log = logging.getLogger(__name__)

_WRONG = (400, 422)
"""The object itself is wrong, and stays so: a field that can't be read, a value that is not valid."""
_FORBIDDEN = 403
"""A quota or a policy is in the way, which may change."""


Subject = Snapshot | SweepSnapshot
"""For whom something is done."""


class Refused(Exception):
    """The API server will not have an object, or another one is in its place; the next plan knows."""


class Actor:
    def __init__(self, client: Client, cache: Cache) -> None:
        self._client = client
        self._cache = cache

    async def act(self, snapshot: Snapshot, action: Action) -> None:
        """Do one action. Raises Refused after remembering why, ApiError when it is worth trying again."""
        match action:
            case CreateClaim():
                await self._create_claim(snapshot, action.manifest)
            case PatchClaim():
                await self._patch_claim(snapshot, action)
            case CreateJob():
                await self._create_job(snapshot, action)
            case DeleteJob():
                await self._client.delete(JOBS, action.name, snapshot.namespace)
            case DeleteFinishedJobs():
                await self._client.delete_collection(
                    JOBS, snapshot.namespace, label_selector=f"{LABEL_UID}={snapshot.uid},{LABEL_TASK}!={EXPORT}"
                )

    async def act_for_sweep(self, snapshot: SweepSnapshot, action: SweepAction) -> None:
        """Do one action of a sweep, but for decisions on trials. Raises as `act` does."""
        match action:
            case CreateClaim():
                await self._create_claim(snapshot, action.manifest)
            case PatchClaim():
                await self._patch_claim(snapshot, action)
            case CreateTrial():
                await self._create_trial(snapshot, action.manifest)
            case PatchTrial():
                await self._patch_trial(snapshot, action)
            case CreateRemoval():
                await self._create_removal(snapshot, action.manifest)

    async def _create_claim(self, snapshot: Subject, manifest: dict[str, Any]) -> None:
        name = manifest["metadata"]["name"]
        try:
            made = await self._client.create(CLAIMS, manifest, snapshot.namespace, repeatable=True)
        except AlreadyExists:
            self._claim_is(snapshot, await self._client.get(CLAIMS, name, snapshot.namespace))
            raise Refused(f"a claim {name} is there already; whose it is decides the next look") from None
        except ApiError as error:
            self._raise_refused(snapshot, "claim", name, error)
            raise
        self._claim_is(snapshot, made)

    async def _patch_claim(self, snapshot: Subject, action: PatchClaim) -> None:
        try:
            made = await self._client.patch(CLAIMS, action.name, action.patch, snapshot.namespace)
        except NotFound:
            return
        self._claim_is(snapshot, made)

    def _claim_is(self, snapshot: Subject, claim: dict[str, Any]) -> None:
        key = (snapshot.namespace, claim["metadata"]["name"])
        self._cache.refusals.made(snapshot, key[1])
        self._cache.scope(key).claims.expect(key, project.claim_fact(claim), claim["metadata"]["resourceVersion"])

    async def _create_trial(self, snapshot: SweepSnapshot, manifest: dict[str, Any]) -> None:
        name = manifest["metadata"]["name"]
        try:
            made = await self._client.create(EXPERIMENTS, manifest, snapshot.namespace, repeatable=True, strict=True)
        except AlreadyExists:
            found = await self._client.get(EXPERIMENTS, name, snapshot.namespace)
            self._trial_is(snapshot, found)
            if project.experiment_fact(found).trial != project.experiment_fact(unwritten(manifest)).trial:
                # Suggestions after this one have to see it as it is.
                raise Refused(f"an experiment {name} is there already; what it is decides the next look") from None
            return
        except ApiError as error:
            self._raise_refused(snapshot, "experiment", name, error)
            raise
        self._cache.refusals.made(snapshot, name)
        self._trial_is(snapshot, made)

    async def _patch_trial(self, snapshot: SweepSnapshot, action: PatchTrial) -> None:
        try:
            made = await self._client.patch(EXPERIMENTS, action.name, {"spec": action.spec}, snapshot.namespace)
        except NotFound:
            return
        self._trial_is(snapshot, made)

    def _trial_is(self, snapshot: SweepSnapshot, experiment: dict[str, Any]) -> None:
        """Take it in, and have it looked at: the echo of what we know calls nobody."""
        key = (snapshot.namespace, experiment["metadata"]["name"])
        scope = self._cache.scope(key)
        scope.put_experiment(key, project.experiment_fact(experiment))
        scope.wake(key, 0)

    async def _create_removal(self, snapshot: SweepSnapshot, manifest: dict[str, Any]) -> None:
        name = manifest["metadata"]["name"]
        try:
            await self._client.create(JOBS, manifest, snapshot.namespace, repeatable=True, strict=True)
        except AlreadyExists:
            return
        except ApiError as error:
            self._raise_refused(snapshot, "Job", name, error)
            raise
        self._cache.refusals.made(snapshot, name)
        log.info("%s removes large files", name)

    async def _create_job(self, snapshot: Snapshot, action: CreateJob) -> None:
        name = action.manifest["metadata"]["name"]
        try:
            if action.config_map is not None:
                await self._create_config_map(snapshot, action)
            if action.service is not None:
                await self._create_service(snapshot, action.service, name)
            made = await self._client.create(
                JOBS, action.manifest, snapshot.namespace, repeatable=True, strict=True, metadata_only=True
            )
        except AlreadyExists:
            found = await self._client.get(JOBS, name, snapshot.namespace)
            self._check_job(snapshot, action, project.job_fact(found).fact)
            return  # its watch tells of it, and wakes the experiment for what has happened to it meanwhile
        except ApiError as error:
            self._raise_refused(snapshot, "Job", name, error)
            raise
        self._cache.refusals.made(snapshot, name)
        key = (snapshot.namespace, name)
        self._cache.scope(key).jobs.expect(key, project.job_fact(made), made["metadata"]["resourceVersion"])

    async def _create_config_map(self, snapshot: Snapshot, action: CreateJob) -> None:
        assert action.config_map is not None
        try:
            await self._client.create(CONFIG_MAPS, action.config_map, snapshot.namespace, repeatable=True)
        except AlreadyExists:
            name = action.config_map["metadata"]["name"]
            found = await self._client.get(CONFIG_MAPS, name, snapshot.namespace)
            try:
                told = contract_digest(decode_contract((found.get("data") or {})[CONTRACT_KEY]))
            except (KeyError, ValueError, OSError, EOFError):
                told = None
            if told != action.contract:
                raise self._taken(snapshot, "ConfigMap", name) from None

    async def _create_service(self, snapshot: Snapshot, manifest: dict[str, Any], job: str) -> None:
        """For a Job, which has to wait where another's stands in its place. One serves all Jobs: mostly it is there."""
        name = manifest["metadata"]["name"]
        try:
            await self._client.create(SERVICES, manifest, snapshot.namespace, repeatable=True)
        except AlreadyExists:
            found = await self._client.get(SERVICES, name, snapshot.namespace)
            if snapshot.uid not in {owner["uid"] for owner in found["metadata"].get("ownerReferences") or ()}:
                raise self._taken(snapshot, "Service", name, job) from None

    def _check_job(self, snapshot: Snapshot, action: CreateJob, found: JobFact) -> None:
        """A Job of that name exists: it is ours only if all of its identity is."""
        wanted = project.job_fact({**action.manifest, "metadata": {**action.manifest["metadata"], "uid": ""}}).fact
        mine = (snapshot.uid, wanted.job_id, wanted.attempt, action.contract)
        if (found.owner_uid, found.job_id, found.attempt, found.contract) != mine:
            raise self._taken(snapshot, "Job", found.name)

    def _taken(self, snapshot: Snapshot, kind: str, name: str, job: str | None = None) -> Refused:
        message = (
            f"a {kind} {name} that is not this experiment's stands in the way; delete it, then apply the experiment"
            " under a new name"
        )
        self._cache.refusals.refused(snapshot, job or name, Refusal(Reason.NAME_TAKEN, message, final=True))
        return Refused(message)

    def _raise_refused(self, snapshot: Subject, kind: str, name: str, error: ApiError) -> None:
        """Remember a refusal and raise Refused; any other error is the caller's, to be tried again."""
        quota = "exceeded quota" in error.message or "failed quota" in error.message
        if error.status in _WRONG:
            reason = Reason.CONFIG_ERROR
        elif error.status == _FORBIDDEN:
            reason = Reason.QUOTA_EXCEEDED if quota else Reason.POD_REFUSED
        else:
            return
        message = f"the {kind} {name} was refused: {error.message}"
        self._cache.refusals.refused(snapshot, name, Refusal(reason, message, final=error.status in _WRONG))
        raise Refused(message) from error


def unwritten(manifest: dict[str, Any]) -> dict[str, Any]:
    """An object that is not stored yet, with what only the API server gives."""
    return {**manifest, "metadata": {"uid": "", "generation": 0, "resourceVersion": "0", **manifest["metadata"]}}
