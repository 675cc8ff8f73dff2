# SPDX-License-Identifier: Apache-2.0
"""The runtime's small parts where the whole process can't show them: crashes, digests, memory counts, full logs."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.hook_pod import PATHS, job_contract

from sandbox_runtime import files
from sandbox_runtime.cgroup import Memory
from sandbox_runtime.data_juicer.k_sigma import Change
from sandbox_runtime.data_juicer.resume import State
from sandbox_runtime.errors import ConfigError, InfraError, error_of
from sandbox_runtime.files import link_atomic, write_atomic
from sandbox_runtime.hooks.analyzer import figures_by_importance
from sandbox_runtime.hooks.recipe import bounds_before_and_after, counted
from sandbox_runtime.outputs import output_names


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "result.json"
    write_atomic(path, b"old")

    def no_space(_handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", no_space)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, b"new")

    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_whole_whenever_its_writer_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    program = (
        "import sys; from pathlib import Path; from sandbox_runtime.files import write_json\n"
        "for n in range(10**9): write_json(Path(sys.argv[1]), {'n': n, 'body': 'x' * 300_000}); print(n, flush=True)"
    )
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(str(p) for p in PATHS)}
    for writes in range(1, 6):
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(path)], env=environ, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        for _ in range(writes):
            assert process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert len(json.loads(path.read_text())["body"]) == 300_000


def test_a_link_replaces_a_link_and_nothing_else(tmp_path: Path) -> None:
    target, link = tmp_path / "a", tmp_path / "deep" / "link"
    target.write_text("a")

    assert link_atomic(link, target)
    assert link.read_text() == "a"
    assert link_atomic(link, tmp_path / "gone")
    assert link_atomic(link, target)
    mine = tmp_path / "mine"
    mine.write_text("mine")
    assert not link_atomic(mine, target)
    assert mine.read_text() == "mine"


@pytest.fixture(params=["v1", "v2"])
def memory_files(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path, dict[str, Path]]:
    """A cgroup of its own below the root, as the kernel shows it, and where each figure stands."""
    root, membership = tmp_path / "cgroup", tmp_path / "membership"
    if request.param == "v2":
        own = root / "pods" / "hook"
        own.mkdir(parents=True)
        (root / "cgroup.controllers").write_text("cpu memory\n")
        membership.write_text("0::/pods/hook\n")
        names = {"killed": "memory.events", "limit": "memory.max", "peak": "memory.peak"}
    else:
        own = root / "memory" / "pods" / "hook"
        own.mkdir(parents=True)
        membership.write_text("5:cpu:/other\n4:memory:/pods/hook\n")
        names = {"killed": "memory.oom_control", "limit": "memory.limit_in_bytes", "peak": "memory.max_usage_in_bytes"}
    return root, membership, {figure: own / name for figure, name in names.items()}


def test_killed_processes_are_counted_in_both_cgroup_versions(
    memory_files: tuple[Path, Path, dict[str, Path]],
) -> None:
    root, membership, figures = memory_files
    figures["killed"].write_text("oom 3\noom_kill 1\noom_group_kill 0\n")
    figures["limit"].write_text(f"{64 * 2**20}\n")
    figures["peak"].write_text(f"{63 * 2**20}\n")
    memory = Memory(root, membership)
    before = memory.killed()
    figures["killed"].write_text("oom 4\noom_kill 2\noom_group_kill 0\n")

    error = error_of(RuntimeError("a worker died"), memory, killed_before=before)

    assert error.class_ == "OutOfMemory"
    assert error.message == "out of memory: limit 64 MiB, peak 63 MiB; the hook said: a worker died"
    assert error_of(RuntimeError("x"), memory, killed_before=2).class_ == "User"


def test_memory_that_can_not_be_read_is_unknown(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "none", tmp_path / "none")

    assert memory.killed() == 0
    assert memory.describe() == "limit unknown, peak unknown"


def test_no_limit_is_no_number(memory_files: tuple[Path, Path, dict[str, Path]]) -> None:
    root, membership, figures = memory_files
    figures["killed"].write_text("")
    figures["limit"].write_text("9223372036854771712\n")
    assert Memory(root, membership).limit() is None
    figures["limit"].write_text("max\n")
    assert Memory(root, membership).limit() is None


def test_causes_decide_the_class_of_an_unforeseen_error(tmp_path: Path) -> None:
    memory = Memory(tmp_path, tmp_path)

    def chained(cause: BaseException) -> BaseException:
        try:
            try:
                raise cause
            except BaseException as error:
                raise RuntimeError("wrapped") from error
        except RuntimeError as error:
            return error

    def class_of(error: BaseException) -> str:
        return error_of(error, memory, killed_before=0).class_

    assert class_of(chained(OSError(errno.ESTALE, "Stale file handle"))) == "Infra"
    assert class_of(chained(ConfigError("x"))) == "Config"
    assert class_of(chained(FileNotFoundError(errno.ENOENT, "No such file"))) == "User"
    assert class_of(InfraError("x")) == "Infra"
    failed = subprocess.CalledProcessError(1, "trainer", stderr=b"CUDA \x1b[0mis gone")
    assert "CUDA" in error_of(failed, memory, killed_before=0).message


def test_a_full_log_keeps_its_last_lines(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from sandbox_runtime.logs import Tee\n"
        "tee = Tee(Path(sys.argv[1]), half=1000)\n"
        "[print(f'line {n:04}') for n in range(1000)]\n"
        "tee.close(); print('after')"
    )
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(str(p) for p in PATHS)}
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "log.txt")],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )

    assert [*done.stdout.splitlines()] == [*(f"line {n:04}" for n in range(1000)), "after"]
    kept = (tmp_path / "log.old.txt").read_text() + (tmp_path / "log.txt").read_text()
    assert kept.splitlines()[-1] == "line 0999"
    assert len(kept) <= 2000
    assert "after" not in kept


def test_native_code_that_keeps_pythons_lock_can_print_into_a_log_of_its_own(tmp_path: Path) -> None:
    program = (
        "import ctypes, sys; from pathlib import Path; from sandbox_runtime.logs import Tee\n"
        "tee = Tee(Path(sys.argv[1]))\n"
        "ctypes.PyDLL(None).write(1, b'x' * 200_000, 200_000)\n"
        "tee.close()"
    )
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(str(p) for p in PATHS)}
    log = tmp_path / "log.txt"
    done = subprocess.run([sys.executable, "-c", program, str(log)], env=environ, capture_output=True, check=True)

    assert done.stdout == log.read_bytes() == b"x" * 200_000


def test_names_of_outputs_are_the_jobs_then_the_catalogues() -> None:
    assert output_names(job_contract("ProbeViaAnalyzerHook", outputs=["mine"]), 4) == [
        "mine",
        "overall",
        "histograms",
        "dataset",
    ]
    assert output_names(job_contract("Unknown"), 2) == ["0", "1"]
    with pytest.raises(ConfigError, match="not all different"):
        output_names(job_contract("ProbeViaAnalyzerHook", outputs=["overall"]), 4)


def test_figures_of_an_analysis_are_ordered_so_that_a_cut_keeps_the_comparison() -> None:
    figures = {"count": 2.0, "mean": 1.0, "std": 0.5, "min": 0.0, "50%": 1.0, "max": 2.0, "33.3%": 0.7}
    ordered = figures_by_importance({"text_len": figures, "one_row": {"count": 1.0, "mean": 1.0}})

    assert list(ordered)[:4] == ["text_len.mean", "one_row.mean", "text_len.std", "text_len.min"]
    assert len(ordered) == 9


def test_bounds_of_a_repeated_operator_are_told_apart() -> None:
    process = [{"a_filter": None}, {"b_filter": None}, {"a_filter": None}]
    changes = [
        Change(index, "a_filter", "max_len", "text_len", before, 9.5, 10) for index, before in ((0, 5), (2, "1TB"))
    ]

    assert bounds_before_and_after(changes, process) == {
        "refined.a_filter.max_len.before": 5.0,
        "refined.a_filter.max_len.after": 10.0,
        "refined.a_filter_2.max_len.after": 10.0,
    }


def test_figures_for_people() -> None:
    assert [counted(1, "row"), counted(5432, "row"), counted(2, "category"), counted(3, "statistic")] == [
        "1 row",
        "5 432 rows",
        "2 categories",
        "3 statistics",
    ]


class Rows:
    """A data set of one file, saved as Data-Juicer's is; `killed` stops in the middle."""

    def __init__(self, text: str, *, killed: bool = False) -> None:
        self.text = text
        self.killed = killed

    def __len__(self) -> int:
        return 1

    def save_to_disk(self, path: str) -> None:
        Path(path).mkdir(parents=True)
        (Path(path) / "rows").write_text(self.text)
        if self.killed:
            raise KeyboardInterrupt


PROCESS = [{"a_filter": None}, {"b_filter": None}]


def saved(folder: Path) -> tuple[str, int] | None:
    found = State(folder, 9, "source", PROCESS).latest()
    return ((found.path / "rows").read_text(), found.done) if found else None


def test_an_older_attempt_that_saves_late_replaces_nothing_of_a_newer_one(tmp_path: Path) -> None:
    State(tmp_path, 2, "source", PROCESS).save(Rows("newer"), [5, 4])

    State(tmp_path, 1, "source", PROCESS).save(Rows("older"), [5, 4])
    assert saved(tmp_path) == ("newer", 2)
    State(tmp_path, 1, "source", PROCESS).clear()
    assert saved(tmp_path) == ("newer", 2)
    State(tmp_path, 3, "source", PROCESS).save(Rows("newest"), [5])
    assert saved(tmp_path) == ("newest", 1)


def test_an_entry_whose_writer_was_killed_counts_for_nothing_and_goes_later(tmp_path: Path) -> None:
    State(tmp_path, 1, "source", PROCESS).save(Rows("whole"), [5])
    for attempt in (2, 4):
        with pytest.raises(KeyboardInterrupt):
            State(tmp_path, attempt, "source", PROCESS).save(Rows("half", killed=True), [5, 4])
    assert saved(tmp_path) == ("whole", 1)

    State(tmp_path, 3, "source", PROCESS).save(Rows("later"), [5, 4])

    assert saved(tmp_path) == ("later", 2)
    assert sorted(path.name.partition("-")[0] for path in tmp_path.iterdir()) == [".a4", "a3"]
