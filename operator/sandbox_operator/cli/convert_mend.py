# SPDX-License-Identifier: Apache-2.0
"""Where upstream's file could not do what it says, on a cluster or at all: mended, or named with the way out.

The guide's own demo is such a file: its trainer gets no data set, and its last analysis reads the original data.
"""

from __future__ import annotations

from collections.abc import Mapping

from sandbox_api.data_juicer import catalogue
from sandbox_api.hooks import HOOKS

from ..plan.references import did_you_mean
from .convert_hooks import (
    ANALYZER,
    ENVIRONMENT,
    EVALUATE_DATA,
    IGNORE_EXTRA,
    OWN_IMAGE,
    PROCESS,
    READ_DJ,
    SETTLED,
    TRAIN,
    TYPES,
    WITHOUT_A_PLACE,
    needs_gpu,
)  # fmt: skip
from .convert_job import Job
from .convert_tree import Map, Seq, entry_at, plain, tree


def mend(jobs: list[Job]) -> list[str]:
    """Mend each job; sentences about what can't run on a cluster."""
    left_out: list[str] = []
    for job in jobs:
        _drop_ignored(job)
        left_out += _nameless(job)
        _feed(job, jobs)
        _ask_for_gpus(job)
        _read_videos_without_ffmpeg(job)
        if job.hook == "InferModelHook" and job.kind == "api":
            job.out.entries["hook"].remark(
                "an API key comes from a Secret: `secrets: [{env: OPENAI_API_KEY, name: <Secret>, key: <key>}]`"
            )
    return left_out


def _drop_ignored(job: Job) -> None:
    """Configurations that upstream's hook does not look at, and keys that only its surroundings needed."""
    if job.hook in HOOKS and job.hook not in READ_DJ:
        job.out.leave_out(["djConfigs"], f"{job.hook} reads none", "dj_configs")
    if job.hook in IGNORE_EXTRA:
        job.out.leave_out(["extraConfigs"], f"{job.hook} reads none", "extra_configs")
    if (extra := job.config("extraConfigs")) is not None:
        extra.leave_out(ENVIRONMENT[:3], "the hook's image is its environment")
        extra.leave_out(ENVIRONMENT[3:], "the hook's image holds what it runs")
    if job.recipe is None and (dj := job.config("djConfigs")) is not None:
        dj.leave_out(SETTLED, "the runtime settles that: folders and caches lie on the workspace, Ray runs in the pod")


def _nameless(job: Job) -> list[str]:
    """Hooks and components that there is no image for, each with the way out."""
    known = TYPES.get(job.hook)
    extra = job.config("extraConfigs")
    if job.hook not in HOOKS:
        words = (
            f"{job.hook} is no hook of Data-Juicer's sandbox; a hook of your own becomes a SandboxHook, with an image"
            f" of its own{did_you_mean(job.hook, HOOKS)}"
        )
        job.out.entries["hook"].remark(words)
        return [f"{job.where}.hook: {words}"]
    if known is None or job.is_filled("extraConfigs.type"):
        return []
    if job.kind is None:
        words = f"extra_configs names no type; {job.hook} runs {' or '.join(known)}"
        job.out.entries["hook"].remark(words)
        return [f"{job.where}.extra_configs.type: {words}"]
    if job.kind not in known:
        instead = f"no component of that name has a place here; {OWN_IMAGE}"
        words = f"{job.kind} can't run on the cluster: {WITHOUT_A_PLACE.get((job.hook, job.kind), instead)}"
        entry = entry_at(extra, "type") if extra and "extraConfigs.type" not in job.local.entries else None
        (entry or job.out.entries["hook"]).remark(words)
        return [f"{job.where}.extra_configs.type: {words}"]
    return []


def _feed(job: Job, jobs: list[Job]) -> None:
    """Data for jobs that upstream's own demo leaves without, or gives the wrong."""
    processed = [other for other in jobs[: job.index] if other.hook == PROCESS and other.pipeline == job.pipeline]
    if job.hook == TRAIN and job.kind == "modelscope":
        _feed_training(job, processed)
    elif job.hook == EVALUATE_DATA and job.kind == "dj_text_quality_classifier" and processed:
        if not _says(job, "extraConfigs.dataset_path"):
            words = f"upstream's file gives the classifier no data set; this is what {processed[-1].where} makes"
            job.fill("extraConfigs.dataset_path", processed[-1].reference("dataset"), words)
    elif job.hook == ANALYZER and job.stage == "evaluation_job_configs" and processed:
        probes = [o for o in jobs[: job.index] if o.hook == ANALYZER and o.pipeline == job.pipeline]
        like = next((probe for probe in probes if probe.stage == "probe_job_configs" and _same_data(probe, job)), None)
        if like is not None:
            words = (
                f"upstream's file analyses the original data here once more, as {like.where} does; this is what"
                f" {processed[-1].where} makes"
            )
            job.fill("djConfigs.dataset_path", processed[-1].reference("dataset"), words)


def _feed_training(job: Job, processed: list[Job]) -> None:
    """Upstream's trainer reads `train_dataset`; the guide's configuration has `dataset_path`, which it passes over."""
    if _says(job, "extraConfigs.train_dataset"):
        return
    extra = job.config("extraConfigs")
    unread = extra.get("dataset_path") if extra else None
    if processed:
        words = f"upstream's trainer reads train_dataset, and there is none; this is what {processed[-1].where} makes"
        job.fill("extraConfigs.train_dataset", processed[-1].reference("dataset"), words)
        if extra is not None:
            extra.leave_out(["dataset_path"], "upstream's trainer does not read it")
    elif extra is not None and unread is not None:
        entry = extra.entries.pop("dataset_path")
        entry.remark("was dataset_path, which upstream's trainer does not read")
        extra.entries["train_dataset"] = entry


def _says(job: Job, target: str) -> bool:
    root, _, rest = target.partition(".")
    config = job.config(root)
    entry = entry_at(config, rest) if config else None
    return job.is_filled(target) or target in job.local.entries or (entry is not None and entry.value is not None)


def _same_data(probe: Job, job: Job) -> bool:
    """Whether an analysis was configured just as its probe was, with nothing that fills or changes the data set."""
    target = "djConfigs.dataset_path"
    if job.recipe or any(job.is_filled(name) or name in job.local.entries for name in (target, "djConfigs.dataset")):
        return False
    theirs, ours = (plain(one.up.body.get("dj_configs")) for one in (probe, job))
    return theirs is not None and bool(theirs == ours)


def _ask_for_gpus(job: Job) -> None:
    needed, key = needs_gpu(job.hook, job.kind)
    if not needed or (job.hook, job.kind) in WITHOUT_A_PLACE:
        return
    extra = job.config("extraConfigs")
    entry = entry_at(extra, key) if key and extra else None
    number = entry.value if entry and isinstance(entry.value, int) and entry.value > 0 else 1
    resources = tree({"limits": {"nvidia.com/gpu": number}}, True)
    job.out.put("resources", resources, "upstream takes the machine's GPUs; a pod asks for them")


def _read_videos_without_ffmpeg(job: Job) -> None:
    """The data image reads videos with PyAV; it has no ffmpeg programs."""
    dj = job.config("djConfigs") if job.recipe is None else None
    process = dj.get("process") if dj else None
    operators: Mapping[str, Mapping[str, Mapping[str, object]]] = catalogue()["operators"]
    for item in process.entries if isinstance(process, Seq) else ():
        for name, entry in item.value.entries.items() if isinstance(item.value, Map) else ():
            arguments = entry.value if isinstance(entry.value, Map) else Map()
            if "video_backend" in operators.get(name, {}).get("args", {}) and arguments.get("video_backend") != "av":
                entry.value = arguments
                arguments.put("video_backend", "av", "the data image has PyAV and no ffmpeg programs")
