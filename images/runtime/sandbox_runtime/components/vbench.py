# SPDX-License-Identifier: Apache-2.0
"""Generated videos, judged by VBench: one dimension after the other, or each in a pod of its own."""

from __future__ import annotations

import importlib.metadata
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sandbox_api.digest import sha256_of
from sandbox_api.vbench import DIMENSIONS, VBenchConfig

from ..digests import digest_of
from ..errors import ConfigError, UserError
from ..files import write_json
from ..hooks.base import Artifact, HookContext, HookResult
from ..pieces import Piece
from ..vbench.results import (
    REPORT,
    Scored,
    figures_of,
    file_of,
    info_of,
    merged,
    merged_file,
    report_of,
    sentence,
)
from ..vbench.videos import (
    BEFORE_FILTER,
    EACH,
    Entry,
    Matched,
    check_videos,
    extra_videos,
    match,
    match_all,
    names_in,
    read_info,
)
from ..vbench.weights import Used, check_weights, licences, needed, own_vbench, used
from ..workers.launch import run_workers
from .base import BaseEvaluator

WORKER = "sandbox_runtime.vbench.worker"
SHOWN = 5


class VBenchEvaluator(BaseEvaluator):
    """type: vbench_video_evaluator. Value: the plain mean of the raw scores. Report: the folder of result files.

    Metrics: `mean_score`, each dimension by its name; `quality`, `semantic`, `total` where all sixteen are there;
    `official`, 1 where they may be set beside the leaderboard's (the report says `why` not), else 0; `dimensions`,
    `videos`, `missing`, `extra`, `seconds`.
    """

    def run(self, eval_type: str, eval_obj: Any = None, **kwargs: Any) -> HookResult:
        context = self.for_job()
        config: VBenchConfig = context.extra
        place, out = context.place, context.out / "vbench"
        mine = config.dimension_list[place.shard or 0 :: place.shards]
        out.mkdir(parents=True)
        if not mine:
            write_json(out / REPORT, {"dimensions": {}, "missing": [], "extra": [], "videos": []})
            return HookResult([None, Artifact(out)], message="no dimension is left for this piece")
        weights = weights_folder(config, context)
        check_weights(weights, context.workspace.user_name(weights), mine, static_filter=config.static_filter)
        matched, extra = matched_videos(config, context, mine)
        names = in_order(Path(video).name for each in matched.values() for video in each.videos)
        tell(matched, extra, {name: licences(weights, name) for name in mine})
        check_videos((video for each in matched.values() for video in each.videos), context.cpus)
        dimensions = self._score(config, context, weights, matched, out)
        missing = in_order(name for each in matched.values() for name in each.missing)
        if place.shards > 1:
            write_json(out / REPORT, {"dimensions": dimensions, "missing": missing, "extra": extra, "videos": names})
            return HookResult(
                [None, Artifact(out)], {name: each["score"] for name, each in dimensions.items()}, ", ".join(mine)
            )
        return finished(config, context, out, dimensions, missing, extra, names)

    def merge(self, pieces: list[Piece]) -> HookResult:
        """All dimensions in the order that they were asked for, whichever piece scored them."""
        context = self.for_job()
        config: VBenchConfig = context.extra
        out = context.out / "vbench"
        out.mkdir(parents=True)
        weights_folder(config, context)  # the pieces have read them
        parts = [(Path(piece.outputs[1]), read_report(piece.outputs[1])) for piece in pieces]
        scored = {name: each for _, part in parts for name, each in part["dimensions"].items()}
        for folder, part in parts:
            for name in part["dimensions"]:
                for file in (file_of(config.eval_name, name), info_of(config.eval_name, name)):
                    (out / file).write_bytes((folder / file).read_bytes())
        return finished(
            config,
            context,
            out,
            {name: scored[name] for name in config.dimension_list},
            in_order(name for _, part in parts for name in part["missing"]),
            in_order(name for _, part in parts for name in part["extra"]),
            in_order(name for _, part in parts for name in part["videos"]),
        )

    def _score(
        self, config: VBenchConfig, context: HookContext, weights: Path, matched: Mapping[str, Matched], out: Path
    ) -> dict[str, Scored]:
        """What each dimension came to, in this attempt or an earlier one."""
        memory = context.workspace.cache / "digests.json"
        on = {name: used(weights, name, static_filter=config.static_filter, memory=memory) for name in matched}
        kept = {
            name: context.state / f"{name}-{key_of(each, on[name], config.static_filter, memory)}.json"
            for name, each in matched.items()
        }
        found = {name: taken_over(path, out) for name, path in kept.items() if path.is_file()}
        left = [name for name in matched if name not in found]
        if found:
            print(f"scored by an earlier attempt: {', '.join(found)}", flush=True)
        if left:
            found |= self._work(config, context, weights, {name: (matched[name], kept[name]) for name in left}, out)
        dimensions = dict[str, Scored]()
        for name, each in matched.items():
            filtered = config.static_filter or name != "temporal_flickering"
            dimensions[name] = {
                "score": found[name]["score"],
                "normalized": DIMENSIONS[name].normalized(found[name]["score"]),
                "videos": len(each.videos),
                "scored": found[name]["scored"],
                "missing": len(each.missing),
                "seconds": round(found[name]["seconds"], 3),
                "labels": [*(["synthetic"] if on[name].synthetic else []), *([] if filtered else ["unfiltered"])],
                "weights": on[name].files,
                "licences": licences(weights, name),
            }
        return dimensions

    def _work(
        self,
        config: VBenchConfig,
        context: HookContext,
        weights: Path,
        dimensions: Mapping[str, tuple[Matched, Path]],
        out: Path,
    ) -> dict[str, dict[str, Any]]:
        """Worker processes score these dimensions, and keep each for later attempts."""
        job = {
            "dimensions": [
                {"name": name, "entries": each.entries, "keep": str(keep)} for name, (each, keep) in dimensions.items()
            ],
            "eval_name": config.eval_name,
            "static_filter": config.static_filter,
            "weights": str(weights),
            "scratch": str(context.scratch / "vbench"),
            "out": str(out),
            "seed": context.seed,
        }
        if (own := own_vbench(weights, context.scratch / "packages", dimensions)) is not None:
            os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(own), os.environ.get("PYTHONPATH")]))
        told = run_workers(
            WORKER,
            "score",
            job,
            processes=min(config.processes or max(1, context.contract.limits.gpus), len(dimensions)),
            together=False,
            cpus=context.cpus,
            scratch=context.scratch / "worker",
            on_figures=lambda figures, step: self.watcher.watch(figures, step=step),
            should_stop=lambda: False,
        )
        found = {each["name"]: each for part in told for each in part}
        if missing := [name for name in dimensions if name not in found]:
            raise UserError(f"the job was told to end; not scored: {', '.join(missing)}")
        return found


def key_of(matched: Matched, on: Used, static_filter: bool, memory: Path) -> str:
    """Of all that decides a dimension's score."""
    digests = {video: digest_of(Path(video), memory=memory).content for video in set(matched.videos)}
    version = importlib.metadata.version("vbench")
    return sha256_of([matched.entries, digests, on.files, static_filter, version])[:16]


def taken_over(kept: Path, out: Path) -> dict[str, Any]:
    """What an earlier attempt has left of a dimension: its files, and what it came to."""
    left = json.loads(kept.read_text(encoding="utf-8"))
    for name, content in left["files"].items():
        write_json(out / name, content)
    found: dict[str, Any] = left["found"]
    return found


def weights_folder(config: VBenchConfig, context: HookContext) -> Path:
    """Where the weights are; what of them is read counts among what the result was made of."""
    if config.weights_path is not None:
        folder = context.workspace.inside(config.weights_path, "extraConfigs.weights_path")
    else:
        folder = Path(os.environ.get("VBENCH_CACHE_DIR") or context.workspace.cache / "vbench").absolute()
    on_volume = folder.is_relative_to(context.workspace.root) or context.workspace.is_input(folder)
    if config.weights_path is None and on_volume:
        wanted = {each.file for name in config.dimension_list for each in needed(name, config.static_filter)}
        context.read.update(str(folder / file) for file in wanted)
    return folder


def matched_videos(
    config: VBenchConfig, context: HookContext, dimensions: Sequence[str]
) -> tuple[dict[str, Matched], list[str]]:
    """The videos of each dimension, and those that belong to none. Raises ConfigError where a dimension has none."""
    named = config.videos_path
    if named is None:
        raise ConfigError("extraConfigs.videos_path: name the folder of the videos, or fill it with input")
    folder = context.workspace.inside(named, "extraConfigs.videos_path")
    found = names_in(folder, named)
    if config.mode == "custom_input":
        return {name: match_all(found, name, folder=folder) for name in dimensions}, []
    info, called = info_file(config, context)
    matched = {}
    for name in dimensions:
        each = BEFORE_FILTER if config.static_filter and name == "temporal_flickering" else EACH
        matched[name] = match(info, found, name, folder=folder, each=each)
        if not matched[name].entries:
            raise ConfigError(f"extraConfigs.full_json_dir: {called} has no prompt for {name}; leave it out")
        for entry in matched[name].entries:
            if DIMENSIONS[name].of_prompts and name not in entry.get("auxiliary_info", {}):
                raise ConfigError(
                    f"extraConfigs.full_json_dir: the prompt {entry['prompt_en']!r} of {called} does not say what to"
                    f" look for: it has no auxiliary_info for {name}"
                )
        if not matched[name].videos:
            first = matched[name].missing[0]
            raise ConfigError(
                f"extraConfigs.videos_path: {named} has none of the {len(matched[name].missing)} videos for {name},"
                f" e.g. {first!r}; make them with InferModelHook from the same prompts, or take mode: custom_input"
            )
    return matched, in_order(extra_videos(info, found, filtered=config.static_filter))


def info_file(config: VBenchConfig, context: HookContext) -> tuple[list[Entry], str]:
    """The prompts, and what the file is called."""
    if config.full_json_dir is not None:
        path = context.workspace.inside(config.full_json_dir, "extraConfigs.full_json_dir")
        return read_info(path, config.full_json_dir), config.full_json_dir
    return of_vbench(), "VBench's info file"


def of_vbench() -> list[Entry]:
    """VBench's own prompts."""
    spec = find_spec("vbench")
    if spec is None or spec.origin is None:
        raise ConfigError("type: this image has no vbench")
    return read_info(Path(spec.origin).parent / "VBench_full_info.json", "VBench's info file")


def tell(matched: Mapping[str, Matched], extra: Sequence[str], under: Mapping[str, Sequence[str]]) -> None:
    """To the log: what is missing, what is there besides, which licences forbid commercial use."""
    for name, each in matched.items():
        if each.missing:
            print(f"{name}: {len(each.missing)} videos are missing: {_some(each.missing)}", flush=True)
        for sentence_ in under[name]:
            print(f"licence: {name} uses {sentence_}", flush=True)
    if extra:
        print(f"{len(extra)} videos belong to no prompt: {_some(extra)}", flush=True)


def finished(
    config: VBenchConfig,
    context: HookContext,
    out: Path,
    dimensions: Mapping[str, Scored],
    missing: Sequence[str],
    extra: Sequence[str],
    videos: Sequence[str],
) -> HookResult:
    """The two files about all dimensions, and the job's result."""
    version = importlib.metadata.version("vbench")
    own_prompts = config.mode == "vbench_standard" and info_file(config, context)[0] == of_vbench()
    more = {"videos": len(videos), "vbench": version, "mode": config.mode}
    report = report_of(dimensions, missing, extra, own_prompts=own_prompts, **more)
    write_json(out / REPORT, report)
    write_json(out / merged_file(config.eval_name), merged(dimensions))
    return HookResult(
        outputs=[report["mean_score"], Artifact(out, publish=context.user_path("extraConfigs.output_path"))],
        metrics=figures_of(report),
        message=sentence(report),
    )


def read_report(folder: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(folder) / REPORT).read_text(encoding="utf-8"))
    return found


def in_order(names: Iterable[str]) -> list[str]:
    """Each once; the same however the dimensions were divided."""
    return sorted(set(names))


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(repr, names[:SHOWN])) + more
