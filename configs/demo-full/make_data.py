# SPDX-License-Identifier: Apache-2.0
"""What demo-full works on, made in a pod of the easyanimate image: clips cut from real videos with captions, some of
them stills, and a tiny random model of EasyAnimate V5.1's own classes.

usage: make_data.py VIDEOS TARGET
"""

import json
import sys
from pathlib import Path

import av
import numpy as np

from sandbox_runtime.easyanimate import tiny
from sandbox_runtime.easyanimate.video import write_video

CAPTIONS = {"bikes.mp4": "people ride bikes in a street", "carphone_pristine.mp4": "a man talks in a car"}
FPS, SIZE = 24, 96
FRAMES = 24
"""Of a clip: a second."""
STILLS = 6
"""Of each video: clips whose frames are all the same, as slide shows have them."""
HELDOUT = 3
"""Of each video: its last clips, which no training sees."""


def frames(path: Path) -> np.ndarray:
    """All of a video, uint8 of shape (frames, SIZE, SIZE, 3)."""
    with av.open(str(path)) as container:
        return np.stack([f.to_ndarray(format="rgb24", width=SIZE, height=SIZE) for f in container.decode(video=0)])


def main(videos: Path, target: Path) -> None:
    clips = target / "clips"
    clips.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, object]] = []
    heldout: list[dict[str, object]] = []
    for name, caption in CAPTIONS.items():
        whole = frames(videos / name)
        starts = range(0, len(whole) - FRAMES, FRAMES // 2)
        moving = [whole[start : start + FRAMES] for start in starts]
        still = [np.repeat(whole[start : start + 1], FRAMES, axis=0) for start in list(starts)[:STILLS]]
        for number, clip in enumerate([*moving, *still]):
            path = clips / f"{Path(name).stem}-{number}.mp4"
            write_video(path, clip, FPS)
            kind = "moving" if number < len(moving) else "still"
            text = f"<__dj__video> {caption}, part {number} <|__dj__eoc|>"
            row = {"videos": [f"clips/{path.name}"], "text": text, "kind": kind}
            if number in range(len(moving) - HELDOUT, len(moving)):
                heldout.append(row)
            elif number != len(moving) - HELDOUT - 1:  # which has half its frames in common with the first held-out one
                rows.append(row)
    for file, its in (("train.jsonl", rows), ("heldout.jsonl", heldout)):
        (target / file).write_text("".join(json.dumps(row) + "\n" for row in its))
    tiny.save_model(target / "model")
    stills = sum(row["kind"] == "still" for row in rows)
    print(f"{len(rows)} clips, {stills} of them stills, and {len(heldout)} held out; a model of 0.8 MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
