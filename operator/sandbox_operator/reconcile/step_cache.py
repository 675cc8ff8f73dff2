# SPDX-License-Identifier: Apache-2.0
"""The index behind the step cache: which results lie on which claim, and which are being made there.

It is made anew from the statuses of the experiments by whoever starts; nothing else is stored. It holds names only: ten
thousand experiments have forty thousand results, each of which stands in its experiment's status already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from sandbox_api.status import DONE_STATES, ExperimentStatus, Reason

from ..kube.informer import Key
from ..plan.facts import CacheEntry
from ..plan.rerun import makes_a_result

V = TypeVar("V")


@dataclass
class _Claim:
    """What is known of one claim."""

    done: dict[str, dict[Key, str]] = field(default_factory=dict)
    """By cache key: whose result it is, and of which job."""
    running: dict[str, dict[Key, None]] = field(default_factory=dict)
    """By cache key: who works at it."""
    at_work: set[Key] = field(default_factory=set)
    """Experiments that have not ended."""
    waiting: set[Key] = field(default_factory=set)
    """Experiments with a job that waits for an equal one."""
    users: set[Key] = field(default_factory=set)
    """All experiments on the claim, those that have ended included."""


@dataclass
class _Share:
    """What one experiment has put into its claim's index."""

    claim: Key
    done: list[str]
    running: list[str]


StatusOf = Callable[[Key], ExperimentStatus | None]


class StepCache:
    """`status_of` gives the status of an experiment as it stands, None when it has gone."""

    def __init__(self, status_of: StatusOf) -> None:
        self._status_of = status_of
        self._claims: dict[Key, _Claim] = {}
        self._shares: dict[Key, _Share] = {}

    def update(self, key: Key, claim: Key, status: ExperimentStatus) -> list[Key]:
        """Take in an experiment's status; gives the experiments that wait for something that has ended by it."""
        known = self._shares.get(key)
        if known is not None and known.claim != claim:  # deleted and applied again, and nobody told
            return [*self.remove(key), *self.update(key, claim, status)]
        before = self._take_out(key)
        index = self._claims.setdefault(claim, _Claim())
        share = self._shares[key] = _Share(claim, [], [])
        index.users.add(key)
        for job in status.jobs:
            if job.result is not None and job.result.cache_key and job.state in DONE_STATES and not job.result.removed:
                index.done.setdefault(job.result.cache_key, {})[key] = job.id
                share.done.append(job.result.cache_key)
            elif job.cache_key and makes_a_result(job):
                index.running.setdefault(job.cache_key, {})[key] = None
                share.running.append(job.cache_key)
            if job.reason == Reason.EQUAL_JOB_RUNS:
                index.waiting.add(key)
        if status.completion_time is None:
            index.at_work.add(key)
        return self._released(claim, before, share)

    def remove(self, key: Key) -> list[Key]:
        """An experiment has gone."""
        share = self._shares.get(key)
        before = self._take_out(key)
        return self._released(share.claim, before, None) if share is not None else []

    def done(self, claim: Key) -> Mapping[str, CacheEntry]:
        """Committed results on a claim by cache key."""
        index = self._claims.get(claim)
        return _Done(index.done if index is not None else {}, self._status_of)

    def running_elsewhere(self, key: Key, claim: Key) -> Mapping[str, str]:
        """Keys that other experiments work at, with their names."""
        index = self._claims.get(claim)
        return _Elsewhere(index.running if index is not None else {}, key)

    def is_shared(self, key: Key, claim: Key) -> bool:
        """Whether another experiment is at work on the claim."""
        index = self._claims.get(claim)
        return index is not None and len(index.at_work) > (key in index.at_work)

    def _take_out(self, key: Key) -> list[str]:
        share = self._shares.pop(key, None)
        if share is None:
            return []
        index = self._claims[share.claim]
        for name in share.done:
            _drop(index.done, name, key)
        for name in share.running:
            _drop(index.running, name, key)
        for members in (index.at_work, index.waiting, index.users):
            members.discard(key)
        return share.running

    def _released(self, claim: Key, before: list[str], share: _Share | None) -> list[Key]:
        index = self._claims[claim]
        if not index.users:
            del self._claims[claim]
        left = set(before) - set(share.running if share is not None else ())
        return sorted(index.waiting) if left else []


def _drop(entries: dict[str, dict[Key, V]], name: str, key: Key) -> None:
    found = entries.get(name, {})
    found.pop(key, None)
    if not found:
        entries.pop(name, None)


class _Done(Mapping[str, CacheEntry]):
    """One result for each key: equal keys mean results that are as good as equal."""

    def __init__(self, done: Mapping[str, Mapping[Key, str]], status_of: StatusOf) -> None:
        self._done, self._status_of = done, status_of

    def __getitem__(self, name: str) -> CacheEntry:
        for key, job_id in self._done[name].items():
            status = self._status_of(key)
            for job in status.jobs if status is not None else ():
                if (
                    job.id == job_id
                    and job.result is not None
                    and job.result.cache_key == name
                    and not job.result.removed
                ):
                    return CacheEntry(key[1], job)
        raise KeyError(name)  # decided, and not written down yet

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._done if name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class _Elsewhere(Mapping[str, str]):
    """The keys that others than one experiment work at: a view, since thousands may be at work on one claim."""

    def __init__(self, running: Mapping[str, Mapping[Key, None]], but: Key) -> None:
        self._running, self._but = running, but

    def __getitem__(self, name: str) -> str:
        for key in self._running[name]:
            if key != self._but:
                return key[1]
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._running if name in self)

    def __contains__(self, name: object) -> bool:
        return any(key != self._but for key in self._running.get(str(name), ()))

    def __len__(self) -> int:
        return sum(1 for _ in self)
