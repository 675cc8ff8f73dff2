# SPDX-License-Identifier: Apache-2.0
"""Dimensions scored by VBench's own code, on videos that were chosen and checked before.

Imports torch and VBench, for which `shims` must have been installed: it is for worker processes only.
"""

from __future__ import annotations

import gc
import json
import math
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import torch
import vbench
import vbench.utils

from sandbox_api.vbench import Name

from ..errors import HookError, UserError
from ..files import write_json
from ..workers.desk import Desk
from .results import file_of, info_of
from .videos import EACH, Entry
from .weights import RAFT, lay_out, use_packages

FORBIDDEN = ("wget", "git", "curl", "unzip")
LONGEST_WORDS = 300
RAFT_ARGUMENTS = {"small": False, "mixed_precision": False, "alternate_corr": False}


class Chosen(vbench.VBench):  # type: ignore[misc]
    """VBench with videos that were chosen outside; it would take the first file's suffix for that of all."""

    def __init__(self, device: torch.device, folder: Path, entries: list[Entry]) -> None:
        super().__init__(device, None, str(folder))
        self.entries = entries

    def build_full_info_json(self, _videos: str, name: str, *_: Any, **__: Any) -> str:
        path = str(Path(self.output_path) / f"{name}_full_info.json")
        vbench.utils.save_json(self.entries, path)
        return path


def score(job: dict[str, Any], desk: Desk) -> list[dict[str, Any]]:
    """Every so-manyeth dimension of the job. Returns what each came to."""
    mine = job["dimensions"][desk.rank :: desk.size]
    weights, scratch = Path(job["weights"]), Path(job["scratch"]) / f"weights-{desk.rank}"
    cache = lay_out(weights, scratch, [each["name"] for each in mine], static_filter=job["static_filter"])
    os.environ["VBENCH_CACHE_DIR"] = vbench.utils.CACHE_DIR = str(cache)
    torch.hub.set_dir(str(cache / "hub"))
    os.chdir(cache)  # BERT is named as the hub's model or a folder here
    use_packages(weights)
    forbid_downloads()
    torch.manual_seed(job["seed"])
    device = torch.device("cuda", desk.rank % torch.cuda.device_count()) if torch.cuda.is_available() else None
    if device is not None:
        torch.cuda.set_device(device)
    told = []
    for number, each in enumerate(mine):
        began = time.monotonic()
        found = _scored(each["name"], each["entries"], job, device or torch.device("cpu"))
        told.append({"name": each["name"], **found, "seconds": time.monotonic() - began})
        keep(Path(each["keep"]), told[-1], Path(job["out"]), job["eval_name"])
        print(f"{each['name']}: {found['score']:.4f} on {found['scored']} videos", flush=True)
        desk.figures({each["name"]: found["score"]}, number + 1)
        gc.collect()  # the model of the last dimension
        torch.cuda.empty_cache()
        if desk.should_stop():
            break
    return told


def _scored(dimension: Name, entries: list[Entry], job: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """Raises UserError that names the dimension, and the video it was at."""
    try:
        if dimension == "temporal_flickering" and job["static_filter"]:
            entries = only_static(entries, device)
        name = f"{job['eval_name']}-{dimension}"
        Chosen(device, Path(job["out"]), entries).evaluate("", name, dimension_list=[dimension], local=True)
    except HookError:
        raise
    except (torch.OutOfMemoryError, MemoryError, OSError):
        raise
    except Exception as error:
        at = _video_of(error)
        where = f"{dimension}, at {Path(at).name}" if at else dimension
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(frame.filename).name}:{frame.lineno}"
        words = " ".join(str(error).split())[:LONGEST_WORDS]
        raise UserError(f"VBench failed in {where}: {type(error).__name__}: {words} ({place})") from error
    value, videos = json.loads((Path(job["out"]) / file_of(job["eval_name"], dimension)).read_text())[dimension]
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"VBench's score of {dimension} is {value}, which is no finite number")
    return {"score": float(value), "scored": len(videos)}


def keep(path: Path, found: dict[str, Any], out: Path, eval_name: str) -> None:
    """For later attempts, which need not score it again."""
    names = [file_of(eval_name, found["name"]), info_of(eval_name, found["name"])]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"found": found, "files": {name: json.loads((out / name).read_text()) for name in names}})


def only_static(entries: list[Entry], device: torch.device) -> list[Entry]:
    """The first five static videos of each prompt, by VBench's own filter."""
    from easydict import EasyDict
    from vbench.cli import static_filter

    static_filter.DEVICE = device
    model = str(Path(vbench.utils.CACHE_DIR) / RAFT.file)
    judge = static_filter.StaticFilter(EasyDict(model=model, **RAFT_ARGUMENTS), device)
    left = []
    for entry in entries:
        kept: list[str] = []
        for video_path in entry["video_list"]:
            if len(kept) < EACH and judge.infer(video_path):
                kept.append(video_path)
        left.append({**entry, "video_list": kept})
    if not any(entry["video_list"] for entry in left):
        many = sum(len(entry["video_list"]) for entry in entries)
        raise UserError(f"staticFilter: VBench's filter finds none of the {many} videos for temporal_flickering static")
    return left


def _video_of(error: BaseException) -> str | None:
    """The video that VBench was at: its loops have it in a variable of that name."""
    found = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        named = frame.f_locals.get("video_path")
        found = named if isinstance(named, str) else found
    return found


def forbid_downloads() -> None:
    """VBench starts programs that download what it misses, and its libraries ask hubs. All of that is there already, or
    was found missing before; whatever is still asked for is an error with its name."""

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("urllib.Request", "socket.getaddrinfo"):
            raise UserError(f"VBench wants to download from {arguments[0]}; nothing is downloaded here")
        if event == "subprocess.Popen" and Path(str(arguments[0])).name in FORBIDDEN:
            command = " ".join(map(str, arguments[1]))
            raise UserError(f"VBench wants to download ({command}); nothing is downloaded here")

    sys.addaudithook(refuse)
