# SPDX-License-Identifier: Apache-2.0
"""What is known of one namespace, or of all, kept up to date by informers.

Each change of an object becomes the key of its experiment; what the change was only matters for how soon it is looked
at.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from sandbox_api.hook import Hook
from sandbox_api.status import ExperimentStatus

from ..build.export import is_export_name
from ..build.names import LABEL_MANAGED, LABEL_UID, MANAGED_BY, TASKS, claim_name, helper_name, job_name
from ..kube.client import Client
from ..kube.informer import Informer, Key
from ..plan.facts import CLAIM, ClaimFact, JobFact, PodFact, WarningFact
from ..plan.sweep_trials import taken_by
from . import projections as project
from .projections import ExperimentFact, HookFact, Owned, SweepFact
from .reports import Teller
from .resources import CLAIMS, EVENTS, EXPERIMENTS, HOOKS, JOBS, PODS, SWEEPS
from .step_cache import StepCache
from .tokens import PodIdentity

OURS = f"{LABEL_MANAGED}={MANAGED_BY},{LABEL_UID}"

Wake = Callable[[Key, float], None]
"""An experiment is to be looked at, in so many seconds."""
SOON = 1.0
"""Seconds after which a change is looked at that decides nothing: a pod got a place, its hook runs, its Job is counted
as complete. Most such changes are followed by the next before that, and a status tells them once a second at most."""

PodChanged = Callable[[Owned[PodFact] | None, Owned[PodFact] | None], None]

EVENTS_IDLE_SECONDS = 330.0
"""The API server sends no bookmarks for Events, so a quiet stream lasts until its time limit of 300 s."""


class Scope:
    """The informers of one namespace, or of all of them."""

    def __init__(
        self,
        client: Client,
        namespace: str | None,
        wake: Wake,
        on_pod: PodChanged,
        wake_hook: Callable[[Key], None],
        wake_sweep: Callable[[Key], None],
    ) -> None:
        self.wake = wake
        self._on_pod = on_pod
        self._wake_hook = wake_hook
        self._wake_sweep = wake_sweep
        self._key_of: dict[str, Key] = {}
        self._users: dict[Key, set[Key]] = {}
        """Which experiments look at a claim, by the claim's key."""
        self._sweeps_on: dict[Key, set[Key]] = {}
        """The same of sweeps."""
        self.planned: dict[Key, ExperimentStatus] = {}
        """What is decided and being written down."""
        self.steps = StepCache(self._status_of)
        self.experiments: Informer[ExperimentFact] = Informer(
            client,
            EXPERIMENTS,
            namespace=namespace,
            project=project.experiment_fact,
            on_change=self._experiment_changed,
            group_by=lambda fact: fact.trial.sweep_uid if fact.trial is not None else None,
        )
        self.sweeps: Informer[SweepFact] = Informer(
            client, SWEEPS, namespace=namespace, project=project.sweep_fact,
            on_change=lambda key, _, __: wake_sweep(key),
        )  # fmt: skip
        self.jobs: Informer[Owned[JobFact]] = Informer(
            client,
            JOBS,
            namespace=namespace,
            label_selector=OURS,
            project=project.job_fact,
            on_change=self._job_changed,
            group_by=lambda owned: owned.experiment,
        )
        self.pods: Informer[Owned[PodFact]] = Informer(
            client,
            PODS,
            namespace=namespace,
            label_selector=OURS,
            project=project.pod_fact,
            on_change=self._pod_changed,
            group_by=lambda owned: owned.experiment,
        )
        self.claims: Informer[ClaimFact] = Informer(
            client, CLAIMS, namespace=namespace, project=project.claim_fact, on_change=self._claim_changed
        )
        self.hooks: Informer[HookFact] = Informer(
            client, HOOKS, namespace=namespace, project=project.hook_fact, on_change=self._hook_changed,
            group_by=lambda fact: fact.namespace,
        )  # fmt: skip
        self.warnings: Informer[WarningFact] = Informer(
            client,
            EVENTS,
            namespace=namespace,
            field_selector="type=Warning",
            project=project.warning_fact,
            on_change=self._warning_changed,
            group_by=lambda warning: (warning.namespace, warning.kind, warning.name),
            idle_seconds=EVENTS_IDLE_SECONDS,
        )

    @property
    def informers(self) -> tuple[Informer[Any], ...]:
        return self.experiments, self.sweeps, self.hooks, self.jobs, self.pods, self.claims, self.warnings

    def children(self, fact: ExperimentFact, taken: Collection[str]) -> tuple[tuple[JobFact, ...], tuple[PodFact, ...]]:
        """Jobs and pods of an experiment, but not those of Jobs in our name that we have not made, nor its exporters
        (`exporters`).

        `taken`: names that we were refused because another Job has them.
        """
        every = [owned.fact for owned in self.jobs.group(fact.uid)]
        strangers = {job.uid for job in every if job.name in taken or not _is_made_for(fact, job)}
        jobs = tuple(job for job in every if job.uid not in strangers)
        pods = tuple(
            owned.fact
            for owned in self.pods.group(fact.uid)
            if owned.fact.job_uid not in strangers and not is_export_name(owned.fact.job_name, fact.name, fact.uid)
        )
        return jobs, pods

    def exporters(self, fact: ExperimentFact) -> tuple[tuple[JobFact, ...], tuple[PodFact, ...]]:
        """Jobs that export an experiment, and their pods, also those whose Job has gone."""
        jobs = (owned.fact for owned in self.jobs.group(fact.uid))
        pods = (owned.fact for owned in self.pods.group(fact.uid))
        return (
            tuple(job for job in jobs if job.owner_uid == fact.uid and is_export_name(job.name, fact.name, fact.uid)),
            tuple(pod for pod in pods if is_export_name(pod.job_name, fact.name, fact.uid)),
        )

    def warnings_about(
        self, fact: ExperimentFact, jobs: Iterable[JobFact], pods: Iterable[PodFact]
    ) -> tuple[WarningFact, ...]:
        """Warnings about Jobs and pods of an experiment, and about its claims; newest last."""
        names = [("Job", job.name) for job in jobs] + [("Pod", pod.name) for pod in pods]
        warnings = [warning for name in names for warning in self.warnings.group((fact.namespace, *name))]
        warnings += self._warnings_of_claims(fact)
        return tuple(sorted(warnings, key=lambda warning: warning.time))

    def teller(self, pod: PodIdentity) -> Teller | None:
        """Who a pod is that lives and works at an attempt, made for an experiment by us; None for all others."""
        owned = self.pods.store.get((pod.namespace, pod.name))
        if owned is None or owned.fact.uid != pod.uid or owned.fact.is_over:
            return None
        job = self.jobs.store.get((pod.namespace, owned.fact.job_name))
        key = self._key_of.get(owned.experiment)
        fact = self.experiments.store.get(key) if key is not None else None
        if key is None or fact is None or job is None or owned.fact.job_uid != job.fact.uid:
            return None
        if fact.uid != owned.experiment or key[0] != pod.namespace or not _is_made_for(fact, job.fact):
            return None
        rungs = project.rungs_of_job(fact, job.fact.job_id)
        return Teller(key, fact.uid, job.fact.job_id, job.fact.attempt, pod.uid, rungs)

    def _warnings_of_claims(self, fact: ExperimentFact) -> Iterator[WarningFact]:
        return (warning for key in claim_keys(fact) for warning in self.warnings_of_claim(key))

    def warnings_of_claim(self, key: Key) -> Iterator[WarningFact]:
        """Why one that has no volume yet gets none; what is said of claims that are bound is over."""
        claim = self.claims.store.get(key)
        if claim is not None and claim.phase == "Pending":
            for warning in self.warnings.group((key[0], CLAIM, key[1])):
                if warning.uid == claim.uid:
                    yield warning

    def look_at(self, key: Key) -> ExperimentFact | None:
        """An experiment as it is known, whose children wake it from now on: it may have been put in unheard."""
        fact = self.experiments.store.get(key)
        if fact is not None:
            self._key_of[fact.uid] = key
        return fact

    def claims_of(self, fact: ExperimentFact) -> Mapping[str, ClaimFact]:
        """The claim an experiment works on, by name, if it is there.

        The experiment is woken when it changes, or one that it reads from.
        """
        for key in claim_keys(fact):
            self._users.setdefault(key, set()).add((fact.namespace, fact.name))
        key = claim_key(fact)
        claim = self.claims.store.get(key)
        return {claim.name: claim} if claim is not None else {}

    def claim_of_sweep(self, sweep: Key, claim: Key) -> Mapping[str, ClaimFact]:
        """The claim that a sweep's trials work on, by name, if it is there; the sweep is woken when it changes."""
        self._sweeps_on.setdefault(claim, set()).add(sweep)
        found = self.claims.store.get(claim)
        return {found.name: found} if found is not None else {}

    def taken_on(self, claim: Key) -> frozenset[str]:
        """Paths of results on a claim that another experiment than the one that made them has taken: as it stands, and
        as it is being written down."""
        found: set[str] = set()
        for key, fact in self.experiments.store.items():
            if key[0] == claim[0] and claim_key(fact) == claim:
                for status in filter(None, (fact.status, self.planned.get(key))):
                    found.update(taken_by(fact.name, fact.uid, status))
        return frozenset(found)

    def put_experiment(self, key: Key, fact: ExperimentFact) -> None:
        """Take in an experiment as we have just written or read it: its echo calls nobody."""
        old = self.experiments.store.get(key)
        self.experiments.expect(key, fact, fact.resource_version)
        if (new := self.experiments.store.get(key)) != old:
            self._tell_sweep(old, new)

    def _tell_sweep(self, old: ExperimentFact | None, new: ExperimentFact | None) -> None:
        """Wake the sweep whose trial has begun, ended, or gone; or been told something."""
        if (old and _as_a_trial(old)) != (new and _as_a_trial(new)):
            for fact in (old, new):
                if fact is not None and fact.trial is not None:
                    self._wake_sweep((fact.namespace, fact.trial.sweep))

    def _experiment_changed(self, key: Key, old: ExperimentFact | None, new: ExperimentFact | None) -> None:
        self._tell_sweep(old, new)
        if old is not None and (new is None or new.uid != old.uid):
            self._key_of.pop(old.uid, None)
            for claim in claim_keys(old):
                self._users.get(claim, set()).discard(key)
        if new is not None:
            self._key_of[new.uid] = key
            waiting = self.steps.update(key, claim_key(new), new.status)
        else:
            waiting = self.steps.remove(key)
        for other in (key, *waiting):
            self.wake(other, 0)

    def _status_of(self, key: Key) -> ExperimentStatus | None:
        fact = self.experiments.store.get(key)
        return self.planned.get(key) or (fact.status if fact is not None else None)

    def hooks_of(self, namespace: str) -> dict[str, Hook | tuple[str, ...]]:
        """The namespace's own hooks by name; of those that can't be used, what is wrong with them."""
        return {fact.name: fact.hook or fact.problems for fact in self.hooks.group(namespace)}

    def _hook_changed(self, key: Key, old: HookFact | None, new: HookFact | None) -> None:
        self._wake_hook(key)
        if (old and (old.hook, old.problems)) != (new and (new.hook, new.problems)):
            for (namespace, name), fact in self.experiments.store.items():
                if namespace == key[0] and not fact.is_settled:
                    self.wake((namespace, name), 0)
            for sweep in self.sweeps.store:
                if sweep[0] == key[0]:
                    self._wake_sweep(sweep)

    def _job_changed(self, _: Key, old: Owned[JobFact] | None, new: Owned[JobFact] | None) -> None:
        failed = new is not None and new.fact.failed and not (old is not None and old.fact.failed)
        self._child_changed(old, new, decides=new is None or bool(failed))

    def _pod_changed(self, _: Key, old: Owned[PodFact] | None, new: Owned[PodFact] | None) -> None:
        self._on_pod(old, new)
        ended = new is not None and new.fact.is_over and not (old is not None and old.fact.is_over)
        self._child_changed(old, new, decides=new is None or ended)

    def _child_changed(self, old: Owned[Any] | None, new: Owned[Any] | None, *, decides: bool) -> None:
        self._wake_uid((new or old).experiment, 0 if decides else SOON)  # type: ignore[union-attr]  # one is there

    def _claim_changed(self, key: Key, *_: ClaimFact | None) -> None:
        for user in self._users.pop(key, ()):
            self.wake(user, 0)
        for sweep in self._sweeps_on.pop(key, ()):
            self._wake_sweep(sweep)

    def _warning_changed(self, key: Key, _: WarningFact | None, new: WarningFact | None) -> None:
        if new is None:
            return
        if new.kind == CLAIM:
            for user in self._users.get((new.namespace, new.name), ()):
                self.wake(user, SOON)
            return
        store: Mapping[Key, Owned[Any]] = (self.jobs if new.kind == "Job" else self.pods).store
        if (about := store.get((key[0], new.name))) is not None:
            self._wake_uid(about.experiment, SOON)

    def _wake_uid(self, uid: str, seconds: float) -> None:
        if (key := self._key_of.get(uid)) is not None:
            self.wake(key, seconds)


def _as_a_trial(fact: ExperimentFact) -> object:
    """What its sweep would do something about."""
    return fact.uid, fact.trial, fact.is_settled, fact.is_refused, fact.outcome


def _is_made_for(fact: ExperimentFact, job: JobFact) -> bool:
    """Whether a Job with our label is what its name says: an attempt of ours, or what reads or checks for it."""
    attempts = {job_name(fact.name, fact.uid, job.job_id, job.attempt, indexed=indexed) for indexed in (False, True)}
    names = {helper_name(attempt, task) for attempt in attempts for task in TASKS}
    return job.owner_uid == fact.uid and job.name in names


def claim_key(fact: ExperimentFact) -> Key:
    """Namespace and name of the claim that an experiment works on."""
    workspace = fact.spec.get("workspace")
    named = workspace.get("claimName") if isinstance(workspace, Mapping) else None
    return fact.namespace, str(named or claim_name(fact.name))


def claim_keys(fact: ExperimentFact) -> set[Key]:
    """That one, and those that it reads from."""
    inputs = fact.spec.get("inputs")
    entries = [entry for entry in inputs if isinstance(entry, Mapping)] if isinstance(inputs, list) else []
    read = {(fact.namespace, str(entry["claimName"])) for entry in entries if entry.get("claimName")}
    return {claim_key(fact), *read}
