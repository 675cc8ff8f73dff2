# SPDX-License-Identifier: Apache-2.0
"""`sandboxctl wandb sync --folder`: the exporter in a process of this machine, on a local run's folder."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tests.exports import KEY, NAME, UID, Volume
from tests.fake_wandb import FakeWandb
from tests.unit.builders import a_spec
from typer.testing import CliRunner

from sandbox_api.status import ExperimentStatus, WorkspaceStatus
from sandbox_operator.cli.local_folder import LocalFolder, Stored
from sandbox_operator.cli.main import app

AT = "2026-01-01T00:00:00Z"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalFolder:
    """Of a run that has ended, with three lines."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    made = LocalFolder(tmp_path / "run")
    made.lock()
    made.close()
    made.write_status(
        ExperimentStatus(
            outcome="Succeeded", start_time=AT, completion_time=AT, workspace=WorkspaceStatus(claim_name="c", path="p")
        )
    )
    Volume(made.workspace).log([1, 2, 3])
    return made


def test_a_local_run_is_exported_afterwards_and_twice_is_as_good_as_once(folder: LocalFolder) -> None:
    with FakeWandb().serving() as server:
        spec = a_spec(tracking={"wandb": {"baseUrl": server.url}}, projectName="mine")
        folder.write_experiment(Stored(NAME, "local", UID, 1, spec))
        for _ in range(2):
            answer = CliRunner().invoke(app, ["wandb", "sync", NAME, "--folder", str(folder.root)])
            assert answer.exit_code == 0, answer.output
            assert server.run.values("train.loss") == [10.0, 20.0, 30.0]
        assert (server.run.project, server.run.exit_code) == ("mine", 0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"completion_time": None, "outcome": "Running"}, "demo has not ended yet; go on with `run --local --resume`"),
        ({"start_time": None}, "demo has not started yet; there is nothing to export"),
    ],
)
def test_what_can_not_be_exported_yet_is_said(folder: LocalFolder, changes: dict[str, str], said: str) -> None:
    folder.write_experiment(Stored(NAME, "local", UID, 1, a_spec()))
    folder.write_status(folder.read_status().model_copy(update=changes))
    answer = CliRunner().invoke(app, ["wandb", "sync", NAME, "--folder", str(folder.root)])
    assert answer.exit_code == 1
    assert said in answer.output


def test_without_a_key_nothing_is_begun(folder: LocalFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY")
    folder.write_experiment(Stored(NAME, "local", UID, 1, a_spec()))
    answer = CliRunner().invoke(app, ["wandb", "sync", NAME, "--folder", str(folder.root)])
    assert answer.exit_code == 1
    assert "WANDB_API_KEY: is not set" in answer.output


def test_without_wandb_it_says_what_to_install(folder: LocalFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    folder.write_experiment(Stored(NAME, "local", UID, 1, a_spec()))
    answer = CliRunner().invoke(app, ["wandb", "sync", NAME, "--folder", str(folder.root)])
    assert answer.exit_code == 1
    assert "wandb, which is not installed here; install sandbox-operator[cli,tracking]" in answer.output


@pytest.mark.parametrize(
    ("secret", "said"),
    [
        ("wandb", "--secret: write NAME/KEY, not 'wandb'"),
        ("Bad_Name/key", "--secret: write NAME/KEY; name: 'Bad_Name' won't do: write a name as Kubernetes has them"),
        ("a/b/c", "--secret: write NAME/KEY; key: 'b/c' is no key of a Secret; write letters, digits, -, _ and ."),
        ("wandb/my key", "--secret: write NAME/KEY; key: 'my key' is no key of a Secret"),
    ],
)
def test_a_secret_that_can_not_be_one_is_told_in_a_sentence(secret: str, said: str) -> None:
    answer = CliRunner().invoke(app, ["wandb", "sync", NAME, "--secret", secret])
    assert (answer.exit_code, answer.exception.__class__) == (1, SystemExit)
    assert said in answer.output
