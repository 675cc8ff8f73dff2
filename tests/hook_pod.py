# SPDX-License-Identifier: Apache-2.0
"""A hook's pod without a cluster: the real `sandbox-runtime run` in its own process, on a folder as its volume."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandbox_api.contract import (
    CONTRACT_DIGEST_ENV,
    CONTRACT_ENV,
    POD_UID_ENV,
    Candidate,
    Configs,
    ExperimentRef,
    InputRef,
    JobContract,
    JobRef,
    attempt_folder,
    contract_digest,
    encode_contract,
    experiment_folder,
)
from sandbox_api.result import Message, Result, decode_message

REPOSITORY = Path(__file__).resolve().parents[1]
PATHS = [REPOSITORY / "crds", REPOSITORY / "images" / "runtime", REPOSITORY / "tests" / "toy"]
EXPERIMENT = ExperimentRef(name="demo", namespace="lab", uid="1f2e3d4c-0000", project="lab", run="demo")


def job_contract(
    hook: str = "ToyHook",
    *,
    dj: Any = None,
    extra: Any = None,
    local: dict[str, Any] | None = None,
    stage: str = "probe",
    index: int = 0,
    meta_name: str = "toy",
    type: str | None = None,
    attempt: int = 1,
    experiment: ExperimentRef = EXPERIMENT,
    **more: Any,
) -> JobContract:
    """A contract with only what a test is about spelt out."""
    return JobContract(
        experiment=experiment,
        job=JobRef(
            id=f"anonymous/1/{stage}/{index}",
            pipeline="anonymous",
            iteration=1,
            stage=stage,
            index=index,
            hook=hook,
            type=type,
            meta_name=meta_name,
        ),
        attempt=attempt,
        configs=Configs(dj=dj, extra=extra, local=local or {}),
        **more,
    )


@dataclass(frozen=True)
class Ended:
    """What a pod left behind. `log` is what the container printed."""

    code: int
    log: str
    termination: str
    folder: Path
    root: Path

    @property
    def message(self) -> Message:
        message = decode_message(self.termination)
        assert message is not None, f"no message in {self.termination!r}; the pod said:\n{self.log}"
        return message

    @property
    def result(self) -> Result:
        return Result.model_validate_json((self.folder / "result.json").read_bytes())

    def output(self, name: str) -> Path:
        path = self.result.outputs[name].path
        assert path is not None
        return self.root / path

    def reference(self, output: str, element: int | None = None) -> InputRef:
        """What the operator puts into a later job's contract."""
        content = (self.root / self.message.path).read_bytes()
        return InputRef(
            job=self.message.job,
            output=output,
            result_path=self.message.path,
            sha256=hashlib.sha256(content).hexdigest(),
            element=element,
        )

    @property
    def candidate(self) -> Candidate:
        """What the operator puts into the contract of a check pod, or of a reader of this very result."""
        return Candidate(result_path=self.message.path, sha256=self.message.sha256)


@dataclass
class Running:
    process: subprocess.Popen[str]
    pod: HookPod
    contract: JobContract
    uid: str
    termination: Path

    @property
    def folder(self) -> Path:
        return self.pod.folder_of(self.contract, self.uid)

    @property
    def hook(self) -> int:
        """The process that the hook runs in."""
        pid = self.process.pid
        (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(child)

    def wait_for(self, name: str | Path, seconds: float = 120) -> Path:
        """Wait until a file that the hook makes is there: a name in the attempt's folder, or an absolute path."""
        path = self.folder / name
        deadline = time.monotonic() + seconds
        while not path.exists():
            if self.process.poll() is not None:
                raise AssertionError(f"the pod ended before {path} was there:\n{self.process.communicate()[0]}")
            if time.monotonic() > deadline:
                self.process.kill()
                raise AssertionError(f"{path} was not there in time; the pod said:\n{self.process.communicate()[0]}")
            time.sleep(0.01)
        return path

    def end(self, seconds: float = 240) -> Ended:
        try:
            log, _ = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        termination = self.termination.read_text() if self.termination.exists() else ""
        return Ended(self.process.returncode, log, termination, self.folder, self.pod.root)


@dataclass
class HookPod:
    """One volume, one folder of inputs, and as many pods as a test starts, one after another or at once."""

    base: Path
    python: str = sys.executable
    environ: dict[str, str] = field(default_factory=dict)
    started: int = 0

    def __post_init__(self) -> None:
        self.root.mkdir(exist_ok=True)
        self.inputs.mkdir(exist_ok=True)

    @property
    def root(self) -> Path:
        return self.base / "workspace"

    @property
    def inputs(self) -> Path:
        return self.base / "inputs"

    @property
    def experiment(self) -> Path:
        return self.root / experiment_folder(EXPERIMENT.name, EXPERIMENT.uid)

    def folder_of(self, contract: JobContract, uid: str) -> Path:
        """The folder of a pod's own."""
        experiment = contract.experiment
        name = experiment_folder(experiment.name, experiment.uid)
        return self.root / attempt_folder(name, contract.job.id, contract.attempt, uid)

    @property
    def termination(self) -> Path:
        """The newest pod's."""
        return self.base / f"termination-log-{self.started}"

    def start(self, contract: JobContract, *, program: str | None = None, **environ: str) -> Running:
        """`program`: text of a Python program that runs in the place of `sandbox-runtime run`."""
        uid = self.next_uid
        self.started += 1
        self.termination.unlink(missing_ok=True)
        told = {
            "PATH": os.environ["PATH"],
            "HOME": "/",
            "PYTHONPATH": os.pathsep.join(str(path) for path in PATHS),
            CONTRACT_ENV: encode_contract(contract),
            CONTRACT_DIGEST_ENV: contract_digest(contract),
            POD_UID_ENV: uid,
            "SANDBOX_WORKSPACE": str(self.root),
            "SANDBOX_INPUTS": str(self.inputs),
            "SANDBOX_TERMINATION_MESSAGE": str(self.termination),
            **self.environ,
            **environ,
        }
        return Running(self.process(told, program), self, contract, uid, self.termination)

    def process(self, environ: dict[str, str], program: str | None = None) -> subprocess.Popen[str]:
        """The runtime, started with this environment."""
        return subprocess.Popen(
            [self.python, *(["-c", program] if program else ["-m", "sandbox_runtime.main", "run"])],
            env=environ,
            cwd=self.base,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="surrogateescape",
        )

    @property
    def next_uid(self) -> str:
        """Of the pod that is started next."""
        return hashlib.sha256(str(self.started + 1).encode()).hexdigest()[:36]

    def run(self, contract: JobContract, **environ: str) -> Ended:
        return self.start(contract, **environ).end()


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path
