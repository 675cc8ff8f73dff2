# SPDX-License-Identifier: Apache-2.0
"""The container's first process: what it does where the hook's own process can do nothing, through real ones."""

import os
import signal
import time
from pathlib import Path

import pytest
from tests.hook_pod import HookPod, job_contract

from sandbox_api.contract import Limits
from sandbox_api.result import MESSAGE_BYTES
from sandbox_runtime.cgroup import Memory
from sandbox_runtime.death import Death, error_of_death
from sandbox_runtime.signals import Stopped

MIB = 2**20


@pytest.fixture
def pod(tmp_path: Path) -> HookPod:
    return HookPod(tmp_path)


def is_alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_time_runs_out_for_native_code_that_keeps_pythons_lock_too(pod: HookPod) -> None:
    contract = job_contract(extra={"do": "native", "sleep": 200}, active_seconds_left=4, limits=Limits(gpus=2))

    ended = pod.run(contract, SANDBOX_GRACE_SECONDS="0.5")

    assert ended.code == 1, ended.log
    result, error = ended.result, ended.message.error
    assert error is not None
    assert (error.class_, error.type) == ("Timeout", "Timeout")
    assert error.message == "the job's time of 4 s (timeouts.active) ran out"
    assert (result.outcome, result.error) == ("Failed", error)
    assert result.runtime.hook_seconds is not None
    assert result.runtime.gpu_seconds == pytest.approx(2 * result.runtime.hook_seconds)
    assert ended.message.sha256


def test_native_code_that_keeps_pythons_lock_is_killed_after_the_grace_period(pod: HookPod) -> None:
    running = pod.start(job_contract(extra={"do": "native", "sleep": 200}), SANDBOX_GRACE_SECONDS="0.5")
    running.wait_for("began")
    running.process.send_signal(signal.SIGTERM)
    ended = running.end()

    assert ended.code == 143
    assert ended.message.error is not None
    assert (ended.message.error.class_, ended.message.error.type) == ("Preempted", "SIGTERM")


def test_native_code_that_keeps_pythons_lock_can_print_more_than_a_pipe_holds(pod: HookPod) -> None:
    ended = pod.run(job_contract(extra={"do": "native", "write": 1_000_000}))

    assert ended.code == 0, ended.log[-1000:]
    assert ended.log.count("x") >= 999_999
    assert "x" * 999_999 in (ended.folder / "log.txt").read_text()


@pytest.mark.parametrize(
    ("end", "code", "told"),
    [
        ({"fault": True}, 139, "was killed by SIGSEGV (segmentation fault)"),
        ({"signal": "SIGABRT"}, 134, "was killed by SIGABRT (aborted)"),
        ({"signal": "SIGBUS"}, 135, "was killed by SIGBUS (bus error)"),
        ({"signal": "SIGKILL"}, 137, "was killed by SIGKILL (killed)"),
        ({"code": 77}, 77, "ended with exit code 77"),
        ({"code": 0}, 1, "ended with exit code 0"),
    ],
)
def test_a_process_that_dies_is_named_with_its_last_words(
    pod: HookPod, end: dict[str, object], code: int, told: str
) -> None:
    ended = pod.run(job_contract(extra={"do": "exit", "say": "LAST WORDS", **end}))

    assert ended.code == code
    error = ended.message.error
    assert error is not None
    assert error.class_ == "User"
    assert error.message == f"the hook's process {told}, without a result; it printed last:\nLAST WORDS"
    assert ended.result.error == error
    for log in (ended.log, (ended.folder / "log.txt").read_text()):
        assert "LAST WORDS\n" in log
        assert log.index("LAST WORDS") < log.index(told)


def test_last_words_in_a_log_of_a_components_own_reach_the_pods_log_too(pod: HookPod, tmp_path: Path) -> None:
    program = (
        "import os; from pathlib import Path; from sandbox_runtime.logs import Tee\n"
        "from sandbox_runtime.supervisor import supervise\n"
        f"supervise(lambda _: (Tee(Path({str(tmp_path / 'own.log')!r})), print('LAST WORDS'), os.abort()))"
    )
    ended = pod.start(job_contract(), program=program).end()

    assert ended.code == 134
    assert ended.message.error is not None
    assert ended.message.error.message.endswith("LAST WORDS")
    assert (tmp_path / "own.log").read_text() == "LAST WORDS\n"


@pytest.mark.parametrize(
    ("code", "class_"), [(2, "Config"), (3, "Input"), (4, "Infra"), (137, "User"), (143, "Preempted")]
)
def test_the_contracts_exit_codes_keep_their_classes(pod: HookPod, code: int, class_: str) -> None:
    ended = pod.run(job_contract(extra={"do": "exit", "code": code}))

    assert ended.code == code
    assert ended.message.error is not None
    assert ended.message.error.class_ == class_


def test_a_result_that_was_written_before_its_process_died_stands(pod: HookPod) -> None:
    ended = pod.run(job_contract(extra={"do": "die_late"}))

    assert ended.code == 0
    assert (ended.result.outcome, ended.message.outcome) == ("Succeeded", "Succeeded")
    assert ended.message.outputs == {"0": "done"}
    assert "that stands" in ended.log


def test_a_result_that_nobody_wrote_though_its_process_ended_well_is_not_made_up(pod: HookPod) -> None:
    ended = pod.run(job_contract(extra={"do": "whisper", "lose": True}))

    assert (ended.code, ended.termination) == (0, "")
    assert not (ended.folder / "result.json").exists()


def test_whatever_a_child_returns_after_the_order_to_end_it_was_ended(pod: HookPod) -> None:
    """A process that dies of the order, for it does not listen yet."""
    program = (
        "import time; from sandbox_runtime.supervisor import supervise\n"
        "supervise(lambda _: print('up', flush=True) or time.sleep(200))"
    )
    running = pod.start(job_contract(), program=program)
    assert running.process.stdout is not None
    assert running.process.stdout.readline() == "up\n"
    running.process.send_signal(signal.SIGTERM)
    ended = running.end()

    assert ended.code == 143
    assert ended.message.error is not None
    assert ended.message.error.class_ == "Preempted"
    assert ended.result.outcome == "Failed"


def test_nobody_that_a_dead_hook_left_behind_survives_it(pod: HookPod) -> None:
    running = pod.start(job_contract(extra={"do": "child"}))
    child = int(running.wait_for("began").read_text())
    os.kill(running.hook, signal.SIGKILL)
    ended = running.end()

    assert ended.code == 137
    assert not is_alive(child)


def test_orphans_are_collected_while_the_hook_works(pod: HookPod) -> None:
    ended = pod.run(job_contract(extra={"do": "bereave"}))

    assert ended.result.outputs["0"].value == "collected"


def test_a_hook_does_not_outlive_its_supervisor(pod: HookPod) -> None:
    running = pod.start(job_contract(extra={"do": "child"}))
    running.wait_for("began")
    hook = running.hook
    running.process.kill()
    running.process.wait()
    while is_alive(hook):
        time.sleep(0.01)
    assert not (running.folder / "result.json").exists()


def test_what_is_no_text_arrives_as_it_was(pod: HookPod) -> None:
    ended = pod.run(job_contract(extra={"do": "mumble"}), PYTHONIOENCODING="utf-8")

    assert ended.code == 0
    assert bytes(range(256)) in (ended.folder / "log.txt").read_bytes()


def test_a_megabyte_of_control_characters_and_a_hard_end_leave_a_short_clean_message(pod: HookPod) -> None:
    ended = pod.run(job_contract(extra={"do": "noise", "as": "log"}))

    assert ended.code == 9
    assert len(ended.termination) <= MESSAGE_BYTES
    assert ended.message.error is not None
    assert all(c.isprintable() or c == "\n" for c in ended.message.error.message)
    assert (ended.folder / "log.txt").stat().st_size > 1_000_000


def test_the_order_to_end_reaches_a_hook_whose_log_nobody_reads(pod: HookPod) -> None:
    contract = job_contract(extra={"do": "mumble", "times": 10_000, "width": 64})
    running = pod.start(contract, SANDBOX_GRACE_SECONDS="0.5")
    log = running.wait_for("log.txt")
    while log.stat().st_size < 65536:  # from then on the pipe to the reader is full, and so is the hook's
        time.sleep(0.01)
    running.process.send_signal(signal.SIGTERM)
    running.wait_for("result.json")
    assert running.process.stdout is not None
    running.process.stdout.close()

    assert running.process.wait(60) == 143


def test_a_reader_that_lags_misses_nothing(pod: HookPod) -> None:
    running = pod.start(job_contract(extra={"do": "mumble", "times": 30, "width": 256}))
    log = running.wait_for("log.txt")
    while log.stat().st_size < 65536:
        time.sleep(0.01)
    assert running.process.stdout is not None
    read = running.process.stdout.buffer.read()

    assert running.process.wait(60) == 0
    assert read.count(bytes(range(256))) == 30 * 256
    assert log.read_bytes().count(bytes(range(256))) == 30 * 256


def test_a_full_volume_for_the_log_does_not_stop_the_hook(pod: HookPod) -> None:
    contract = job_contract(extra={"do": "native", "write": 200_000})
    log = pod.folder_of(contract, pod.next_uid) / "log.txt"
    log.parent.mkdir(parents=True)
    log.symlink_to("/dev/full")

    ended = pod.run(contract)

    assert ended.code == 0
    assert "ends here: [Errno 28] No space left on device" in ended.log
    assert ended.log.count("x") >= 199_999


def death(code: int, *, stopped: Stopped | None = None, killed: int = 0, peak: int | None = None) -> Death:
    return Death(code, stopped, killed, peak, "the last line\n", started_at=0.0, hook_seconds=1.0)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_process_that_the_kernel_killed_for_memory_is_told_with_limit_and_peak(tmp_path: Path, version: str) -> None:
    own, names = tmp_path, ("memory.events", "memory.max", "memory.peak")
    (tmp_path / "cgroup.controllers").write_text("memory\n")
    if version == "v1":
        (tmp_path / "cgroup.controllers").unlink()
        own, names = tmp_path / "memory", ("memory.oom_control", "memory.limit_in_bytes", "memory.max_usage_in_bytes")
    own.mkdir(exist_ok=True)
    (own / names[0]).write_text("oom_kill 1\n")
    (own / names[1]).write_text(f"{96 * MIB}\n")
    memory = Memory(tmp_path, tmp_path / "membership")

    error, code = error_of_death(death(-9, killed=1, peak=90 * MIB), memory)
    assert (error.class_, error.type, code) == ("OutOfMemory", "OOMKilled", 1)
    assert error.message == (
        "out of memory: limit 96 MiB, peak 90 MiB; the hook's process was killed by SIGKILL (killed); it printed last:\nthe last line"
    )

    (own / names[2]).write_text(f"{96 * MIB}\n")
    error, _ = error_of_death(death(1, killed=1, peak=90 * MIB), memory)
    assert error.message.startswith(
        "out of memory: limit 96 MiB, peak 96 MiB; the hook's process ended with exit code 1;"
    )


def test_an_order_to_end_explains_what_came_after_it(tmp_path: Path) -> None:
    stopped = Stopped("Preempted", "SIGTERM", "the pod was told to end (SIGTERM)")

    for code in (0, 1, -11, 77):
        error, exit_code = error_of_death(death(code, stopped=stopped, killed=1), Memory(tmp_path, tmp_path))
        assert (error.class_, error.message, exit_code) == ("Preempted", str(stopped), 143)
