# SPDX-License-Identifier: Apache-2.0
"""An experiment's folder as pods leave it, exporters as real processes on it, and a reader of wandb's offline files."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandbox_api.contract import ExperimentRef, attempt_folder, experiment_folder
from sandbox_api.export import BASE_URL_ENV, EXPORT_ENV, Ending, ExportContract, encode_export
from sandbox_api.result import Output, Result

REPOSITORY = Path(__file__).resolve().parents[1]
UID = "1234abcd-1111-2222-3333-444455556666"
NAME = "demo"
JOB = "anonymous/1/execution/0"
KEY = "k" * 40
ENDING = Ending(outcome="Succeeded", message="1 job done")


@dataclass
class Volume:
    """One experiment on a volume."""

    root: Path

    @property
    def experiment(self) -> Path:
        return self.root / experiment_folder(NAME, UID)

    def attempt(self, job: str = JOB, number: int = 1, pod: str = "pod00001") -> Path:
        folder = self.root / attempt_folder(experiment_folder(NAME, UID), job, number, pod)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def log(self, steps: list[int], name: str = "train", **where: Any) -> None:
        """Lines as a hook writes them: the figure is ten times its step."""
        with (self.attempt(**where) / "metrics.jsonl").open("a") as file:
            for step in steps:
                file.write(json.dumps({"t": 1.7e9 + step, "step": step, f"{name}.loss": step * 10.0}) + "\n")

    def succeed(
        self, metrics: Mapping[str, float], outputs: Mapping[str, Path], tables: list[Path], **where: Any
    ) -> str:
        """A committed result; returns its path."""
        folder = self.attempt(**where)
        at = "2026-01-01T00:00:00Z"
        result = Result(
            job=where.get("job", JOB), attempt=1, pod_uid="pod00001", contract="c", outcome="Succeeded", started_at=at,
            finished_at=at, meta_name="train", metrics=dict(metrics),
            outputs={name: Output(kind="path", path=self.relative(path), bytes=1) for name, path in outputs.items()},
            tables=[self.relative(path) for path in tables],
        )  # fmt: skip
        (folder / "result.json").write_text(result.model_dump_json())
        return self.relative(folder / "result.json")

    def relative(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


@dataclass
class Exporter:
    """The process that a pod runs, and what it says."""

    volume: Volume
    url: str
    mode: str = "online"
    ending: Ending | None = None
    patience: float = 60
    environ: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> Exporter:
        contract = ExportContract(
            experiment=ExperimentRef(name=NAME, namespace="lab", uid=UID, project="proj", run="run of demo"),
            mode=self.mode,  # type: ignore[arg-type]
            group="a-sweep",
            parameters={"op.arg": 3},
            ending=self.ending,
        )
        paths = [REPOSITORY / "crds", REPOSITORY / "images/runtime"]
        environ = {
            **os.environ,
            BASE_URL_ENV: self.url,
            "WANDB_API_KEY": KEY,
            EXPORT_ENV: encode_export(contract),
            "SANDBOX_WORKSPACE": str(self.volume.root),
            "SANDBOX_TERMINATION_MESSAGE": str(self.volume.root / "termination"),
            "TMPDIR": str(self.volume.root.parent / "tmp"),
            "SANDBOX_EXPORT_PATIENCE": str(self.patience),
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            **self.environ,
        }
        command = [sys.executable, "-m", "sandbox_runtime.main", "export"]
        with (self.volume.root.parent / "exporter.log").open("ab") as log:
            self.process = subprocess.Popen(command, env=environ, stdout=log, stderr=log)
        return self

    def __enter__(self) -> Exporter:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def said(self) -> str:
        path = self.volume.root / "termination"
        return path.read_text() if path.exists() else ""

    @property
    def log(self) -> str:
        return (self.volume.root.parent / "exporter.log").read_text()

    def wait(self) -> int:
        assert self.process is not None, "it was started"
        return self.process.wait(timeout=200)

    def tell(self) -> int:
        assert self.process is not None, "it was started"
        self.process.terminate()
        return self.wait()

    def below(self) -> list[int]:
        """The processes that it has started, and theirs."""
        assert self.process is not None, "it was started"
        parents = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
        found, left = [], [self.process.pid]
        while left:
            parent = left.pop()
            children = [pid for pid, its in parents.items() if its == parent]
            found += children
            left += children
        return found

    def kill(self) -> None:
        """As a node that is lost: everything at once, nobody gets to say anything."""
        assert self.process is not None, "it was started"
        pids = [*self.below(), self.process.pid] if self.process.poll() is None else []
        for number in (signal.SIGSTOP, signal.SIGKILL):  # stopped first: none may notice another's death
            for pid in pids:
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    continue
        self.process.wait(timeout=60)


def records(path: Path) -> Iterator[Any]:
    """Every record of a `.wandb` file: a header of 7 bytes, then blocks of 32 KiB with LevelDB's log records."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, body = path.read_bytes(), 7, b""
    assert data.startswith(b":W&B"), data[:7]
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        crc, length, kind = struct.unpack_from("<IHB", data, at)
        piece = data[at + 7 : at + 7 + length]
        assert zlib.crc32(bytes([kind]) + piece) == crc, f"a torn record at {at} of {path}"
        at += 7 + length
        body = piece if kind in (1, 2) else body + piece
        if kind in (1, 4):  # whole, or the last of several
            record = Record()
            record.ParseFromString(body)
            yield record


def rows_in(path: Path) -> list[dict[str, Any]]:
    """The history in a `.wandb` file."""
    found = []
    for record in records(path):
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            found.append({".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items})
    return found
