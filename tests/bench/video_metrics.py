# SPDX-License-Identifier: Apache-2.0
"""What FVD's time goes to, a part of `make bench-evaluate`: the job as in a pod, its start included.

The detector has random weights and I3D's amount of work (26 thousand million multiplications and additions for a clip
of 16 frames of 224 x 224): neither weights nor what they find change how long it takes.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from tests.hook_pod import HookPod, job_contract

from sandbox_api.contract import Limits
from sandbox_runtime.easyanimate.video import write_video

FRAMES, SIZE = 49, 256
DIMENSION = 400


class AsMuchAsI3d(torch.nn.Module):
    """Clips of bytes, BCTHW, to numbers, as I3D is called."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Conv3d(3, 64, 7, 2, 3)
        self.second = torch.nn.Conv3d(64, 192, 3, padding=1)
        self.third = torch.nn.Conv3d(192, 256, 3, padding=1)
        self.fourth = torch.nn.Conv3d(256, 480, 3, padding=1)
        self.last = torch.nn.Linear(480, DIMENSION)

    def forward(
        self, x: torch.Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False
    ) -> torch.Tensor:
        pixels = x.float()
        if rescale:
            pixels = pixels * (2.0 / 255.0) - 1.0
        if resize:
            frames = pixels.transpose(1, 2).flatten(0, 1)
            frames = torch.nn.functional.interpolate(frames, [224, 224], mode="bilinear", align_corners=False)
            pixels = frames.unflatten(0, [x.shape[0], x.shape[2]]).transpose(1, 2)
        found = torch.nn.functional.max_pool3d(self.stem(pixels).relu(), [1, 2, 2])
        found = torch.nn.functional.max_pool3d(self.second(found).relu(), [1, 2, 2])
        found = torch.nn.functional.max_pool3d(self.third(found).relu(), [2, 2, 2])
        found = self.last(self.fourth(found).relu().mean([2, 3, 4]))
        return found if return_features else found.softmax(1)


def write_videos(folder: Path, count: int, seed: int) -> None:
    """Patterns that move, with noise that costs a decoder as much as a film does."""
    chance = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for number in range(count):
        pattern = chance.uniform(0, 200, (16, 16, 3)).repeat(SIZE // 16, 0).repeat(SIZE // 16, 1)
        clip = np.stack([np.roll(pattern, 2 * frame, 1) for frame in range(FRAMES)])
        noise = chance.uniform(0, 40, (FRAMES, SIZE, SIZE, 1))
        write_video(folder / f"{number:04d}.mp4", (clip + noise).astype(np.uint8), 24)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=32, help="of each side; default: 32")
    count, cores = parser.parse_args().videos, len(os.sched_getaffinity(0))
    print("| clips | job, s | reading, s | detector, s | comparing, s | share of extraction | largest process |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as scratch:
        pod = HookPod(Path(scratch))
        torch.jit.script(AsMuchAsI3d()).save(str(pod.inputs / "i3d_torchscript.pt"))
        for seed, side in enumerate(("real", "fake")):
            write_videos(pod.inputs / side, count, seed)
        extra = {
            "type": "video_inception_evaluator",
            "metric": "fvd2048_16f",
            "real_mm_dir": "inputs/real",
            "fake_mm_dir": "inputs/fake",
            "detector_path": "inputs/i3d_torchscript.pt",
            "batch_size": 4,
        }
        ended = pod.run(job_contract("EvaluateDataHook", type=extra["type"], extra=extra, limits=Limits(cpus=cores)))
        assert ended.code == 0, ended.log
        found = {name.removeprefix("toy."): value for name, value in ended.message.metrics.items()}
        read, detect = found["read_seconds"], found["detect_seconds"]
        total, peak = ended.result.runtime.hook_seconds or found["seconds"], ended.result.runtime.peak_memory_bytes or 0
        print(
            f"| {2 * count} | {total:.1f} | {read:.1f} | {detect:.1f} | {found['compare_seconds']:.1f} |"
            f" {(read + detect) / total:.0%} | {peak / 2**20:.0f} MiB |"
        )


if __name__ == "__main__":
    main()
