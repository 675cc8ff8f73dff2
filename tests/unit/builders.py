# SPDX-License-Identifier: Apache-2.0
"""Small builders for tests of decisions: a spec with the jobs a test is about, and what a cluster would show of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sandbox_api.contract import CONTRACT_ENV, JobContract, decode_contract
from sandbox_api.hook import STAGES, Hook
from sandbox_api.hook_resource import AnyExtra
from sandbox_api.result import Message, ResultError, encode_message
from sandbox_api.status import ExperimentStatus, JobStatus
from sandbox_operator.build.defaults import Defaults
from sandbox_operator.build.names import ANNOTATION_CONTRACT, ANNOTATION_JOB_ID, ANNOTATION_NUMBERS, LABEL_ATTEMPT
from sandbox_operator.plan.actions import CreateClaim, CreateJob, Plan
from sandbox_operator.plan.compile import Compiled, compile_spec
from sandbox_operator.plan.experiment import plan_experiment
from sandbox_operator.plan.facts import ClaimFact, ContainerFact, JobFact, PodFact, Snapshot

NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
UID = "1f2e3d4c-5b6a-4789-8abc-def012345678"
DEFAULTS = Defaults(images={"data": "registry.example.com/data:1"})
OWN_HOOKS = {
    "lister": Hook("lister", "lister", STAGES, ("paths",)),
    "workers": Hook("workers", "workers", STAGES, ("dataset",), extra=AnyExtra, spans_pods=True, divisible=True),
}
"""A namespace's own hooks: one that makes a list, one that several pods may work at."""
RECIPE: list[dict[str, Any]] = [{"text_length_filter": {"min_len": 10}}]


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def written(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def probe(**more: Any) -> dict[str, Any]:
    settings = {"dataset_path": "inputs/raw/demo.jsonl", "process": RECIPE}
    return {"hook": "ProbeViaAnalyzerHook", "djConfigs": settings, **more}


def refine(**more: Any) -> dict[str, Any]:
    return {"hook": "RefineRecipeViaKSigmaHook", "djConfigs": {"process": RECIPE}, **more}


def feedback(**more: Any) -> dict[str, Any]:
    extra = {"path_scores": "inputs/raw/scores.jsonl", "goal": "maximize"}
    refines = {"hook": "RefineRecipeViaModelFeedbackHook", "djConfigs": {"process": RECIPE}}
    return {**refines, "extraConfigs": extra, **more}


def process(**more: Any) -> dict[str, Any]:
    settings = {"dataset_path": "inputs/raw/demo.jsonl", "process": RECIPE}
    return {"hook": "ProcessDataHook", **({} if "input" in more else {"djConfigs": settings}), **more}


def lister(**more: Any) -> dict[str, Any]:
    return {"hook": "lister", **more}


def workers(**more: Any) -> dict[str, Any]:
    """`nodes` or `shards` say how many pods."""
    return {"hook": "workers", **more}


def a_spec(
    *,
    probes: list[dict[str, Any]] | None = None,
    refines: list[dict[str, Any]] | None = None,
    executions: list[dict[str, Any]] | None = None,
    evaluations: list[dict[str, Any]] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """A spec with these job lists; one probe when none is named."""
    lists = {
        "probeJobConfigs": probes,
        "refineRecipeJobConfigs": refines,
        "executionJobConfigs": executions,
        "evaluationJobConfigs": evaluations,
    }
    jobs = {name: jobs for name, jobs in lists.items() if jobs is not None} or {"probeJobConfigs": [probe()]}
    inputs = [{"name": "raw", "configMapName": "raw"}]
    return {"workspace": {"claim": {"size": "1Gi"}}, "inputs": inputs, **jobs, **more}


def four_jobs(**more: Any) -> dict[str, Any]:
    """The guide's demo: analyse, refine, process what was refined, analyse what was processed."""
    return a_spec(
        probes=[probe(metaName="analysis")],
        refines=[refine(metaName="analysis", output=["refined_recipe"])],
        executions=[process(metaName="process", input={"djConfigs": "-1.refined_recipe"}, output=["processed"])],
        evaluations=[probe(metaName="after", input={"djConfigs.dataset_path": "anonymous.process.processed"})],
        **more,
    )


def lists(**jobs: list[dict[str, Any]]) -> dict[str, Any]:
    """Job lists of a pipeline by their short names."""
    names = {"probes": "probeJobConfigs", "refines": "refineRecipeJobConfigs", "executions": "executionJobConfigs",
             "evaluations": "evaluationJobConfigs"}  # fmt: skip
    return {names[name]: value for name, value in jobs.items()}


def pipelines(*several: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A spec with these pipelines."""
    spec = {**a_spec(**more), "pipelines": list(several)}
    del spec["probeJobConfigs"]
    return spec


def an_experiment(spec: Mapping[str, Any] | None = None, **more: Any) -> Snapshot:
    """What is known of an experiment that was just applied."""
    fields: dict[str, Any] = {
        "name": "demo", "namespace": "lab", "uid": UID, "generation": 1, "resource_version": "1",
        "spec": a_spec() if spec is None else spec, "status": ExperimentStatus(),
    }  # fmt: skip
    return Snapshot(**(fields | more))


def plan(snapshot: Snapshot, now: datetime = NOW, defaults: Defaults = DEFAULTS) -> Plan:
    return plan_experiment(snapshot, compile_spec(snapshot.spec, OWN_HOOKS), defaults, now)


def created(step: Plan) -> list[CreateJob]:
    return [action for action in step.actions if isinstance(action, CreateJob)]


def condition(status: ExperimentStatus, kind: str) -> str | None:
    """`True: Reason` of a condition, None when it is absent."""
    return next((f"{c.status}: {c.reason}" for c in status.conditions if c.type == kind), None)


def job_of(status: ExperimentStatus, number: int = 0) -> JobStatus:
    return status.jobs[number]


def job_fact(action: CreateJob, **more: Any) -> JobFact:
    """The Job as the API server has it after this action."""
    meta = action.manifest["metadata"]
    fact = JobFact(
        name=meta["name"],
        uid=f"uid-of-{meta['name']}",
        owner_uid=meta["ownerReferences"][0]["uid"],
        job_id=meta["annotations"][ANNOTATION_JOB_ID],
        attempt=int(meta["labels"][LABEL_ATTEMPT]),
        contract=meta["annotations"][ANNOTATION_CONTRACT],
        numbers=meta["annotations"].get(ANNOTATION_NUMBERS, ""),
    )
    return replace(fact, **more)


def pod_fact(job: JobFact, **more: Any) -> PodFact:
    fact = PodFact(
        name=f"{job.name}-abcde",
        uid=f"pod-of-{job.name}",
        job_name=job.name,
        contract=job.contract,
        phase="Pending",
        node="node-1",
        numbers=job.numbers,
    )
    return replace(fact, **more)


def pods_of(job: JobFact) -> tuple[PodFact, ...]:
    """As many as the Job has, pending."""
    if job.size == 1:
        return (pod_fact(job),)
    return tuple(
        pod_fact(job, index=index, name=f"{job.name}-{index}-abcde", uid=f"{index}-of-{job.name}")
        for index in range(job.size)
    )


def running(since: datetime = NOW) -> dict[str, Any]:
    """Fields of a pod whose hook runs."""
    return {"phase": "Running", "hook": ContainerFact(running_since=written(since))}


def ended(code: int, *, message: str = "", reason: str = "", at: datetime = NOW) -> dict[str, Any]:
    """Fields of a pod whose hook has ended."""
    hook = ContainerFact(
        running_since=written(at),
        exit_code=code,
        exit_reason=reason or ("Completed" if code == 0 else "Error"),
        termination_message=message,
        finished_at=written(at),
    )
    return {"phase": "Succeeded" if code == 0 else "Failed", "hook": hook}


def a_message(job: JobFact, pod: PodFact, /, **more: Any) -> Message:
    """The message of a success, unless `error` is given."""
    fields: dict[str, Any] = {
        "job": job.job_id, "attempt": job.attempt, "pod_uid": pod.uid, "contract": job.contract,
        "path": f"experiments/demo-1f2e3d4c/jobs/{job.job_id}/attempts/{job.attempt}/{pod.uid[:8]}/result.json",
        "sha256": "5" * 64, "bytes": 100, "outcome": "Failed" if more.get("error") else "Succeeded",
        "started_at": written(NOW), "finished_at": written(later(5)), "message": "300 rows analysed",
    }  # fmt: skip
    return Message(**(fields | more))


def contract_of(action: CreateJob) -> JobContract:
    env = action.manifest["spec"]["template"]["spec"]["containers"][0]["env"]
    return decode_contract(next(e["value"] for e in env if e["name"] == CONTRACT_ENV))


def about(action: CreateJob) -> dict[str, Any]:
    """What a pod that reads or checks a result says of it: where it lies."""
    found = contract_of(action).candidate
    return {"path": found.result_path, "sha256": found.sha256} if found is not None else {}


def success(job: JobFact, pod: PodFact, /, **more: Any) -> PodFact:
    return replace(pod, **ended(0, message=encode_message(a_message(job, pod, **more))))


def failure(job: JobFact, pod: PodFact, error: str, code: int, words: str = "it broke", **more: Any) -> PodFact:
    told = a_message(job, pod, error=ResultError(class_=error, type="ValueError", message=words))  # type: ignore[arg-type]
    return replace(pod, **(ended(code, message=encode_message(told)) | more))


@dataclass
class Play:
    """An experiment and the little of a cluster that its plans see: what a plan asks for comes true at once."""

    spec: dict[str, Any] = field(default_factory=a_spec)
    now: datetime = NOW
    snapshot: Snapshot = field(init=False)
    compiled: dict[int, Compiled] = field(default_factory=dict)
    """By generation."""
    plans: list[Plan] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.snapshot = an_experiment(self.spec)

    @property
    def status(self) -> ExperimentStatus:
        return self.snapshot.status

    @property
    def jobs(self) -> list[str]:
        """`state: reason` of each job."""
        return [f"{job.state}: {job.reason}" if job.reason else job.state for job in self.status.jobs]

    def step(self, *, after: float = 0) -> Plan:
        """Plan and do it all, once more where the plan asks to be called at once."""
        self.now += timedelta(seconds=after)
        generation = self.snapshot.generation
        if generation not in self.compiled:
            self.compiled[generation] = compile_spec(self.snapshot.spec, OWN_HOOKS)
        step = plan_experiment(self.snapshot, self.compiled[generation], DEFAULTS, self.now)
        self.plans.append(step)
        known = {job.name for job in self.snapshot.jobs}
        made = tuple(fact for action in created(step) if (fact := job_fact(action)).name not in known)
        claims = {
            action.manifest["metadata"]["name"]: a_claim(action.manifest["metadata"]["name"])
            for action in step.actions
            if isinstance(action, CreateClaim)
        }
        self.change(
            status=step.status,
            jobs=self.snapshot.jobs + made,
            pods=self.snapshot.pods + tuple(pod for job in made for pod in pods_of(job)),
            claims={**self.snapshot.claims, **claims},
        )
        return self.step() if step.requeue_after == 0 else step

    def change(self, **fields: Any) -> None:
        self.snapshot = replace(self.snapshot, **fields)

    def change_spec(self, **fields: Any) -> None:
        self.change(spec={**self.snapshot.spec, **fields}, generation=self.snapshot.generation + 1)

    @property
    def newest(self) -> tuple[JobFact, PodFact]:
        return self.snapshot.jobs[-1], self.snapshot.pods[-1]

    def pod(self, **fields: Any) -> None:
        """Change the newest pod."""
        self.change(pods=(*self.snapshot.pods[:-1], replace(self.snapshot.pods[-1], **fields)))

    def index_of(self, job_id: str) -> int:
        """Place of the newest Job of a planned job among all Jobs (and of its pod among all pods)."""
        return max(number for number, job in enumerate(self.snapshot.jobs) if job.job_id == job_id)

    def end_of(self, job_id: str, pod: PodFact) -> None:
        number = self.index_of(job_id)
        self.change(pods=(*self.snapshot.pods[:number], pod, *self.snapshot.pods[number + 1 :]))

    def succeed_in(self, *job_ids: str, **message: Any) -> Plan:
        """The newest pods of these jobs end with a result; then one step."""
        for job_id in job_ids:
            number = self.index_of(job_id)
            self.end_of(job_id, success(self.snapshot.jobs[number], self.snapshot.pods[number], **message))
        return self.step(after=5)

    def fail_in(self, job_id: str, error: str = "User", code: int = 1, words: str = "it broke", **more: Any) -> Plan:
        """The newest pod of a job ends with an error; then one step."""
        number = self.index_of(job_id)
        job, pod = self.snapshot.jobs[number], self.snapshot.pods[number]
        told = ResultError(class_=error, type="ValueError", message=words, **more)  # type: ignore[arg-type]
        self.end_of(job_id, replace(pod, **ended(code, message=encode_message(a_message(job, pod, error=told)))))
        return self.step(after=5)

    def run_in(self, *job_ids: str) -> Plan:
        """The hooks of these jobs begin to run; then one step."""
        for job_id in job_ids:
            number = self.index_of(job_id)
            self.end_of(job_id, replace(self.snapshot.pods[number], **running(self.now)))
        return self.step(after=5)

    def states(self) -> dict[str, str]:
        """`state: reason` by job id."""
        return {job.id: f"{job.state}: {job.reason}" if job.reason else job.state for job in self.status.jobs}

    def succeed(self, **message: Any) -> Plan:
        """The newest pod ends with a result; then one step."""
        self.change(pods=(*self.snapshot.pods[:-1], success(*self.newest, **message)))
        return self.step(after=5)

    def fail(self, error: str = "User", code: int = 1, words: str = "it broke", **pod: Any) -> Plan:
        """The newest pod ends with an error; then one step."""
        self.change(pods=(*self.snapshot.pods[:-1], failure(*self.newest, error, code, words, **pod)))
        return self.step(after=5)


def a_claim(name: str = "demo-workspace", **more: Any) -> ClaimFact:
    fact = ClaimFact(name, f"uid-of-{name}", "Bound", access_mode="ReadWriteMany", experiment="demo")
    return replace(fact, **more)
