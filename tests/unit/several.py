# SPDX-License-Identifier: Apache-2.0
"""A `Play` whose Jobs have several pods, which are named by their rank or piece."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.unit.builders import Play, ended, failure, running, success

from sandbox_operator.plan.actions import CreateJob, Plan
from sandbox_operator.plan.facts import JobFact, PodFact


class SeveralPods(Play):
    @property
    def job(self) -> JobFact:
        """The newest Job."""
        return self.snapshot.jobs[-1]

    def number(self, number: int) -> PodFact:
        """The pod of a rank or piece in the newest Job."""
        return next(pod for pod in self.snapshot.pods if pod.job_name == self.job.name and pod.number == number)

    def put(self, *pods: PodFact) -> None:
        """Pods as they are now."""
        by_uid = {pod.uid: pod for pod in pods}
        self.change(pods=tuple(by_uid.get(pod.uid, pod) for pod in self.snapshot.pods))

    def begin(self, *numbers: int) -> Plan:
        self.put(*(replace(self.number(number), **running(self.now)) for number in numbers))
        return self.step(after=1)

    def end_well(self, *numbers: int) -> Plan:
        self.put(*(success(self.job, self.number(number)) for number in numbers))
        return self.step(after=1)

    def end_badly(self, number: int, error: str = "User", code: int = 1, words: str = "it broke", **pod: Any) -> Plan:
        self.put(failure(self.job, self.number(number), error, code, words, **pod))
        return self.step(after=1)

    def exits(self, number: int, code: int, **pod: Any) -> Plan:
        """It says nothing."""
        self.put(replace(self.number(number), **(ended(code, at=self.now) | pod)))
        return self.step(after=1)

    def goes(self, *numbers: int) -> None:
        """Its pod is not there any more."""
        gone = {self.number(number).uid for number in numbers}
        self.change(pods=tuple(pod for pod in self.snapshot.pods if pod.uid not in gone))

    def job_says(self, **what: Any) -> Plan:
        self.change(jobs=(*self.snapshot.jobs[:-1], replace(self.job, **what)))
        return self.step(after=1)

    @property
    def manifests(self) -> dict[str, dict[str, Any]]:
        """Of every Job that was asked for, by name."""
        actions = [action for plan in self.plans for action in plan.actions if isinstance(action, CreateJob)]
        return {action.manifest["metadata"]["name"]: action.manifest for action in actions}
