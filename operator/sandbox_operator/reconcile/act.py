# SPDX-License-Identifier: Apache-2.0
"""Carries out what a plan asks for, and remembers what the API server refused, so that the next plan can say it."""

from __future__ import annotations

import logging
from typing import Any

from sandbox_api.status import Reason

from ..build.names import LABEL_UID
from ..kube.client import Client
from ..kube.errors import AlreadyExists, ApiError, Forbidden, Invalid, NotFound
from ..kube.informer import Key
from ..plan.actions import Action, CreateClaim, CreateJob, DeleteFinishedJobs, DeleteJob, PatchClaim
from ..plan.facts import Refusal, Snapshot
from . import projections as project
from .cache import Cache
from .resources import CLAIMS, CONFIG_MAPS, JOBS

log = logging.getLogger(__name__)


class Refused(Exception):
    """The API server will not have an object; the refusal is remembered and planned with."""


class Actor:
    def __init__(self, client: Client, cache: Cache) -> None:
        self._client = client
        self._cache = cache

    async def act(self, snapshot: Snapshot, action: Action) -> None:
        """Do one action. Raises Refused after remembering why, ApiError when it is worth trying again."""
        key = (snapshot.namespace, snapshot.name)
        match action:
            case CreateClaim():
                await self._create_claim(key, action.manifest)
            case PatchClaim():
                await self._patch_claim(key, action)
            case CreateJob():
                await self._create_job(key, snapshot, action)
            case DeleteJob():
                await self._client.delete(JOBS, action.name, snapshot.namespace)
            case DeleteFinishedJobs():
                await self._client.delete_collection(
                    JOBS, snapshot.namespace, label_selector=f"{LABEL_UID}={snapshot.uid}"
                )

    async def _create_claim(self, key: Key, manifest: dict[str, Any]) -> None:
        name = manifest["metadata"]["name"]
        try:
            made = await self._client.create(CLAIMS, manifest, key[0], repeatable=True)
        except AlreadyExists:
            made = await self._client.get(CLAIMS, name, key[0])
        except (Invalid, Forbidden) as error:
            raise self._refused(key, name, error, f"the claim {name} was refused: {error.message}") from error
        self._made(key, name)
        version = made["metadata"]["resourceVersion"]
        self._cache.scope(key).claims.expect((key[0], name), project.claim_fact(made), version)

    async def _patch_claim(self, key: Key, action: PatchClaim) -> None:
        try:
            made = await self._client.patch(CLAIMS, action.name, action.patch, key[0])
        except NotFound:
            return
        version = made["metadata"]["resourceVersion"]
        self._cache.scope(key).claims.expect((key[0], action.name), project.claim_fact(made), version)

    async def _create_job(self, key: Key, snapshot: Snapshot, action: CreateJob) -> None:
        name = action.manifest["metadata"]["name"]
        try:
            if action.config_map is not None:
                await self._create_config_map(key, action.config_map)
            made = await self._client.create(JOBS, action.manifest, key[0], repeatable=True)
        except AlreadyExists:
            made = await self._client.get(JOBS, name, key[0])
            self._check_ours(key, snapshot, action, project.job_fact(made))
        except (Invalid, Forbidden) as error:
            raise self._refused(key, name, error, f"the Job {name} was refused: {error.message}") from error
        self._made(key, name)
        version = made["metadata"]["resourceVersion"]
        self._cache.scope(key).jobs.expect((key[0], name), project.job_fact(made), version)

    async def _create_config_map(self, key: Key, manifest: dict[str, Any]) -> None:
        try:
            await self._client.create(CONFIG_MAPS, manifest, key[0], repeatable=True)
        except AlreadyExists:
            log.debug("the contract %s is there already", manifest["metadata"]["name"])

    def _check_ours(self, key: Key, snapshot: Snapshot, action: CreateJob, found: project.Owned[Any]) -> None:
        """A Job of that name exists: it is ours only if all of its identity is."""
        wanted = project.job_fact({**action.manifest, "metadata": {**action.manifest["metadata"], "uid": ""}}).fact
        mine = (snapshot.uid, wanted.job_id, wanted.attempt, action.contract)
        job = found.fact
        if (job.owner_uid, job.job_id, job.attempt, job.contract) != mine:
            message = (
                f"a Job {job.name} that is not this experiment's stands in the way; delete it, then apply the"
                " experiment under a new name"
            )
            self._remember(key, job.name, Refusal(Reason.NAME_TAKEN, message, final=True))
            raise Refused(message)

    def _refused(self, key: Key, name: str, error: ApiError, message: str) -> Refused:
        # Forbidden passes when a quota is raised or a policy changed; what is invalid stays invalid.
        quota = "exceeded quota" in error.message or "failed quota" in error.message
        reason = Reason.CONFIG_ERROR if isinstance(error, Invalid) else (
            Reason.QUOTA_EXCEEDED if quota else Reason.POD_REFUSED
        )  # fmt: skip
        self._remember(key, name, Refusal(reason, message, final=isinstance(error, Invalid)))
        return Refused(message)

    def _remember(self, key: Key, name: str, refusal: Refusal) -> None:
        self._cache.refusals.setdefault(key, {})[name] = refusal

    def _made(self, key: Key, name: str) -> None:
        refusals = self._cache.refusals.get(key)
        if refusals is not None and refusals.pop(name, None) is not None and not refusals:
            del self._cache.refusals[key]
