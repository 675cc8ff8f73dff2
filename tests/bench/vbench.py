# SPDX-License-Identifier: Apache-2.0
"""How fast VBench's dimensions are: part of `make bench-evaluate`. Each runs as in a pod, its start left out.

Weights are random, and the models of DINO and CLIP tiny, so their rows say what reading and preparing frames costs; those
of AMT and RAFT are of their real size.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from sandbox_runtime.vbench import shims

shims.install()

from tests.hook_pod import HookPod, job_contract  # noqa: E402
from tests.models.vbench import clips, fixture_weights  # noqa: E402

from sandbox_api.contract import Limits  # noqa: E402

DIMENSIONS = {
    "temporal_flickering": 16,
    "subject_consistency": 16,
    "background_consistency": 16,
    "aesthetic_quality": 16,
    "appearance_style": 16,
    "motion_smoothness": 2,
    "dynamic_degree": 1,
}
"""Each with the number of videos that it is measured on."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=17, help="of each video; default: 17")
    parser.add_argument("--size", type=int, default=256, help="height and width of the videos; default: 256")
    parser.add_argument("--dimensions", nargs="*", choices=sorted(DIMENSIONS), default=list(DIMENSIONS))
    asked = parser.parse_args()
    print(f"| dimension | videos ({asked.frames} frames of {asked.size}x{asked.size}) | seconds | videos/s |")
    print("| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as scratch:
        pod = HookPod(Path(scratch), environ={"OMP_NUM_THREADS": "1"})
        fixture_weights.save_small(pod.inputs / "weights")
        for number, dimension in enumerate(asked.dimensions):
            count = DIMENSIONS[dimension]
            entry = {"prompt_en": "a clip", "dimension": [dimension], "auxiliary_info": {dimension: {dimension: "oil"}}}
            write_job(pod, dimension, entry, count, asked.frames, asked.size)
            extra = {
                "videos_path": f"inputs/{dimension}",
                "full_json_dir": f"inputs/{dimension}.json",
                "weights_path": "inputs/weights",
                "dimension_list": [dimension],
            }
            contract = job_contract(
                "EvaluateDataHook",
                type="vbench_video_evaluator",
                extra=extra,
                index=number,
                limits=Limits(cpus=1, memory_bytes=2**34),
            )
            ended = pod.run(contract)
            assert ended.code == 0, ended.log
            seconds = ended.message.metrics["toy.seconds"]
            print(f"| {dimension} | {count} | {seconds:.2f} | {count / seconds:.2f} |", flush=True)


def write_job(pod: HookPod, dimension: str, entry: dict[str, object], count: int, frames: int, size: int) -> None:
    """An info file with so many prompts, and a video of each."""
    entries = [{**entry, "prompt_en": f"{entry['prompt_en']} {number}"} for number in range(count)]
    (pod.inputs / f"{dimension}.json").write_text(json.dumps(entries))
    for each in entries:
        path = pod.inputs / dimension / f"{each['prompt_en']}-0.mp4"
        clips.write_clip(path, "moves", frames=frames, size=size)


if __name__ == "__main__":
    main()
