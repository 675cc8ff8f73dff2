# SPDX-License-Identifier: Apache-2.0
"""How a pod tells of its way: what it reads in metrics.jsonl, and a real server that takes, refuses, hangs or has gone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.hook_pod import HookPod, job_contract
from tests.listener import Listener, listening

from sandbox_api.contract import ProgressTarget, Rungs
from sandbox_api.progress import MAX_FIGURES, ProgressReport
from sandbox_runtime.progress import Followed, Pace, Reporter

QUICK = Pace(first=0.0, look=0.01, interval=0.01, longest=0.05, again=0.01, answer=0.3, last=30.0)
RUNGS = {"metric": "toy.loss", "resource": "toy.step", "at": [2, 4]}


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    async with listening() as found:
        yield found


class Pod:
    """A metrics.jsonl that a test writes, and the reporter that follows it."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "metrics.jsonl"
        self.token = folder / "token"
        self.token.write_text("first\n")
        self.notes: list[str] = []
        self.reporters: list[Reporter] = []

    def start(self, url: str, rungs: dict[str, Any] | None = None, **pace: float) -> Reporter:
        told = {"url": url, "pod": "uid", "job": "a/1/probe/0", "attempt": 1, "tellers": 1, "prefix": "toy"}
        told |= {"rungs": rungs, "metrics": str(self.file)}
        reporter = Reporter(told, self.token, self.notes.append, pace=Pace(**{**vars(QUICK), **pace}))
        self.reporters.append(reporter)
        reporter.start()
        return reporter

    def log(self, step: int, **figures: float) -> None:
        with self.file.open("a") as file:
            named = {f"toy.{name}": value for name, value in figures.items()}
            file.write(json.dumps({"t": 100.0 + step, "step": step, "total": 10, **named}) + "\n")


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Pod]:
    made = Pod(tmp_path)
    yield made
    for reporter in made.reporters:
        reporter.end()


async def ended(reporter: Reporter) -> None:
    reporter.end()
    await asyncio.to_thread(reporter.wait)


def followed(*lines: object, rungs: dict[str, Any] | None = None) -> Followed:
    found = Followed("toy", rungs)
    for line in lines:
        found.take(line if isinstance(line, bytes) else json.dumps(line).encode())
    return found


def test_the_newest_of_each_figure_counts_and_names_lose_the_metaname() -> None:
    found = followed(
        {"t": 1, "step": 1, "toy.loss": 3.0, "toy.lr": 0.1},
        {"t": 2, "step": 2, "total": 8, "toy.loss": 2.0},
        {"t": 4, "step": 2, "toy.heldout_loss": 2.5},
    )
    assert (found.step, found.total, found.t) == (2, 8, 4)
    assert found.metrics == {"heldout_loss": 2.5, "loss": 2.0, "lr": 0.1}
    assert list(found.metrics) == ["heldout_loss", "loss", "lr"], "the newest first"


def test_a_line_that_is_none_is_left_out_and_many_figures_are_cut() -> None:
    many = {f"toy.f{number:02d}": 1.0 for number in range(20)}
    found = followed(
        b"no json", b"[1]", b'{"step": "x", "toy.a": NaN, "toy.b": true}', {"toy.c": 10**400}, {"t": 1, "step": 1, **many},
        b'"half',
    )  # fmt: skip
    assert found.step == 1
    assert list(found.metrics) == [f"f{number:02d}" for number in range(MAX_FIGURES)]


def test_the_end_is_told_from_the_last_steps_and_not_before_two_of_them() -> None:
    lines = [{"t": 100 + 2 * step, "step": step, "total": 10} for step in (1, 2, 3)]
    assert followed(lines[0]).seconds_left is None
    assert followed(*lines).seconds_left == 14.0
    assert followed(*lines, {"t": 200, "step": 1, "total": 10}).seconds_left is None, "another part has begun"
    assert followed({"t": 1, "step": 1}, {"t": 2, "step": 2}).seconds_left is None, "nobody knows how many there are"


def test_each_rung_has_the_metric_at_the_first_line_that_came_there() -> None:
    lines: list[object] = [{"step": step, "toy.loss": 1 / step} for step in (1, 2, 3)]
    assert followed(*lines, rungs=RUNGS).reached == {2: 1 / 2}
    assert followed(*lines, {"step": 9, "toy.loss": 0.1}, rungs=RUNGS).reached == {2: 1 / 2, 4: 0.1}
    apart = [{"step": 5}, {"toy.other": 1.0}, {"toy.loss": 7.0}, {"toy.loss": 6.0}]
    assert followed(*apart, rungs=RUNGS).reached == {2: 7.0, 4: 7.0}, "two rungs are two values, however far it went"
    tokens = {"metric": "toy.loss", "resource": "toy.tokens", "at": [10]}
    assert followed({"step": 50, "toy.loss": 1.0, "toy.tokens": 3}, rungs=tokens).reached == {}


@pytest.mark.parametrize(
    "line",
    [
        {"step": 3, "_notFinite": ["toy.other", "toy.loss"]},  # as the runtime writes it
        b'{"step": 3, "toy.loss": NaN}',  # as a program of a user's may
        b'{"step": 3, "toy.loss": -Infinity}',
        {"step": 3, "toy.loss": 10**400},
    ],
    ids=str,
)
def test_a_metric_that_is_no_finite_number_at_a_rung_is_told_as_such(line: object) -> None:
    found = followed({"step": 1, "toy.loss": 2.0}, line, {"step": 4, "toy.loss": 1.0}, rungs=RUNGS)
    assert found.reached == {2: None, 4: 1.0}, "the first line there counts"
    assert found.metrics == {"loss": 1.0}
    before = {"step": 1, "toy.loss": 2.0, "toy.lr": 0.5}
    assert followed(before, line).metrics == {"lr": 0.5}, "the last good one is not how it is"


@pytest.mark.parametrize("named", [None, 5, {}, "toy.loss", [None, {}, ["toy.loss"]]], ids=str)
def test_a_line_that_names_nothing_is_no_rung(named: object) -> None:
    assert followed({"step": 3, "_notFinite": named}, rungs=RUNGS).reached == {}


async def test_a_report_says_all_that_the_operator_reads(pod: Pod, listener: Listener) -> None:
    for step in (1, 2, 3):
        pod.log(step, loss=1 / step)
    await ended(pod.start(listener.url))
    report = ProgressReport.model_validate(listener.reports[-1])
    assert (report.pod, report.job, report.attempt, report.tellers) == ("uid", "a/1/probe/0", 1, 1)
    assert (report.step, report.total, report.t, report.seconds_left) == (3, 10, 103.0, 7.0)
    assert report.metrics == {"loss": 1 / 3}
    assert set(listener.reports[-1]) <= {field.alias for field in ProgressReport.model_fields.values()}


async def test_nothing_is_told_while_nothing_is_logged_nor_of_a_line_that_is_not_whole(
    pod: Pod, listener: Listener
) -> None:
    pod.file.write_text('{"t": 1, "step": 1}\n{"t": 2, "step')
    reporter = pod.start(listener.url)
    await listener.heard(lambda report: report["step"] == 1)
    with pod.file.open("a") as file:
        file.write('": 2}\n')
    await listener.heard(lambda report: report["step"] == 2)
    await ended(reporter)
    assert [report["step"] for report in listener.reports] == [1, 2]
    pod.file.unlink()
    await ended(pod.start(listener.url))
    assert len(listener.reports) == 2


async def test_the_token_is_read_anew_for_each_report(pod: Pod, listener: Listener) -> None:
    pod.log(1)
    reporter = pod.start(listener.url)
    await listener.heard(lambda report: report["step"] == 1)
    pod.token.write_text("second\n")
    pod.log(2)
    await listener.heard(lambda report: report["step"] == 2)
    await ended(reporter)
    assert listener.tokens == ["Bearer first", "Bearer second"]


async def test_the_interval_of_the_answer_is_obeyed_but_for_the_last_word(pod: Pod, listener: Listener) -> None:
    listener.answer = lambda _: (200, {"interval": 3600})
    pod.log(1)
    reporter = pod.start(listener.url)
    await listener.heard(lambda report: report["step"] == 1)
    for step in range(2, 50):
        pod.log(step)
        await asyncio.sleep(0)
    await ended(reporter)
    assert [report["step"] for report in listener.reports] == [1, 49]


async def test_a_rung_is_told_at_once_and_until_it_is_acknowledged(pod: Pod, listener: Listener) -> None:
    """Whatever the interval; and two rungs that are reached in one step are two values."""
    acknowledged: list[int] = []
    listener.answer = lambda _: (
        200,
        {"interval": 0.02 if len(listener.reports) > 2 else 3600, "acknowledged": acknowledged},
    )
    pod.log(1, loss=9.0)
    reporter = pod.start(listener.url, RUNGS)
    assert (await listener.heard(lambda report: report["step"] == 1))["rungs"] == []
    pod.log(2, loss=5.0)
    await listener.heard(lambda report: report["rungs"] == [{"rung": 2, "value": 5.0}])
    pod.log(7, loss=3.0)
    both = [{"rung": 2, "value": 5.0}, {"rung": 4, "value": 3.0}]
    await listener.heard(lambda report: report["rungs"] == both)
    again = len(listener.reports)
    await listener.heard(lambda _: any(report["rungs"] == both for report in listener.reports[again:]))
    acknowledged.append(2)
    await listener.heard(lambda report: report["rungs"] == both[1:])
    acknowledged.append(4)
    pod.log(8, loss=2.0)
    await listener.heard(lambda report: report["step"] == 8)
    pod.log(9, loss=2.0)
    assert (await listener.heard(lambda report: report["step"] == 9))["rungs"] == []
    await ended(reporter)


async def test_a_rung_without_a_finite_number_is_told_at_once_too(pod: Pod, listener: Listener) -> None:
    listener.answer = lambda _: (200, {"interval": 3600})
    pod.log(1, loss=9.0)
    reporter = pod.start(listener.url, RUNGS)
    await listener.heard(lambda report: report["step"] == 1)
    pod.log(2, loss=float("nan"))
    told = await listener.heard(lambda report: report["rungs"])
    assert told["rungs"] == [{"rung": 2, "value": None}]
    assert ProgressReport.model_validate(told).rungs[0].value is None
    await ended(reporter)


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        ((401, "the token does not count: signature has expired"), "answered with 401: the token does not count"),
        ((500, "oh"), "answered with 500: oh"),
        ((302, "elsewhere"), "answered with 302"),
        ((503, "this operator stands by"), "answered with 503: this operator stands by"),
        ("hang up", "is not told, and the hook goes on"),
        ("hang", "TimeoutError"),
        ((200, "this is no answer"), None),
    ],
)
async def test_whoever_answers_oddly_is_asked_again_and_hears_the_newest(
    pod: Pod, listener: Listener, trouble: Any, told: str | None
) -> None:
    listener.answer = lambda _: trouble
    pod.log(1)
    reporter = pod.start(listener.url)
    await listener.heard(lambda report: report["step"] == 1)
    if told is not None:
        await listener.heard(lambda _: len(listener.reports) > 2)
    listener.answer = lambda _: (200, {"interval": 0})
    pod.log(2)
    await listener.heard(lambda report: report["step"] == 2)
    await ended(reporter)
    if told is None:
        assert pod.notes == []
    else:
        assert told in pod.notes[0]
        assert pod.notes[1:] == ["progress is told again"], "once, however often it was tried"


async def test_without_a_token_or_without_anybody_there_the_reason_is_noted(pod: Pod) -> None:
    pod.log(1)
    pod.token.unlink()
    reporter = pod.start("http://127.0.0.1:1/v1/progress")
    await ended(reporter)
    assert "FileNotFoundError" in pod.notes[0]
    pod.token.write_text("first")
    await ended(pod.start("http://127.0.0.1:1/v1/progress"))
    assert "ConnectionRefusedError" in pod.notes[-1]


async def test_a_server_that_never_answers_does_not_hold_the_end(pod: Pod, listener: Listener) -> None:
    listener.answer = lambda _: "hang"
    pod.log(1)
    reporter = pod.start(listener.url, answer=3600, last=0.2)
    await listener.heard(lambda report: report["step"] == 1)
    await ended(reporter)
    assert reporter._thread.is_alive(), "it was left where it was"


async def test_a_pod_tells_of_its_hook_while_it_runs_and_when_it_has_ended(tmp_path: Path, listener: Listener) -> None:
    """The real runtime: the supervisor tells, in the words of the job's contract, and says once what went wrong."""
    (tmp_path / "token").write_text("a token")
    rungs = Rungs(metric="toy.loss", resource="toy.step", at=[2])
    extra = {"do": "train", "losses": [3.0, 2.0, 1.0], "at": 2, "after": str(tmp_path / "heard")}
    contract = job_contract(extra=extra, progress=ProgressTarget(url=listener.url, rungs=rungs), attempt=3)
    running = HookPod(tmp_path).start(contract, SANDBOX_PROGRESS_TOKEN=str(tmp_path / "token"))
    first = await listener.heard(lambda report: report["rungs"])
    assert (first["attempt"], first["step"], first["total"]) == (3, 2, 3)
    assert (first["rungs"], first["metrics"]) == ([{"rung": 2, "value": 2.0}], {"loss": 2.0})
    (tmp_path / "heard").touch()
    end = await asyncio.to_thread(running.end)
    assert end.code == 0, end.log
    assert listener.reports[-1]["step"] == 3, "its last word"
    assert {report["pod"] for report in listener.reports} == {running.uid}
    assert set(listener.tokens) == {"Bearer a token"}


@pytest.mark.parametrize("trouble", ["hang", "hang up", "nobody"])
async def test_an_endpoint_that_fails_changes_nothing_of_a_job(
    tmp_path: Path, listener: Listener, trouble: str
) -> None:
    (tmp_path / "token").write_text("a token")
    listener.answer = lambda _: trouble
    url = "http://127.0.0.1:1/v1/progress" if trouble == "nobody" else listener.url
    contract = job_contract(extra={"do": "train", "losses": [2.0, 1.0]}, progress=ProgressTarget(url=url))
    environ = {"SANDBOX_PROGRESS_TOKEN": str(tmp_path / "token")}
    end = await asyncio.to_thread(HookPod(tmp_path).run, contract, **environ)
    assert end.code == 0, end.log
    assert end.result.metrics == {"toy.loss": 1.0}
    assert "rogress" not in end.log, "the job's own log is its user's"
    if trouble != "hang":
        assert "progress is not told, and the hook goes on" in (end.folder / "events.jsonl").read_text()
