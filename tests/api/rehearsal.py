# SPDX-License-Identifier: Apache-2.0
"""A spec played to its end without a cluster: the operator's own planner, and pods that end as a draw decides."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Any

from tests.unit.builders import DEFAULTS, Play, a_claim, a_message, ended, running, success, written

from sandbox_api.contract import CONTRACT_ENV, CONTRACT_FILE_ENV, JobContract, decode_contract
from sandbox_api.result import EXIT_CODES, ResultError, encode_message
from sandbox_api.status import ExperimentStatus
from sandbox_operator.build.names import LABEL_TASK
from sandbox_operator.plan.actions import CreateJob, DeleteFinishedJobs, DeleteJob, Plan
from sandbox_operator.plan.compile import Compiled
from sandbox_operator.plan.experiment import plan_experiment
from sandbox_operator.plan.facts import JobFact, PodFact

MOST_STEPS = 3000
LONGEST_WAIT = 4000.0
"""Seconds: longer than any `timeouts.pending` by default."""


@dataclass
class Rehearsal(Play):
    """`Rehearsal(spec, compiled, chance).to_the_end()`; every plan on the way is looked at."""

    chance: random.Random = field(default_factory=random.Random)
    failures: float = 0.1
    """How likely a hook fails."""
    contracts: dict[str, tuple[str, JobContract]] = field(default_factory=dict)
    """Task and contract by the name of the Job."""

    def to_the_end(self) -> ExperimentStatus:
        """The last status. Raises AssertionError when it does not end, or waits for nothing."""
        claim = (self.spec.get("workspace") or {}).get("claimName")
        if claim is not None:
            self.change(claims={claim: a_claim(claim, experiment=None)})
        for _ in range(MOST_STEPS):
            plan = self.step(after=1)
            if self.status.completion_time is not None:
                return self.status
            self._go_on(plan)
        if self.snapshot.spec.get("stop") is None:  # iterations without an end are no mistake
            self.change_spec(stop="Now")
            return self.to_the_end()
        raise AssertionError(f"it does not end: {self.states()}")

    def step(self, *, after: float = 0) -> Plan:
        known = len(self.plans)
        plan = super().step(after=after)
        for step in self.plans[known:] if after else ():  # the others were looked at by the call inside
            self._look_at(step)
        return plan

    def _look_at(self, plan: Plan) -> None:
        """A plan is deterministic, its status survives the API server, and what it makes is remembered."""
        for action in plan.actions:
            if isinstance(action, CreateJob):
                self.contracts[action.manifest["metadata"]["name"]] = _contract_of(action)
            elif isinstance(action, DeleteJob):
                self._delete({action.name})
            elif isinstance(action, DeleteFinishedJobs):
                self._delete({job.name for job in self.snapshot.jobs})
        body = plan.status.model_dump(mode="json", exclude_none=True)
        assert ExperimentStatus.model_validate(body) == plan.status
        compiled = self.compiled[self.snapshot.generation]
        again = plan_experiment(self.snapshot, compiled, DEFAULTS, self.now)
        assert again == plan_experiment(self.snapshot, compiled, DEFAULTS, self.now)
        assert all(event.reason and event.message for event in plan.events)

    def _delete(self, names: set[str]) -> None:
        self.change(
            jobs=tuple(job for job in self.snapshot.jobs if job.name not in names),
            pods=tuple(pod for pod in self.snapshot.pods if pod.job_name not in names),
        )

    def _go_on(self, plan: Plan) -> None:
        """Something happens in the cluster: pods begin and end, or time passes; a user resumes what was suspended."""
        live = [(job, pod) for job in self.snapshot.jobs for pod in self.snapshot.pods
                if pod.job_name == job.name and not pod.is_over]  # fmt: skip
        if live:
            for job, pod in self.chance.sample(live, self.chance.randint(1, len(live))):
                self._replace(pod, self._moved_on(job, pod))
        elif self.snapshot.spec.get("suspend"):
            self.change_spec(suspend=False)
        elif plan.requeue_after is not None and plan.requeue_after <= LONGEST_WAIT:
            self.step(after=plan.requeue_after + 1)
        else:
            assert plan.actions or plan.status != self.plans[-2].status if len(self.plans) > 1 else True, (
                f"it waits for nothing: {self.states()} {[c.message for c in self.status.conditions]}"
            )

    def _moved_on(self, job: JobFact, pod: PodFact) -> PodFact:
        task, contract = self.contracts[job.name]
        if task != "run":  # there is no volume
            return self._failed(job, pod, "Infra")
        if pod.hook.running_since is None and self.chance.random() < 0.3:
            return replace(pod, **running(self.now))
        if self.chance.random() < self.failures:
            return self._failed(job, pod, self.chance.choice(sorted(EXIT_CODES)))
        return success(job, pod, **self._given(contract), started_at=written(self.now), finished_at=written(self.now))

    def _failed(self, job: JobFact, pod: PodFact, error: str) -> PodFact:
        lost = self.chance.choice([None, *(entry.id for entry in self.status.jobs)]) if error == "Input" else None
        told = ResultError(class_=error, type="E", message="it broke", job=lost)  # type: ignore[arg-type]
        said = encode_message(a_message(job, pod, error=told)) if self.chance.random() < 0.8 else ""
        return replace(pod, **ended(EXIT_CODES[error], message=said, at=self.now))

    def _given(self, contract: JobContract) -> dict[str, Any]:
        """Outputs and figures as hooks give them, lists where they are asked for (and sometimes no list at all)."""
        figures = {f"{contract.job.meta_name}.rows": float(self.chance.choice([5, 50, 5000]))}
        outputs: dict[str, Any] = {name: f"experiments/demo/{contract.job.id}/{name}" for name in contract.outputs}
        for name in contract.needs:
            if name in outputs and self.chance.random() < 0.9:
                outputs[name] = [f"experiments/demo/{n}" for n in range(self.chance.choice([0, 1, 2, 5]))]
            else:
                figures[f"{contract.job.meta_name}.{name}"] = 1.0
        return {"outputs": outputs, "metrics": figures, "externals": self.chance.randint(0, 1)}

    def _replace(self, old: PodFact, new: PodFact) -> None:
        self.change(pods=tuple(new if pod is old else pod for pod in self.snapshot.pods))


def rehearse(spec: dict[str, Any], compiled: Compiled, chance: random.Random) -> ExperimentStatus:
    """The status in which a valid spec ends."""
    play = Rehearsal(spec, chance=chance, failures=chance.choice([0.0, 0.05, 0.3]))
    play.compiled[play.snapshot.generation] = compiled
    return play.to_the_end()


def _contract_of(action: CreateJob) -> tuple[str, JobContract]:
    (hook,) = [c for c in action.manifest["spec"]["template"]["spec"]["containers"] if c["name"] == "hook"]
    environment = {variable["name"]: variable.get("value") for variable in hook["env"]}
    if CONTRACT_FILE_ENV in environment:
        assert action.config_map is not None
        (text,) = action.config_map["data"].values()
    else:
        text = str(environment[CONTRACT_ENV])
    return action.manifest["metadata"]["labels"][LABEL_TASK], decode_contract(text)
