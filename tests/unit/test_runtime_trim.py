# SPDX-License-Identifier: Apache-2.0
"""What the pod removes of trials that are not kept, and what stays, on a real file system."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.hook_pod import HookPod, job_contract

from sandbox_api.result import Output, Result
from sandbox_api.trim import SMALL_BYTES, TRIM_ENV, TrimContract, TrimFolder, encode_trim
from sandbox_runtime.trim import trim

JOB = "experiments/s-0001-abcdefgh/jobs/anonymous/1/execution/0"
LARGE = SMALL_BYTES + 1


def an_attempt(root: Path, number: int, pod: str, outcome: str | None = "Succeeded", job: str = JOB) -> Path:
    """A pod's folder as the runtime leaves it: large and small artifacts, its journal, and a result unless it died."""
    folder = root / job / "attempts" / str(number) / pod
    (folder / "out" / "model").mkdir(parents=True)
    for part in range(3):
        (folder / "out" / "model" / f"{part}.bin").write_bytes(b"x" * (LARGE // 2))
    (folder / "out" / "rows.jsonl").write_bytes(b"x" * LARGE)
    (folder / "out" / "recipe.yaml").write_text("process: []\n")
    (folder / "metrics.jsonl").write_bytes(b"{}\n" * SMALL_BYTES)
    (folder / "log.txt").write_text("said\n")
    if outcome is not None:
        rows = str((folder / "out" / "rows.jsonl").relative_to(root))
        output = Output(kind="path", path=rows, published="outputs/rows.jsonl", bytes=LARGE)
        result = Result(
            job="anonymous/1/execution/0", attempt=number, pod_uid=pod, contract="c", outcome=outcome,  # type: ignore[arg-type]
            started_at="2026-01-31T12:00:00Z", finished_at="2026-01-31T12:00:01Z", outputs={"processed": output},
        )  # fmt: skip
        (folder / "result.json").write_text(result.model_dump_json())
    return folder


def run(root: Path, *folders: TrimFolder) -> int:
    contract = TrimContract(sweep="s", folders=list(folders))
    return trim({TRIM_ENV: encode_trim(contract), "SANDBOX_WORKSPACE": str(root)})


def left_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


ALL = {
    "out/model/0.bin", "out/model/1.bin", "out/model/2.bin", "out/rows.jsonl", "out/recipe.yaml", "metrics.jsonl",
    "log.txt", "result.json",
}  # fmt: skip
SMALL = {"out/recipe.yaml", "metrics.jsonl", "log.txt", "result.json", "removed.json"}


def test_large_artifacts_go_and_what_tells_how_it_went_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = an_attempt(tmp_path, 2, "bbbbbbbb")
    failed = an_attempt(tmp_path, 1, "aaaaaaaa", "Failed")
    died = an_attempt(tmp_path, 1, "cccccccc", None)
    other = an_attempt(tmp_path, 1, "dddddddd")  # of an earlier generation: somebody may have taken it
    state = tmp_path / JOB / "state" / "c0ffee" / "step-10"
    state.parent.mkdir(parents=True)
    state.write_bytes(b"x" * 10)
    before = (named / "result.json").read_bytes()

    assert run(tmp_path, TrimFolder(path=JOB, attempts=2, results=["attempts/2/bbbbbbbb"])) == 0
    assert left_in(named) == SMALL
    assert (named / "result.json").read_bytes() == before
    assert left_in(failed) == SMALL
    assert left_in(died) == SMALL - {"result.json"}
    assert left_in(other) == ALL
    assert not state.exists()
    told = json.loads((named / "removed.json").read_text())
    assert told["removed"] == {"out/model": LARGE // 2 * 3, "out/rows.jsonl": LARGE}
    assert "sweep s" in told["why"]
    freed = 3 * (LARGE // 2 * 3 + LARGE) + 10
    assert f"{freed} bytes removed from 1 jobs' folders" in capsys.readouterr().out


def test_twice_is_once_and_a_pod_that_died_between_is_gone_on_from(tmp_path: Path) -> None:
    named = an_attempt(tmp_path, 1, "aaaaaaaa")
    folder = TrimFolder(path=JOB, attempts=1, results=["attempts/1/aaaaaaaa"])
    assert run(tmp_path, folder) == 0
    told = (named / "removed.json").read_bytes()
    (named / "out" / "model").mkdir()  # as if it had died in the middle of the folder
    (named / "out" / "model" / "2.bin").write_text("the rest")

    assert run(tmp_path, folder) == 0
    assert left_in(named) == SMALL
    assert set(json.loads(told)["removed"]) == set(json.loads((named / "removed.json").read_bytes())["removed"])
    assert run(tmp_path, folder) == 0


def test_a_name_of_its_users_goes_with_what_it_named_but_not_one_that_names_another(tmp_path: Path) -> None:
    named, other = an_attempt(tmp_path, 1, "aaaaaaaa"), an_attempt(tmp_path, 2, "bbbbbbbb")
    link = tmp_path / "experiments/s-0001-abcdefgh/outputs/rows.jsonl"
    link.parent.mkdir()
    folder = TrimFolder(path=JOB, attempts=2, results=["attempts/1/aaaaaaaa"])
    link.symlink_to(other / "out" / "rows.jsonl")
    assert run(tmp_path, folder) == 0
    assert link.exists()
    again = an_attempt(tmp_path, 1, "cccccccc")
    link.unlink()
    link.symlink_to(again / "out" / "rows.jsonl")
    assert run(tmp_path, TrimFolder(path=JOB, attempts=2, results=["attempts/1/cccccccc"])) == 0
    assert not link.is_symlink()
    assert named.exists()


def test_an_attempt_that_somebody_has_begun_since_keeps_all_and_what_it_resumes_from(tmp_path: Path) -> None:
    an_attempt(tmp_path, 1, "aaaaaaaa")
    running = an_attempt(tmp_path, 2, "bbbbbbbb", None)
    state = tmp_path / JOB / "state" / "step-10"
    state.parent.mkdir()
    state.write_text("10")

    assert run(tmp_path, TrimFolder(path=JOB, attempts=1, results=["attempts/1/aaaaaaaa"])) == 0
    assert left_in(running) == ALL - {"result.json"}
    assert state.exists()


def test_nothing_outside_of_a_jobs_folder_is_touched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outside = tmp_path / "elsewhere"
    target = an_attempt(tmp_path, 1, "aaaaaaaa", None, "elsewhere/x/jobs/anonymous/1/execution/0")
    root = tmp_path / "volume"
    (root / "experiments").mkdir(parents=True)
    (root / "experiments" / "s-0001-abcdefgh").symlink_to(outside / "x")
    linked = an_attempt(root, 1, "bbbbbbbb", None, "experiments/s-0002-abcdefgh/jobs/anonymous/1/execution/0")
    (linked / "out" / "far").symlink_to(target / "out")

    paths = [JOB, "experiments/../../elsewhere/jobs", "cache", JOB.replace("0001", "0002")]
    assert run(root, *(TrimFolder(path=path, attempts=1) for path in paths)) == 1
    assert left_in(target) == ALL - {"result.json"}
    assert "out/rows.jsonl" not in left_in(linked)
    said = capsys.readouterr().err
    assert f"{JOB}: a link leads elsewhere from it" in said
    assert "cache: is no job's folder" in said


def test_a_result_whose_artifacts_have_gone_is_no_hit_and_its_job_runs_again(tmp_path: Path) -> None:
    pod = HookPod(tmp_path)
    contract = job_contract(extra={"do": "write", "text": "x" * LARGE}, outputs=["text"])
    first = pod.run(contract)
    check = contract.model_copy(update={"task": "check", "candidate": first.candidate, "attempt": 2})
    folder = first.folder.relative_to(pod.root)
    job = str(folder.parents[2])
    assert run(pod.root, TrimFolder(path=job, attempts=1, results=[str(folder.relative_to(job))])) == 0

    assert not first.output("text").exists()
    assert first.result.outputs["text"].bytes == LARGE  # what it was is still told
    refused = pod.run(check)
    assert (refused.code, refused.message.error is not None) == (3, True)
    again = pod.run(contract.model_copy(update={"attempt": 2}))
    assert again.code == 0
    assert not again.message.recovered
    assert again.output("text").stat().st_size == LARGE


def test_a_contract_that_can_not_be_read_removes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert trim({TRIM_ENV: "nonsense", "SANDBOX_WORKSPACE": str(tmp_path)}) == 2
    assert "SANDBOX_TRIM: not a compressed trim contract" in capsys.readouterr().err
