# SPDX-License-Identifier: Apache-2.0
"""What demo-full came to, read from its volume in a pod of the easyanimate image: rows by kind, videos by content.

usage: report.py BEFORE AFTER VIDEOS   (rows, rows, a folder of videos)
"""

import json
import sys
from collections import Counter
from pathlib import Path

import av


def kinds(path: Path) -> Counter[str]:
    return Counter(json.loads(line)["kind"] for line in path.read_text().splitlines())


def shape(path: Path) -> list[int]:
    """Frames, height, width of a video."""
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return [len(frames), *frames[0].shape[:2]]


def main(before: Path, after: Path, videos: Path) -> None:
    there, left = kinds(before), kinds(after)
    for kind in there:
        print(f"{kind} clips: {left[kind]} of {there[kind]} left")
    made = {path.name: shape(path) for path in sorted(videos.glob("*.mp4"))}
    for name, (frames, height, width) in made.items():
        print(f"{name}: {frames} frames of {width} x {height}")
    print(json.dumps({"before": there, "after": left, "videos": made}))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
