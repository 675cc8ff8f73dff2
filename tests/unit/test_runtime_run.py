# SPDX-License-Identifier: Apache-2.0
"""One attempt from contract to exit code, through the real process: what an operator and a user find afterwards."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.hook_pod import PATHS, HookPod, job_contract

from sandbox_api.contract import CONTRACT_ENV, CONTRACT_FILE_ENV, Limits, contract_digest, encode_contract
from sandbox_api.result import MESSAGE_BYTES


@pytest.fixture
def pod(tmp_path: Path) -> HookPod:
    return HookPod(tmp_path)


def test_a_success_is_told_by_result_and_message(pod: HookPod) -> None:
    contract = job_contract(extra={"do": "write", "text": "hello"}, outputs=["text", "seen"], limits=Limits(gpus=2))

    ended = pod.run(contract)

    assert ended.code == 0, ended.log
    result, message = ended.result, ended.message
    assert (result.outcome, result.job, result.attempt) == ("Succeeded", "anonymous/1/probe/0", 1)
    assert result.contract == message.contract == contract_digest(contract)
    assert list(result.outputs) == ["text", "seen", "2"]
    assert ended.output("text").read_text() == "hello"
    assert result.outputs["text"].bytes == 5
    assert result.outputs["text"].rows == 1
    assert result.metrics == {"toy": 7.0, "toy.rows": 3.0}
    assert message.outputs["text"] == result.outputs["text"].path
    assert (message.path, message.bytes) == (
        str((ended.folder / "result.json").relative_to(pod.root)),
        (ended.folder / "result.json").stat().st_size,
    )
    assert ended.reference("text").sha256 == message.sha256
    assert message.message == "1 text written"
    assert result.runtime.gpu_seconds == pytest.approx(2 * (result.runtime.hook_seconds or 0), abs=0.01)
    assert result.runtime.versions["python"].startswith("3.")


def test_a_hook_written_as_the_sandboxs_are_has_its_outputs_by_what_it_returns(pod: HookPod) -> None:
    contract = job_contract("PortedToyHook", extra={"words": ["a", "b"]}, outputs=["table", "words", "name", "path"])

    ended = pod.run(contract)

    assert ended.code == 0, ended.log
    assert ended.output("table").read_text() == "a\nb"
    assert ended.result.outputs["words"].value == ["a", "b"]
    assert ended.result.outputs["name"].value == "toy"
    assert ended.result.outputs["path"].value == "outputs/words.csv"
    assert ended.result.metrics == {"toy.words": 2.0, "toy.told.twice": 4.0}


def test_what_the_hook_and_its_children_print_is_in_the_pods_log_and_on_the_volume(pod: HookPod) -> None:
    ended = pod.run(job_contract(extra={"do": "write"}))

    kept = (ended.folder / "log.txt").read_text()
    for line in ("the hook speaks", "a child speaks", "metrics: left out, not finite: endless"):
        assert line in ended.log
        assert line in kept
    assert [json.loads(line)["event"] for line in (ended.folder / "events.jsonl").read_text().splitlines()] == [
        "started",
        "inputs resolved",
        "hook started",
        "hook ended",
        "ended",
    ]
    (line,) = (ended.folder / "metrics.jsonl").read_text().splitlines()
    found = json.loads(line)
    assert {"step": 1, "toy.loss": 0.5, "_notFinite": ["toy.broken"]}.items() <= found.items()
    assert "toy.broken" not in found


def test_a_figure_that_is_needed_and_not_finite_is_named_in_the_message(pod: HookPod) -> None:
    ended = pod.run(job_contract(extra={"do": "write"}, needs=["endless", "rows"]))

    assert ended.result.not_finite == ["toy.endless"]
    assert (ended.message.not_finite, ended.message.metrics["toy.rows"]) == (["toy.endless"], 3.0)
    assert pod.run(job_contract(index=1, extra={"do": "write"})).message.not_finite == []


def test_a_hook_works_in_the_experiments_folder_and_publishes_under_the_users_name(pod: HookPod) -> None:
    first = pod.run(job_contract(extra={"do": "write", "text": "old", "export_path": "outputs/deep/text.txt"}))
    again = pod.run(job_contract(index=1, extra={"do": "write", "text": "new", "export_path": "outputs/deep/text.txt"}))

    assert first.result.outputs["1"].value["cwd"] == str(pod.experiment)
    link = pod.experiment / "outputs/deep/text.txt"
    assert link.is_symlink()
    assert not link.readlink().is_absolute()
    assert link.read_text() == "new"
    assert first.output("0").read_text() == "old"
    assert (pod.experiment / "jobs/anonymous/1/probe/0/current").resolve() == first.folder
    assert again.code == 0


def test_a_users_own_file_is_never_replaced_by_a_link(pod: HookPod) -> None:
    mine = pod.experiment / "outputs/text.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("precious")

    ended = pod.run(job_contract(extra={"do": "write", "text": "x", "export_path": "outputs/text.txt"}))

    assert ended.code == 0
    assert mine.read_text() == "precious"
    assert "stays" in ended.log


def test_text_that_looks_like_a_variable_arrives_unchanged(pod: HookPod) -> None:
    strange = "$(HOME) $$ $(X) ${HOME} `id` \u202e\u0000 {{x}}"

    ended = pod.run(job_contract(dj={"note": strange}, extra={"do": "write", "text": strange}))

    assert ended.result.outputs["1"].value["dj"] == {"note": strange}
    assert ended.output("0").read_text() == strange


def test_a_long_contract_comes_from_a_file(pod: HookPod, tmp_path: Path) -> None:
    contract = job_contract(extra={"do": "write", "text": "from a file"})
    file = tmp_path / "contract"
    file.write_text(encode_contract(contract))

    ended = pod.run(contract, **{CONTRACT_FILE_ENV: str(file), CONTRACT_ENV: ""})

    assert ended.code == 0, ended.log
    assert ended.output("0").read_text() == "from a file"


@pytest.mark.parametrize("text", ["", "not base64!", "aGVsbG8=", "H4sIAAAAAAAAA6vmAgABAgMEAgAAAA=="])
def test_what_is_no_contract_is_a_config_error_in_words(pod: HookPod, text: str) -> None:
    ended = pod.run(job_contract(), **{CONTRACT_ENV: text})

    assert ended.code == 2
    assert ended.termination.startswith(f"{CONTRACT_ENV}: holds no job contract")
    assert "Traceback" not in ended.log


def test_an_unknown_hook_is_named_with_those_there_are(pod: HookPod) -> None:
    ended = pod.run(job_contract("ProbeViaAnalyserHook"))

    assert ended.code == 2
    error = ended.message.error
    assert error is not None
    assert error.class_ == "Config"
    assert "no hook named 'ProbeViaAnalyserHook'" in error.message
    assert "ProbeViaAnalyzerHook" in error.message
    assert "ToyHook" in error.message


def test_a_hook_that_can_not_be_loaded_says_why(pod: HookPod) -> None:
    ended = pod.run(job_contract("MissingToyHook"))

    assert ended.code == 2
    assert "toy_hooks:Missing" in str(ended.message.error)


def test_settings_are_checked_against_the_hooks_own_model(pod: HookPod) -> None:
    assert pod.run(job_contract("StrictToyHook", extra={"size": 3})).result.outputs["0"].value == 3

    wrong = pod.run(job_contract("StrictToyHook", extra={"size": "big", "colour": "red"}))

    assert wrong.code == 2
    assert wrong.message.error is not None
    assert wrong.message.error.message.splitlines() == [
        "extraConfigs.size: input should be a valid integer, unable to parse string as an integer; it is 'big'",
        "extraConfigs.colour: StrictToyHook has no such setting",
    ]


def test_more_names_than_outputs_is_a_config_error(pod: HookPod) -> None:
    ended = pod.run(job_contract(extra={"do": "write"}, outputs=["a", "b", "c", "d"]))

    assert ended.code == 2
    assert "4 names are given, but ToyHook returns 3" in str(ended.message.error)


def test_a_failure_tells_the_hooks_own_last_error(pod: HookPod) -> None:
    ended = pod.run(job_contract(extra={"do": "fail", "say": "row 7 has no text"}))

    assert ended.code == 1
    assert ended.result.outcome == ended.message.outcome == "Failed"
    error = ended.message.error
    assert error is not None
    assert (error.class_, error.type) == ("User", "ValueError")
    assert error.message.startswith("row 7 has no text (toy_hooks.py:")
    assert "Traceback" in (ended.folder / "log.txt").read_text()


def test_an_error_of_a_megabyte_of_control_characters_leaves_a_readable_message(pod: HookPod) -> None:
    noise = "\x1b[31m\x00\x07\x9b\u202e\ud7ff"
    say = noise * (1_000_000 // len(noise.encode())) + "the end"

    ended = pod.run(job_contract(extra={"do": "fail", "say": say}))

    assert len(say.encode()) > 990_000
    assert ended.code == 1
    assert len(ended.termination) <= MESSAGE_BYTES
    for error in (ended.message.error, ended.result.error):
        assert error is not None
        assert error.message.rpartition(" (")[0].endswith("the end")
        assert "[31m" not in error.message
        assert all(c.isprintable() or c == "\n" for c in error.message)


def test_an_error_of_control_characters_alone_is_named_by_its_type(pod: HookPod) -> None:
    ended = pod.run(job_contract(extra={"do": "fail_in_silence"}))

    assert ended.message.error is not None
    assert ended.message.error.message == "UserError without a readable message"


def test_a_message_that_must_be_cut_keeps_what_the_operator_needs(pod: HookPod) -> None:
    digits = {f"figure_{number}": number / 7 for number in range(2000)}
    contract = job_contract(extra={"do": "write", "figures": digits}, needs=["toy.figure_1999"])

    ended = pod.run(contract)

    assert ended.code == 0
    assert len(ended.termination) <= MESSAGE_BYTES
    assert ended.message.truncated
    assert ended.message.metrics["toy.figure_1999"] == 1999 / 7
    assert list(ended.message.metrics)[:3] == ["toy.figure_1999", "toy", "toy.rows"]
    assert len(ended.result.metrics) == 2002


def test_a_full_volume_is_infra_even_when_a_library_wraps_it(pod: HookPod) -> None:
    ended = pod.run(job_contract(extra={"do": "full"}))

    assert ended.code == 4
    assert ended.message.error is not None
    assert ended.message.error.class_ == "Infra"
    assert "could not save the shard" in ended.message.error.message


def test_a_volume_that_can_not_be_written_is_told_by_the_message_alone(pod: HookPod) -> None:
    pod.root.rmdir()
    pod.root.write_text("this is no folder")

    ended = pod.run(job_contract(extra={"do": "write"}))

    assert ended.code == 4
    assert ended.message.error is not None
    assert ended.message.error.class_ == "Infra"
    assert str(pod.root) in ended.message.error.message
    assert ended.message.sha256 == ""


def test_a_result_that_can_not_be_written_is_no_success(pod: HookPod) -> None:
    ended = pod.run(job_contract(extra={"do": "block_result"}))

    assert ended.code == 4
    assert ended.message.outcome == "Failed"
    assert ended.message.sha256 == ""
    assert ended.message.error is not None
    assert "the result can't be written" in ended.message.error.message


def test_running_out_of_memory_names_the_limit(pod: HookPod) -> None:
    ended = pod.run(job_contract(extra={"do": "memory"}, limits=Limits(memory_bytes=512 * 2**20)))

    assert ended.code == 1
    assert ended.message.error is not None
    assert ended.message.error.class_ == "OutOfMemory"
    assert "limit 512 MiB" in ended.message.error.message


def test_a_hook_that_leaves_by_exit_zero_has_not_succeeded(pod: HookPod) -> None:
    ended = pod.run(job_contract(extra={"do": "leave"}))

    assert ended.code == 1
    assert "ended the process itself" in str(ended.message.error)


def test_a_killed_pod_leaves_no_result_and_no_message_and_the_next_attempt_cleans_up(pod: HookPod) -> None:
    killed = pod.run(job_contract(extra={"do": "kill"}))

    assert killed.code == -signal.SIGKILL
    assert killed.termination == ""
    assert not (killed.folder / "result.json").exists()
    assert (killed.folder / "out/partial.txt").exists()

    ended = pod.run(job_contract(extra={"do": "write"}, attempt=2))

    assert ended.code == 0
    assert not (killed.folder / "out").exists()
    assert (killed.folder / "log.txt").exists()


def test_artifacts_of_failed_attempts_stay_when_the_user_wants_them(pod: HookPod) -> None:
    failed = pod.run(job_contract(extra={"do": "fail", "say": "no", "partial": "half"}, keep_attempts=True))
    pod.run(job_contract(extra={"do": "write"}, attempt=2, keep_attempts=True))

    assert (failed.folder / "out/partial.txt").read_text() == "half"


def test_files_on_the_volume_can_be_written_by_the_group(pod: HookPod) -> None:
    ended = pod.run(job_contract(extra={"do": "write", "text": "x"}))

    assert ended.output("0").stat().st_mode & 0o060 == 0o060
    assert ended.folder.stat().st_mode & 0o070 == 0o070


def test_a_value_that_json_can_not_hold_fails_the_hook_and_not_the_message(pod: HookPod) -> None:
    ended = pod.run(job_contract(extra={"do": "strange"}))

    assert ended.code == 1
    assert "a value that JSON can't hold" in str(ended.message.error)


def test_a_sentence_that_is_no_text_and_an_error_without_words_still_end_with_a_message(pod: HookPod) -> None:
    assert pod.run(job_contract(extra={"do": "surrogate"})).message.message == "wrote caf .jsonl"

    mute = pod.run(job_contract(extra={"do": "mute"}, index=1))
    assert mute.code == 1
    assert mute.message.error is not None
    assert mute.message.error.type == "Mute"


def test_nothing_heavy_is_imported_before_the_hook() -> None:
    program = (
        "import sys, sandbox_runtime.run, sandbox_runtime.hooks as hooks\n"
        "[hooks.load_hook(name) for name in hooks.BUILT_IN]\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    environ = {"PYTHONPATH": os.pathsep.join(str(path) for path in PATHS)}
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True)

    assert "sandbox_runtime" in done.stdout.split()
    heavy = {"data_juicer", "datasets", "numpy", "pandas", "pyarrow", "ray", "torch", "yaml", "matplotlib", "asyncio"}
    assert heavy.isdisjoint(done.stdout.split())
