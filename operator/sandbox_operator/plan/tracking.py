# SPDX-License-Identifier: Apache-2.0
"""Which exporter an experiment has now, and what is said of it: the condition `Tracking`, its only trace in the status.

While an experiment goes on, one exporter follows it; when it has ended, that one goes and another, which knows the end,
tells the rest and finishes the run. Nothing that becomes of either is a failure of the experiment or holds it up: they
are told last, and no other decision looks at them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from urllib.parse import urlsplit

from sandbox_api.contract import ExperimentRef
from sandbox_api.experiment import ExperimentSpec
from sandbox_api.export import Ending, ExportContract, export_digest
from sandbox_api.status import ExperimentStatus, Reason, Resolved
from sandbox_api.tracking import Wandb

from ..build.defaults import Defaults
from ..build.export import IMAGE, SYNC, ExportRequest, end_suffix, export_job, export_name
from .actions import Action, CreateJob, DeleteJob, Plan
from .clock import moment
from .conditions import Said, condition_in, condition_of
from .facts import JobFact, PodFact, Snapshot
from .waiting import why_waiting

TRACKING = "Tracking"
ONE_NODE_SECONDS = 300
"""How long an exporter may hold a volume that one node at a time can mount."""
LONGEST_SECONDS = 3 * 86_400
"""How long the exporter of the end may take on others: over a weekend somebody may mend what it waits for, or a server
come back. Then it is given up, and files that it would read may go."""
FINAL = (Reason.EXPORTED, Reason.NOT_EXPORTED)
"""Nothing will be exported after these, but by hand."""
AGAIN = "; it is tried again"
LATER = "sandboxctl wandb sync {name} exports what there is"


def with_tracking(
    plan: Plan, snapshot: Snapshot, spec: ExperimentSpec | None, defaults: Defaults, now: datetime
) -> Plan:
    """The same plan, with what its exporter needs: `exports` to do after everything else, and its condition."""
    wandb = wanted(spec)
    if spec is None or wandb is None or snapshot.deleting:
        return plan
    status = plan.status
    before = condition_in(snapshot.status.conditions, TRACKING)
    if status.completion_time is None:
        said, exports = _on_the_way(plan, snapshot, spec, wandb, defaults)
    elif before is not None and before.reason in FINAL and _is_of_this_end(plan, snapshot):
        said = Said(before.status, Reason(before.reason), before.message)
        exports = tuple(_tidied(snapshot, spec, status, now))
    else:
        said, exports = _at_the_end(snapshot, spec, wandb, status, defaults)
    conditions = [c for c in status.conditions if c.type != TRACKING]
    if said is not None:
        conditions.append(condition_of(TRACKING, said, snapshot.status.conditions, snapshot.generation, now))
    status = status.model_copy(update={"conditions": conditions, "resolved": _resolved(status, spec, defaults)})
    return replace(plan, status=status, exports=exports)


def is_due(status: ExperimentStatus) -> bool:
    """Whether an exporter is at work, or is to be: no end of it is told yet."""
    return any(c.type == TRACKING and c.reason not in FINAL for c in status.conditions)


def wanted(spec: ExperimentSpec | None) -> Wandb | None:
    """Weights & Biases' settings, where an experiment is exported there."""
    found = spec.tracking.wandb if spec is not None and spec.tracking is not None else None
    return found if found is not None and found.meant != "disabled" else None


def export_request(
    name: str, namespace: str, uid: str, spec: ExperimentSpec, status: ExperimentStatus, claim: str, image: str
) -> ExportRequest:
    """What an exporter is asked for as an experiment stands: with its end, where it has ended."""
    wandb = spec.tracking.wandb if spec.tracking is not None and spec.tracking.wandb is not None else Wandb()
    trial = spec.trial
    contract = ExportContract(
        experiment=ExperimentRef(
            name=name,
            namespace=namespace,
            uid=uid,
            project=spec.project_name or namespace,
            run=spec.experiment_name or name,
        ),
        mode="offline" if wandb.meant == "offline" else "online",
        entity=wandb.entity,
        group=trial.sweep if trial is not None else None,
        parameters=dict(trial.parameters) if trial is not None else {},
        ending=ending(status),
    )
    return ExportRequest(
        contract=contract,
        image=image,
        claim=claim,
        api_key=wandb.api_key_secret_ref,
        base_url=wandb.base_url,
        run_as=spec.run_as_user,
        profile=spec.pods.get("default"),
    )


def ending(status: ExperimentStatus) -> Ending | None:
    """How an experiment ended, as its run is told it; None while it goes on."""
    if status.completion_time is None or status.outcome is None:
        return None
    said = condition_in(status.conditions, "Succeeded")
    return Ending(
        outcome=status.outcome,
        reason=said.reason if said is not None else "",
        message=said.message if said is not None else "",
        results={entry.id: entry.result.path for entry in status.jobs if entry.result is not None},
        comparison=status.comparison,
        ranking=status.ranking or [],
    )


def _on_the_way(
    plan: Plan, snapshot: Snapshot, spec: ExperimentSpec, wandb: Wandb, defaults: Defaults
) -> tuple[Said | None, tuple[Action, ...]]:
    status, mode = plan.status, _access_mode(plan.status)
    live = export_name(snapshot.name, snapshot.uid)
    jobs = {job.name: job for job in snapshot.exporters}
    earlier = tuple(DeleteJob(job.name) for job in jobs.values() if job.name != live and not job.deleting)
    if status.start_time is None:
        return None, earlier
    if mode in ("ReadWriteOnce", "ReadWriteOncePod"):
        words = f"the claim is {mode}: an exporter beside the hooks would keep it from them"
        then = "it is exported after the end" if mode == "ReadWriteOnce" else LATER.format(name=snapshot.name)
        return Said("Unknown", Reason.AFTER_THE_END, f"{words}; {then}"), earlier
    if spec.suspend and not any(entry.state == "Running" for entry in status.jobs):
        gone = tuple(DeleteJob(live) for job in [jobs.get(live)] if job is not None and not job.deleting)
        return Said("Unknown", Reason.SUSPENDED, "nothing runs while spec.suspend is true"), (*earlier, *gone)
    if any(job.name != live for job in jobs.values()) or _has_pods(snapshot, but=live):
        return Said("Unknown", Reason.EXPORTING, "the exporter of the last end has not gone yet"), earlier
    job = jobs.get(live)
    if job is not None and job.deleting:
        return Said("Unknown", Reason.EXPORTING, "the exporter has not gone yet"), ()
    if job is not None and (job.failed or job.complete):
        words = f"the exporter has ended: {job.failed_message or job.failed or 'though nobody told it to'}"
        return Said("False", Reason.EXPORTER_FAILED, _told(words, snapshot)), ()
    if (refusal := snapshot.refusals.get(live)) is not None:
        return Said("False", Reason.EXPORTER_FAILED, f"{refusal.message}; it is exported after the end"), ()
    said = _exporting(wandb, spec, snapshot)
    if job is not None:
        return _as_its_pods_say(said, snapshot, job), ()
    request = _request(snapshot, spec, status, defaults)
    return said, (_create(request, defaults),) if request is not None else ()


def _at_the_end(
    snapshot: Snapshot, spec: ExperimentSpec, wandb: Wandb, status: ExperimentStatus, defaults: Defaults
) -> tuple[Said | None, tuple[Action, ...]]:
    assert status.completion_time is not None, "it has ended"
    mode = _access_mode(status)
    suffix = end_suffix(status.completion_time)
    name = export_name(snapshot.name, snapshot.uid, suffix)
    others = tuple(job for job in _ours(snapshot) if job.name != name)
    leave = tuple(DeleteJob(job.name) for job in others if not job.deleting)
    claim = snapshot.claims.get(status.workspace.claim_name) if status.workspace is not None else None
    if status.start_time is None or claim is None or claim.deleting:
        return Said("False", Reason.NOT_EXPORTED, "there is no volume to export from"), leave
    if mode == "ReadWriteOncePod":
        words = "the claim is ReadWriteOncePod: an exporter would keep it from other pods"
        return Said("False", Reason.NOT_EXPORTED, _told(words, snapshot)), leave
    job = next((job for job in snapshot.exporters if job.name == name), None)
    if job is not None and job.complete:
        where = next((pod.hook.termination_message for pod in _pods_of(snapshot, name) if pod.hook.exit_code == 0), "")
        return Said("True", Reason.EXPORTED, f"all of it is in the run {where}".strip()[:1000]), leave
    if job is not None and (job.failed or job.deleting):
        words = f"the exporter has failed: {job.failed_message or job.failed or 'it was deleted'}"
        if (
            before := condition_in(snapshot.status.conditions, TRACKING)
        ) is not None and before.reason == Reason.EXPORTER_FAILED:
            words += f"; before that: {before.message.removesuffix(AGAIN)}"  # of its pods, which have gone by now
        return Said("False", Reason.NOT_EXPORTED, _told(words, snapshot)), leave
    if (refusal := snapshot.refusals.get(name)) is not None:
        return Said("False", Reason.NOT_EXPORTED, _told(refusal.message, snapshot)), leave
    said = _exporting(wandb, spec, snapshot)
    if others or _has_pods(snapshot, but=name):
        return said, leave
    if job is not None:
        return _as_its_pods_say(said, snapshot, job), ()
    request = _request(snapshot, spec, status, defaults)
    if request is None:
        words = f"the operator has no image named {IMAGE}"
        return Said("False", Reason.NOT_EXPORTED, _told(words, snapshot)), ()
    held = mode == "ReadWriteOnce"
    request = replace(
        request,
        suffix=suffix,
        pinned=held and snapshot.claim_is_shared,
        deadline=ONE_NODE_SECONDS if held else LONGEST_SECONDS,
    )
    return said, (_create(request, defaults),)


def _tidied(snapshot: Snapshot, spec: ExperimentSpec, status: ExperimentStatus, now: datetime) -> Iterator[DeleteJob]:
    """What has told all goes with the hooks' Jobs."""
    ttl = spec.ttl_seconds_after_finished
    if (
        ttl is not None
        and status.completion_time is not None
        and (now - moment(status.completion_time)).total_seconds() >= ttl
    ):
        yield from (DeleteJob(job.name) for job in _ours(snapshot) if not job.deleting)


def _ours(snapshot: Snapshot) -> Iterator[JobFact]:
    """Exporters but for a person's own: its command removes that one, and what comes next waits for its pods."""
    return (job for job in snapshot.exporters if job.name != export_name(snapshot.name, snapshot.uid, SYNC))


def _request(
    snapshot: Snapshot, spec: ExperimentSpec, status: ExperimentStatus, defaults: Defaults
) -> ExportRequest | None:
    image = image_of(status, spec, defaults)
    if image is None or status.workspace is None:
        return None
    claim = status.workspace.claim_name
    return export_request(snapshot.name, snapshot.namespace, snapshot.uid, spec, status, claim, image)


def image_of(status: ExperimentStatus, spec: ExperimentSpec, defaults: Defaults) -> str | None:
    """The exporter's image: the one that the experiment began with."""
    resolved = status.resolved.images if status.resolved is not None else {}
    return resolved.get(IMAGE) or spec.images.get(IMAGE) or defaults.images.get(IMAGE)


def _resolved(status: ExperimentStatus, spec: ExperimentSpec, defaults: Defaults) -> Resolved | None:
    image = image_of(status, spec, defaults)
    if status.resolved is None or image is None:
        return status.resolved
    return status.resolved.model_copy(update={"images": dict(sorted({**status.resolved.images, IMAGE: image}.items()))})


def _create(request: ExportRequest, defaults: Defaults) -> CreateJob:
    manifest = export_job(request, defaults)
    return CreateJob(manifest, export_digest(request.contract))


def _exporting(wandb: Wandb, spec: ExperimentSpec, snapshot: Snapshot) -> Said:
    where = "the volume" if wandb.meant == "offline" else wandb.base_url or "Weights & Biases"
    run = f"{spec.project_name or snapshot.namespace}/{snapshot.uid.replace('-', '')}"
    return Said("True", Reason.EXPORTING, f"to {where}, run {run}")


def _as_its_pods_say(said: Said, snapshot: Snapshot, job: JobFact) -> Said:
    """What an exporter's pods say where none is at work: why the next one can't begin, else why the last one failed."""
    pods = [pod for pod in _pods_of(snapshot, job.name) if not pod.deleting]
    live = next((pod for pod in pods if not pod.is_over), None)
    failed = [pod for pod in pods if pod.is_over and pod.hook.exit_code not in (None, 0, 143)]
    if live is not None and live.is_running:
        return said
    waiting = why_waiting(job, live, snapshot.warnings_about(job.name, pods))
    if waiting.needs_help and (live is not None or not failed):
        return Said("False", Reason.EXPORTER_FAILED, f"{waiting.message[:900]}{AGAIN}")
    if failed:
        newest = max(failed, key=lambda pod: pod.hook.finished_at or "")
        words = newest.hook.termination_message.strip() or newest.message or f"exit code {newest.hook.exit_code}"
        return Said("False", Reason.EXPORTER_FAILED, f"{words[-900:]}{AGAIN}")
    before = condition_in(snapshot.status.conditions, TRACKING)
    if live is None and before is not None and before.reason == Reason.EXPORTER_FAILED:  # nothing newer is known
        return Said("False", Reason.EXPORTER_FAILED, before.message)
    return said


def _pods_of(snapshot: Snapshot, name: str) -> list[PodFact]:
    return [pod for pod in snapshot.exporter_pods if pod.job_name == name]


def _has_pods(snapshot: Snapshot, *, but: str) -> bool:
    """Whether a pod of another exporter may still write."""
    return any(not pod.is_over for pod in snapshot.exporter_pods if pod.job_name != but)


def _is_of_this_end(plan: Plan, snapshot: Snapshot) -> bool:
    return plan.status.completion_time == snapshot.status.completion_time


def _access_mode(status: ExperimentStatus) -> str | None:
    return status.workspace.access_mode if status.workspace is not None else None


def _told(words: str, snapshot: Snapshot) -> str:
    return f"{words}; {LATER.format(name=snapshot.name)}"


def tracking_problems(spec: ExperimentSpec) -> Iterator[str]:
    """What is wrong with what a spec says of tracking."""
    wandb = wanted(spec)
    if wandb is not None and wandb.meant == "online" and wandb.api_key_secret_ref is None:
        yield (
            "spec.tracking.wandb.apiKeySecretRef: is needed for mode online; name the Secret with the key, or set mode"
            " to offline"
        )
    if wandb is not None and wandb.base_url and not _is_server(wandb.base_url):
        yield (
            "spec.tracking.wandb.baseUrl: is not the address of a server; write it as https://wandb.example:8443,"
            " without a user, a password or a query: the key comes by apiKeySecretRef"
        )


def _is_server(url: str) -> bool:
    """Whether an address is that of a web server and no more, above all no password: it is shown to everybody."""
    try:
        parts = urlsplit(url)
        port_is_sound = parts.port != 0
    except ValueError:
        return False
    more = parts.username is not None or parts.password is not None or parts.query or parts.fragment
    return parts.scheme in ("http", "https") and bool(parts.hostname) and port_is_sound and not more


def exporter_of(name: str, spec: ExperimentSpec) -> str | None:
    """A sentence about the exporter of a spec, for whoever looks at a plan."""
    wandb = wanted(spec)
    if wandb is None or any(tracking_problems(spec)):
        return None
    where = "into a folder on the volume" if wandb.meant == "offline" else f"to {wandb.base_url or 'Weights & Biases'}"
    modes = spec.workspace.claim.access_modes if spec.workspace.claim is not None else ()
    when = "after the end" if "ReadWriteOnce" in modes else "while it runs"
    if not modes:
        when += " if several nodes may mount the claim, else after the end"
    if "ReadWriteOncePod" in modes:
        return f"exporter: none, the claim is ReadWriteOncePod; {LATER.format(name=name)}"
    return f"exporter: a pod of its own tells figures {where}, {when}"
