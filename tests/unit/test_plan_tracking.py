# SPDX-License-Identifier: Apache-2.0
"""One exporter beside an experiment: when it is there, when it goes, and that no hook ever waits for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.builders import (
    DEFAULTS,
    NOW,
    UID,
    Play,
    a_claim,
    a_spec,
    an_experiment,
    condition,
    ended,
    four_jobs,
    job_fact,
    plan,
    pod_fact,
    running,
    success,
)

from sandbox_api.experiment import ExperimentSpec
from sandbox_api.export import ExportContract, decode_export
from sandbox_api.status import Reason
from sandbox_operator.build.export import SYNC, end_suffix, export_name, is_export_name
from sandbox_operator.build.names import LABEL_TASK
from sandbox_operator.cli.offline import Experiment
from sandbox_operator.cli.preview import manifests, previewed
from sandbox_operator.plan.actions import Action, CreateJob, DeleteJob
from sandbox_operator.plan.compile import compile_spec
from sandbox_operator.plan.facts import ContainerFact, PodFact, Refusal, WarningFact
from sandbox_operator.plan.tracking import ending, exporter_of, is_due, with_tracking

A, R, P, E = (f"anonymous/1/{place}" for place in ("probe/0", "refine/0", "execution/0", "evaluation/0"))
KEY = {"apiKeySecretRef": {"name": "wandb", "key": "api-key"}}
LIVE = export_name("demo", UID)


def tracked(mode: str | None = None, **more: Any) -> dict[str, Any]:
    wandb = {**KEY, **({"mode": mode} if mode else {})}
    return four_jobs(tracking={"wandb": wandb}, images={"tracking": "registry.example.com/tracking:1"}, **more)


class Tracked(Play):
    """A play whose exporters come and go as they are asked to."""

    def export(self, *, after: float = 0, play: bool = True) -> tuple[Action, ...]:
        before = self.snapshot
        found = self.step(after=after) if play else plan(before, self.now)
        spec = compile_spec(before.spec, {}).spec
        whole = with_tracking(found, before, spec, DEFAULTS, self.now)
        self.change(status=whole.status)
        for action in whole.exports:
            if isinstance(action, CreateJob):
                fact = job_fact(action)
                assert fact.name not in {job.name for job in self.snapshot.exporters}, "asked for twice"
                self.change(
                    exporters=(*self.snapshot.exporters, fact),
                    exporter_pods=(*self.snapshot.exporter_pods, pod_fact(fact)),
                )
            if isinstance(action, DeleteJob):
                left = tuple(job for job in self.snapshot.exporters if job.name != action.name)
                self.change(exporters=left)
        return whole.exports

    def to_the_end(self) -> None:
        for job in (A, R, P):
            self.succeed_in(job)
            self.export(play=False)
        number = self.index_of(E)
        self.end_of(E, success(self.snapshot.jobs[number], self.snapshot.pods[number], metrics={"after.rows": 3.0}))

    def pods_go(self) -> None:
        """Pods of exporters that are not there any more."""
        names = {job.name for job in self.snapshot.exporters}
        self.change(exporter_pods=tuple(pod for pod in self.snapshot.exporter_pods if pod.job_name in names))


def begun(**more: Any) -> Tracked:
    play = Tracked(tracked(**more))
    play.change(claims={"demo-workspace": a_claim()})
    play.export()
    play.export()
    return play


def manifest_of(exports: tuple[Action, ...]) -> dict[str, Any]:
    (action,) = exports
    assert isinstance(action, CreateJob)
    return action.manifest


def environment(manifest: dict[str, Any]) -> dict[str, Any]:
    (container,) = manifest["spec"]["template"]["spec"]["containers"]
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container["env"]}


def contract(manifest: dict[str, Any]) -> ExportContract:
    return decode_export(environment(manifest)["SANDBOX_EXPORT"])


def test_a_key_alone_turns_tracking_on_and_without_one_it_is_off() -> None:
    def mode(**wandb: Any) -> str:
        found = ExperimentSpec.model_validate(a_spec(tracking={"wandb": wandb})).tracking
        assert found is not None
        assert found.wandb is not None
        return found.wandb.meant

    assert [mode(**KEY), mode(), mode(mode="offline"), mode(mode="disabled", **KEY)] == [
        "online",
        "disabled",
        "offline",
        "disabled",
    ]


def test_online_without_a_key_is_refused_before_anything_starts() -> None:
    (problem,) = compile_spec(a_spec(tracking={"wandb": {"mode": "online"}}), {}).problems
    assert problem.startswith("spec.tracking.wandb.apiKeySecretRef: is needed for mode online")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://wandb.example",
        "wandb.example",
        "https://",
        "https://me:pw@wandb.example",
        "http://w:99999",
        "http://w/?key=pw",
    ],
)
def test_an_address_that_is_no_servers_is_refused_and_not_repeated(url: str) -> None:
    spec = a_spec(tracking={"wandb": {**KEY, "baseUrl": url}})
    (problem,) = compile_spec(spec, {}).problems
    assert problem.startswith("spec.tracking.wandb.baseUrl: is not the address of a server; write")
    assert "pw" not in problem
    parsed = ExperimentSpec.model_validate(spec)
    assert exporter_of("demo", parsed) is None


@pytest.mark.parametrize("url", ["https://wandb.example", "http://10.0.0.7:8080/wandb"])
def test_a_private_servers_address_is_taken(url: str) -> None:
    assert compile_spec(a_spec(tracking={"wandb": {**KEY, "baseUrl": url}}), {}).problems == ()


def test_an_image_that_the_operator_lacks_is_said_before_anything_starts() -> None:
    step = plan(an_experiment(a_spec(tracking={"wandb": KEY})))
    assert step.actions == ()
    assert "spec.images.tracking: the operator has no such image" in step.status.conditions[0].message


@pytest.mark.parametrize(("mode", "warned"), [("offline", False), ("disabled", True)])
def test_an_image_of_its_own_is_in_use_where_there_is_an_exporter(mode: str, warned: bool) -> None:
    spec = {**tracked(mode), "images": {"tracking": "mine"}}
    assert (
        any(w.startswith("spec.images.tracking: nothing here runs on it") for w in compile_spec(spec).warnings)
        is warned
    )


def test_the_exporter_begins_with_the_experiment_and_is_one() -> None:
    play = Tracked(tracked())
    play.change(claims={"demo-workspace": a_claim()})
    exports = play.export()
    manifest = manifest_of(exports)

    assert manifest["metadata"]["name"] == LIVE
    assert manifest["metadata"]["labels"][LABEL_TASK] == "export"
    key = environment(manifest)["WANDB_API_KEY"]
    assert key == {"secretKeyRef": {"name": "wandb", "key": "api-key"}}
    told = contract(manifest)
    assert (told.mode, told.experiment.project, told.experiment.run, told.ending) == ("online", "lab", "demo", None)
    assert told.run_id == UID.replace("-", "")
    assert condition(play.status, "Tracking") == "True: Exporting"
    assert play.status.resolved is not None
    assert play.status.resolved.images["tracking"] == "registry.example.com/tracking:1"
    for _ in range(3):
        assert play.export(after=1) == ()


def test_the_volume_is_all_that_its_pod_is_given() -> None:
    play = Tracked(tracked(mode="offline"))
    play.change(claims={"demo-workspace": a_claim()})
    manifest = manifest_of(play.export())
    pod = manifest["spec"]["template"]["spec"]

    assert "WANDB_API_KEY" not in environment(manifest)
    assert pod["automountServiceAccountToken"] is False
    assert pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True
    assert [volume["name"] for volume in pod["volumes"]] == ["workspace", "tmp"]
    assert "affinity" not in pod


def test_the_end_is_not_held_up_and_then_one_exporter_that_knows_it_tells_the_rest() -> None:
    play = begun()
    play.to_the_end()
    exports = play.export(after=5)
    assert play.status.outcome == "Succeeded"
    assert exports == (DeleteJob(LIVE),)
    assert play.export(after=1) == (), "the first one's pod may still write"
    play.pods_go()
    manifest = manifest_of(play.export(after=1))
    assert play.status.completion_time is not None
    assert manifest["metadata"]["name"] == export_name("demo", UID, end_suffix(play.status.completion_time))
    told = contract(manifest).ending
    assert told is not None
    assert (told.outcome, sorted(told.results)) == ("Succeeded", sorted([A, R, P, E]))
    assert play.export(after=1) == ()
    (job,) = play.snapshot.exporters
    where = pod_fact(job, **ended(0, message="https://wandb.example/run"))
    play.change(exporters=(replace(job, complete=True),), exporter_pods=(where,))
    assert play.export(after=1) == ()
    (said,) = [c for c in play.status.conditions if c.type == "Tracking"]
    assert (said.status, said.reason) == ("True", "Exported")
    assert "https://wandb.example/run" in said.message
    play.change(exporters=(), exporter_pods=())  # removed by hand, or its time was over
    assert play.export(after=1) == (), "what is told is not told again"


def at_the_end(**more: Any) -> Tracked:
    play = begun(**more)
    play.to_the_end()
    play.export(after=5)
    play.pods_go()
    play.export(after=1)
    return play


def test_an_exporter_that_fails_fails_nothing_else() -> None:
    play = at_the_end()
    (job,) = play.snapshot.exporters
    play.change(exporters=(replace(job, failed="BackoffLimitExceeded", failed_message="too many pods failed"),))
    assert play.export(after=1) == ()
    assert play.status.outcome == "Succeeded"
    assert condition(play.status, "Ready") == "True: Succeeded"
    assert condition(play.status, "Tracking") == "False: NotExported"
    (said,) = [c.message for c in play.status.conditions if c.type == "Tracking"]
    assert said == "the exporter has failed: too many pods failed; sandboxctl wandb sync demo exports what there is"


def test_an_export_that_a_person_asked_for_is_waited_for_and_never_ended() -> None:
    """Begun while the first exporter's pod was still going, and once more after the time that Jobs are kept."""
    play = begun(ttlSecondsAfterFinished=60)
    (live,) = play.snapshot.exporters
    own = replace(live, name=export_name("demo", UID, SYNC))
    pod = pod_fact(own)
    play.to_the_end()
    assert play.export(after=5) == (DeleteJob(LIVE),)
    play.change(exporters=(own,), exporter_pods=(*play.snapshot.exporter_pods, pod))
    assert play.export(after=1) == ()
    play.pods_go()
    assert play.export(after=1) == (), "its pod may still write"
    play.change(exporter_pods=(replace(pod, **ended(0)),))
    (last,) = play.export(after=1)
    assert isinstance(last, CreateJob)
    (job,) = (job for job in play.snapshot.exporters if job != own)
    play.change(exporters=(own, replace(job, complete=True)), exporter_pods=())
    assert play.export(after=1) == ()
    assert condition(play.status, "Tracking") == "True: Exported"
    assert play.export(after=120) == (DeleteJob(job.name),)


def test_an_experiments_end_is_told_with_its_reason() -> None:
    """A trial that its sweep ended early has not failed; its run is told so."""
    play = at_the_end()
    said = [c.model_copy(update={"reason": "Pruned"}) if c.type == "Succeeded" else c for c in play.status.conditions]
    told = ending(play.status.model_copy(update={"outcome": "Stopped", "conditions": said}))
    assert told is not None
    assert (told.outcome, told.reason) == ("Stopped", "Pruned")


def test_a_key_that_is_refused_is_told_while_the_experiment_goes_on() -> None:
    play = begun()
    (job,) = play.snapshot.exporters
    refused = pod_fact(job, **ended(2, message="refused: invalid api key"))
    play.change(exporter_pods=(refused,))
    play.export(after=1)
    (said,) = [c for c in play.status.conditions if c.type == "Tracking"]
    assert (said.status, said.reason) == ("False", "ExporterFailed")
    assert said.message == "refused: invalid api key; it is tried again"
    assert play.states()[A] == "Pending: Scheduling" or play.states()[A].startswith(("Pending", "Running"))
    play.change(exporter_pods=(refused, replace(pod_fact(job, name="second"), **running())))
    play.export(after=1)
    assert condition(play.status, "Tracking") == "True: Exporting"


NO_SECRET = ContainerFact(waiting_reason="CreateContainerConfigError", waiting_message='secret "wandb" not found')
NO_IMAGE = ContainerFact(waiting_reason="ImagePullBackOff", waiting_message='Back-off pulling image "wandb:no"')


def said_of(play: Tracked) -> tuple[str, str, str]:
    (said,) = [c for c in play.status.conditions if c.type == "Tracking"]
    return said.status, said.reason, said.message


@pytest.mark.parametrize("the", [begun, at_the_end], ids=["on the way", "at the end"])
@pytest.mark.parametrize(
    ("hook", "words"),
    [
        (NO_SECRET, 'the container can\'t be made: secret "wandb" not found'),
        (NO_IMAGE, 'the image can\'t be pulled: Back-off pulling image "wandb:no"'),
    ],
    ids=["secret", "image"],
)
def test_an_exporter_that_waits_for_a_person_says_what_is_missing(
    the: Callable[[], Tracked], hook: ContainerFact, words: str
) -> None:
    play = the()
    (job,) = play.snapshot.exporters
    play.change(exporter_pods=(pod_fact(job, hook=hook),))
    play.export(after=1)
    assert said_of(play) == ("False", "ExporterFailed", f"{words}; it is tried again")
    play.change(exporter_pods=(pod_fact(job, **running()),))  # somebody has mended it
    play.export(after=1)
    assert condition(play.status, "Tracking") == "True: Exporting"


def test_a_quota_that_refuses_the_exporters_pod_is_told() -> None:
    play = begun()
    (job,) = play.snapshot.exporters
    refused = WarningFact("Job", job.name, "FailedCreate", "pods is forbidden: exceeded quota: pods=0")
    play.change(exporter_pods=(), warnings=(refused,))
    play.export(after=1)
    assert said_of(play)[:2] == ("False", "ExporterFailed")
    assert "exceeded quota: pods=0" in said_of(play)[2]
    assert play.states()[A].startswith(("Pending", "Running"))


@pytest.mark.parametrize(("mode", "seconds"), [("ReadWriteMany", 3 * 24 * 3600), ("ReadWriteOnce", 300)])
def test_an_exporter_that_never_begins_is_given_up_and_its_end_still_says_why(mode: str, seconds: int) -> None:
    """Until then files that it would read are not to go; after that nothing waits for it."""
    play = Tracked(tracked())
    play.change(claims={"demo-workspace": a_claim(access_mode=mode)})
    play.export()
    play.to_the_end()
    asked = play.export(after=5)
    play.pods_go()
    manifest = manifest_of(asked if play.snapshot.exporters else play.export(after=1))
    assert manifest["spec"]["activeDeadlineSeconds"] == seconds
    (job,) = play.snapshot.exporters
    play.change(exporter_pods=(pod_fact(job, hook=NO_SECRET),))
    play.export(after=1)
    assert is_due(play.status)
    play.change(exporter_pods=())  # its Job ends them first, then says so
    play.export(after=1)
    assert is_due(play.status)
    late = "Job was active longer than specified deadline"
    play.change(exporters=(replace(job, failed="DeadlineExceeded", failed_message=late),))
    play.export(after=1)
    assert said_of(play)[:2] == ("False", "NotExported")
    assert said_of(play)[2] == (
        f'the exporter has failed: {late}; before that: the container can\'t be made: secret "wandb" not found;'
        " sandboxctl wandb sync demo exports what there is"
    )
    assert not is_due(play.status)


def test_an_exporter_that_the_api_server_refuses_is_not_asked_for_again_until_the_end() -> None:
    play = Tracked(tracked())
    play.change(
        claims={"demo-workspace": a_claim()}, refusals={LIVE: Refusal(Reason.QUOTA_EXCEEDED, "exceeded quota", False)}
    )
    assert play.export() == ()
    assert condition(play.status, "Tracking") == "False: ExporterFailed"
    assert [job.job_id for job in play.snapshot.jobs] == [A], "the hook's Job is made all the same"


def test_a_rerun_is_exported_again_into_the_same_run() -> None:
    play = at_the_end()
    (last,) = play.snapshot.exporters
    play.change(exporters=(replace(last, complete=True),), exporter_pods=())
    play.export(after=1)
    play.change_spec(rerun={"token": "2", "from": "after"})
    exports = play.export(after=1)
    assert exports == (DeleteJob(last.name),)
    live = manifest_of(play.export(after=1))
    assert live["metadata"]["name"] == LIVE
    assert contract(live).run_id == UID.replace("-", "")
    number = play.index_of(E)
    play.end_of(E, success(play.snapshot.jobs[number], play.snapshot.pods[number]))
    assert play.export(after=5) == (DeleteJob(LIVE),)
    play.pods_go()
    again = manifest_of(play.export(after=1))
    assert again["metadata"]["name"] not in (LIVE, last.name)


def test_while_it_is_suspended_nothing_is_held() -> None:
    play = begun()
    play.change_spec(suspend=True, suspendPolicy="Now")
    play.export(after=1)
    play.change(jobs=(), pods=())
    assert play.export(after=1) == (DeleteJob(LIVE),) or play.snapshot.exporters == ()
    assert condition(play.status, "Tracking") == "Unknown: Suspended"
    play.pods_go()
    play.change_spec(suspend=False)
    play.export(after=1)
    play.export(after=1)
    assert [job.name for job in play.snapshot.exporters] == [LIVE]


def test_a_volume_for_one_node_is_left_to_the_hooks_until_the_end_and_then_held_for_minutes() -> None:
    play = Tracked(tracked())
    claim = a_claim(access_mode="ReadWriteOnce")
    play.change(claims={"demo-workspace": claim})
    assert play.export() == ()
    assert condition(play.status, "Tracking") == "Unknown: AfterTheEnd"
    play.to_the_end()
    manifest = manifest_of(play.export(after=5))
    assert manifest["spec"]["activeDeadlineSeconds"] == 300
    assert "affinity" not in manifest["spec"]["template"]["spec"]


def test_a_volume_for_one_pod_is_never_taken_and_the_plan_says_so() -> None:
    play = Tracked(tracked())
    play.change(claims={"demo-workspace": a_claim(access_mode="ReadWriteOncePod")})
    assert play.export() == ()
    play.to_the_end()
    assert play.export(after=5) == ()
    assert condition(play.status, "Tracking") == "False: NotExported"
    spec = ExperimentSpec.model_validate(
        tracked() | {"workspace": {"claim": {"size": "1Gi", "accessModes": ["ReadWriteOncePod"]}}}
    )
    assert (
        exporter_of("demo", spec)
        == "exporter: none, the claim is ReadWriteOncePod; sandboxctl wandb sync demo exports what there is"
    )


def test_a_trial_is_of_its_sweeps_group_with_its_parameters() -> None:
    trial = {"sweep": "search", "number": 3, "metric": "m", "parameters": {"op.arg": 0.5}}
    snapshot = an_experiment(tracked(), claims={"demo-workspace": a_claim()})
    found = plan(snapshot)
    spec = ExperimentSpec.model_validate(tracked() | {"trial": trial})
    told = contract(manifest_of(with_tracking(found, snapshot, spec, DEFAULTS, NOW).exports))
    assert (told.group, told.parameters) == ("search", {"op.arg": 0.5})


def test_its_job_and_pods_are_known_by_their_names() -> None:
    long = "a" * 52
    names = [export_name(long, UID), export_name(long, UID, "abc123"), export_name(long, UID, "sync")]
    assert all(is_export_name(name, long, UID) and len(f"{name}-abcde") <= 63 for name in names)
    assert not is_export_name(export_name(long, "another"), long, UID)
    assert isinstance(pod_fact(job_fact(CreateJob(_manifest(), "c"))), PodFact)


def _manifest() -> dict[str, Any]:
    play = Tracked(tracked())
    play.change(claims={"demo-workspace": a_claim()})
    return manifest_of(play.export())


def test_sandboxctl_plan_tells_of_the_exporter_and_prints_its_job() -> None:
    spec = tracked()
    previewed_plan, rehearsed = previewed(Experiment("demo", None, spec), {}, {})
    assert rehearsed is not None
    assert previewed_plan.exporter == "exporter: a pod of its own tells figures to Weights & Biases, while it runs"
    *hooks, last = [found for found in manifests(rehearsed) if found["kind"] == "Job"]
    assert len(hooks) == 4
    assert last["metadata"]["labels"][LABEL_TASK] == "export"
    without, rehearsed = previewed(Experiment("demo", None, four_jobs()), {}, {})
    assert without.exporter is None
    assert rehearsed is not None
    assert rehearsed.exporters == ()
