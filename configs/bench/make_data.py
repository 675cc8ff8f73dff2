# SPDX-License-Identifier: Apache-2.0
"""What the bench experiments work on, made in a pod of the easyanimate image: clips cut from real videos with captions
in English and Chinese, clips of noise with random letters among them, held-out clips, and a tiny random model.

usage: make_data.py VIDEOS TARGET [--rows 60] [--all 2000] [--seed 7]

Below TARGET: data/all.jsonl, data/train.jsonl (its first rows), data/heldout.jsonl; models/easyanimate-v5.1.
"""

import argparse
import io
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from random import Random
from string import ascii_lowercase, digits
from typing import Any

import av
import numpy as np

from sandbox_runtime.easyanimate import tiny
from sandbox_runtime.easyanimate.video import write_video

FPS, SIZE = 24, 48
CLIPS, HELDOUT = 12, 4
"""Of each video: clips of its beginning, and held-out clips of its last fifth, which nothing else is cut from."""
NOISE = 8
"""Clips that show nothing."""
FRAMES = (12, 24)
"""Of a clip: 9 lie in the middle of the shortest one, where a training takes them. Noise is short."""
SHARE_OF_NOISE = 0.25

WORDS = {
    "bikes": (
        ["people ride bikes in a street", "a woman on a bicycle passes by a row of parked cars",
         "cyclists wait at a crossing while the traffic goes on", "it is a grey afternoon in the city"],
        ["几个人在街上骑着自行车", "一个女人骑车经过一排停着的汽车", "骑车的人在路口等待", "城里的下午天色灰暗"],
    ),
    "carphone_pristine": (
        ["a man talks in a car", "he looks at the camera and then out of the window",
         "the trees behind him move past quickly", "his tie is dark and his shirt is white"],
        ["一个男人在车里说话", "他看着镜头，然后又看向窗外", "他身后的树很快地掠过", "他打着深色的领带，穿着白衬衫"],
    ),
    "bigbuckbunny": (
        ["a big rabbit comes out of its hole", "the rabbit stretches in the morning light",
         "a butterfly flies over the green meadow", "there are flowers and an old tree on the hill"],
        ["一只大兔子从洞里出来", "兔子在早晨的阳光里伸着懒腰", "一只蝴蝶飞过绿色的草地", "山坡上有花，还有一棵老树"],
    ),
}  # fmt: skip
"""By video: sentences that are true of it, in English and in Chinese."""


def frames(parts: list[Path]) -> np.ndarray:
    """All of a video, which may lie in several files, uint8 of shape (frames, SIZE, SIZE, 3)."""
    whole = b"".join(part.read_bytes() for part in parts)
    with av.open(io.BytesIO(whole)) as container:
        return np.stack([f.to_ndarray(format="rgb24", width=SIZE, height=SIZE) for f in container.decode(video=0)])


def cut(random: Random, video: np.ndarray) -> np.ndarray:
    length = random.randint(*FRAMES)
    start = random.randrange(len(video) - length)
    return video[start : start + length]


def noise(random: Random) -> np.ndarray:
    shape = (random.randint(FRAMES[0], FRAMES[1] // 2 + 2), SIZE, SIZE, 3)
    return np.random.default_rng(random.getrandbits(32)).integers(0, 256, shape, dtype=np.uint8)


def caption(random: Random, name: str) -> str:
    """One to four sentences about the video, in one language."""
    language = random.randrange(2)
    sentences = random.sample(WORDS[name][language], random.randint(1, 4))
    return ", ".join(sentences) + "." if language == 0 else "，".join(sentences) + "。"


def letters(random: Random) -> str:
    return " ".join("".join(random.choices(ascii_lowercase + digits, k=random.randint(2, 9))) for _ in range(8))


def row(clip: str, text: str, kind: str) -> dict[str, Any]:
    return {"videos": [clip], "text": f"<__dj__video> {text} <|__dj__eoc|>", "kind": kind}


def rows_without_end(random: Random, clips: dict[str, list[str]], noisy: list[str]) -> Iterator[dict[str, Any]]:
    while True:
        if random.random() < SHARE_OF_NOISE:
            yield row(random.choice(noisy), letters(random), "noise")
        else:
            name = random.choice(list(clips))
            yield row(random.choice(clips[name]), caption(random, name), "clip")


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in rows), encoding="utf-8")


def main(videos: Path, target: Path, few: int, many: int, seed: int) -> None:
    random, data = Random(seed), target / "data"
    (data / "clips").mkdir(parents=True, exist_ok=True)

    def written(name: str, clip: np.ndarray) -> str:
        write_video(data / "clips" / f"{name}.mp4", clip, FPS)
        return f"clips/{name}.mp4"

    clips, heldout = {}, []
    for name in WORDS:
        whole = frames(sorted(videos.glob(f"{name}.mp4*")))
        last = len(whole) * 4 // 5
        clips[name] = [written(f"{name}-{number}", cut(random, whole[:last])) for number in range(CLIPS)]
        for number in range(HELDOUT):
            clip = written(f"{name}-heldout-{number}", cut(random, whole[last:]))
            heldout.append(row(clip, caption(random, name), "heldout"))
    noisy = [written(f"noise-{number}", noise(random)) for number in range(NOISE)]
    write_rows(data / "heldout.jsonl", heldout)
    rows = list(islice(rows_without_end(random, clips, noisy), max(few, many)))
    write_rows(data / "train.jsonl", rows[:few])
    write_rows(data / "all.jsonl", rows[:many])
    tiny.save_model(target / "models" / "easyanimate-v5.1")
    cuts = sum(map(len, clips.values()))
    print(f"{cuts} clips, {len(noisy)} of noise, {len(heldout)} held out; {few} and {many} rows; a model of 0.8 MB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("videos", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--rows", type=int, default=60)
    parser.add_argument("--all", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    main(args.videos, args.target, args.rows, args.all, args.seed)
