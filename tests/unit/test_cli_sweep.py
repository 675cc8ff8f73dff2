# SPDX-License-Identifier: Apache-2.0
"""`sandboxctl sweep verify` and `sweep report`, from files as `kubectl get -o yaml` prints them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.progress import DEEP
from tests.unit.sweep_dumps import FILTERS, TRAINING, a_dump, with_early_stopping, written
from tests.unit.sweeps import bowl
from typer.testing import CliRunner, Result

from sandbox_operator.cli.main import app

EARLY = {"type": "hyperband", "min_iter": 1, "max_iter": 9, "eta": 3}
EVIL = ["<script>alert(1)</script>", "</script><img src=http://x onerror=1>", [1, 2], {"a": True}]


def sweep(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["sweep", *map(str, arguments)])


def report(folder: Path, dump: list[dict[str, Any]], name: str = "find") -> str:
    made = sweep("report", name, "-f", written(folder, dump), "-o", folder / "report.html")
    assert made.exit_code == 0, made.output
    return (folder / "report.html").read_text()


def test_a_sweep_as_the_operator_leaves_it_is_verified(tmp_path: Path) -> None:
    file = tmp_path / "dump.yaml"
    file.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": a_dump(14)}))

    done = sweep("verify", "find", "-f", file)
    assert done.exit_code == 0, done.output
    assert done.stdout == "find: 14 trials, each suggestion follows from what its trial saw\n"


def test_the_trial_that_differs_is_named_and_the_exit_code_says_so(tmp_path: Path) -> None:
    dump = a_dump(14)
    dump[13]["spec"]["trial"]["parameters"]["text_length_filter.min_len"] = 17
    done = sweep("verify", "find", "-f", written(tmp_path, dump))

    assert done.exit_code == 1
    assert done.stdout.startswith("trial 12 (find-0012): has text_length_filter.min_len = 17, its point gives ")
    assert "find: 1 thing in 14 trials does not follow from what is recorded" in done.stderr


def test_a_trial_of_an_earlier_sweep_of_the_name_is_none_of_it(tmp_path: Path) -> None:
    dump = a_dump(3)
    stranger = json.loads(json.dumps(dump[1]))
    stranger["metadata"]["ownerReferences"][0]["uid"] = "another"
    done = sweep("verify", "find", "-f", written(tmp_path, [*dump, stranger]))

    assert done.stdout == "find: 3 trials, each suggestion follows from what its trial saw\n"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda dump: dump[1:], "find: the SandboxSweep is not in "),
        (lambda dump: [dump[0], *dump], "find: the SandboxSweep is there 2 times (say which with --namespace) in "),
        (lambda dump: [{**dump[0], "spec": {**dump[0]["spec"], "parameters": {}}}], "find: spec.parameters: is empty"),
        (lambda dump: [dump[0], {**dump[1], "status": {"jobs": 3}}], "find: find-0000: status.jobs: write a list"),
    ],
)
def test_what_can_not_be_read_is_told_in_a_sentence(tmp_path: Path, change: Any, said: str) -> None:
    done = sweep("verify", "find", "-f", written(tmp_path, change(a_dump(2))))

    assert done.exit_code == 1
    assert done.stderr.startswith(said)


def places(tree: Any, *path: int | str) -> Iterator[tuple[int | str, ...]]:
    """Every place in what JSON holds."""
    yield path
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        yield from places(value, *path, key)


def damaged(dump: list[dict[str, Any]], path: Sequence[int | str], value: Any) -> list[dict[str, Any]]:
    """The same with another value in a place; with MISSING, without it."""
    dump = json.loads(json.dumps(dump))
    at: Any = dump
    for key in path[:-1]:
        at = at[key]
    if value is MISSING:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return dump


MISSING = object()


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("spec",), "x", "find: spec: write keys and values, not 'x'"),
        (("metadata", "uid"), MISSING, "find: metadata.uid: is missing"),
        (("status", "counts"), 3, "find: status.counts: write keys and values"),
    ],
)
def test_a_damaged_sweep_is_told_with_its_field(tmp_path: Path, path: Any, value: Any, said: str) -> None:
    done = sweep("verify", "find", "-f", written(tmp_path, damaged(a_dump(2), (0, *path), value)))

    assert done.exit_code == 1
    assert done.stderr.startswith(f"find: {said}")


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("metadata",), "x", "a SandboxExperiment: metadata: write keys and values, not 'x'"),
        (("metadata", "name"), MISSING, "a SandboxExperiment: metadata.name: is missing"),
        (("metadata", "labels"), "x", "find-0001: metadata.labels: write keys and values, not 'x'"),
        (("metadata", "ownerReferences"), "x", "find-0001: metadata.ownerReferences: write a list, not 'x'"),
        (("metadata", "ownerReferences", 0), 1, "find-0001: metadata.ownerReferences[0]: write keys and values, not 1"),
        (("metadata", "ownerReferences", 0, "name"), MISSING, "find-0001: metadata.ownerReferences[0].name: is missing"),
        (("metadata", "ownerReferences", 0, "uid"), 3, "find-0001: metadata.ownerReferences[0].uid: write text, not 3"),
        (("spec",), "x", "find-0001: spec: write keys and values, not 'x'"),
        (("spec", "trial"), MISSING, "find-0001: spec.trial: is missing, which each experiment of a sweep has"),
        (("spec", "trial"), "x", "find-0001: spec.trial: write keys and values"),
        (("spec", "trial", "number"), True, "find-0001: spec.trial.number: write a whole number"),
        (("spec", "trial", "number"), 10**12, "find-0001: spec.trial.number: 1000000000000 is too large"),
        (("spec", "trial", "parameters"), [1], "find-0001: spec.trial.parameters: write keys and values"),
        (("spec", "trial", "point"), ["x"], "find-0001: spec.trial.point[0]: write a number, not 'x'"),
        (("status", "trial", "decisions"), 7, "find-0001: status.trial.decisions: write a list"),
    ],
)  # fmt: skip
def test_a_damaged_trial_is_told_with_its_field(tmp_path: Path, path: Any, value: Any, said: str) -> None:
    dump = a_dump(2, method="random")
    with_early_stopping(dump, EARLY)
    done = sweep("verify", "find", "-f", written(tmp_path, damaged(dump, (2, *path), value)))

    assert done.exit_code == 1
    assert done.stderr.startswith(f"find: {said}")


WHOLE = a_dump(4, method="random")
with_early_stopping(WHOLE, EARLY)
DAMAGE = [MISSING, None, True, 0, -1, 0.5, 10**400, "", "x", [], ["x"], [{}], {}, {"x": 1}]
damage = given(st.sampled_from([path for path in places(WHOLE) if path]), st.sampled_from(DAMAGE))


@settings(max_examples=2000 if DEEP else 40)
@damage
def test_whatever_is_damaged_there_is_a_verdict_or_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, path: tuple[int | str, ...], value: Any
) -> None:
    folder = tmp_path_factory.getbasetemp()
    done = sweep("verify", "find", "-f", written(folder, damaged(WHOLE, path, value)))

    assert done.exit_code in (0, 1), done.exception
    assert done.exception is None or isinstance(done.exception, SystemExit)
    assert done.output.startswith("find: ") or done.exit_code == 1
    assert done.output.strip()


@settings(max_examples=2000 if DEEP else 20)
@damage
def test_whatever_is_damaged_there_is_a_report_or_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, path: tuple[int | str, ...], value: Any
) -> None:
    folder = tmp_path_factory.getbasetemp()
    page = folder / "damaged.html"
    page.unlink(missing_ok=True)
    done = sweep("report", "find", "-f", written(folder, damaged(WHOLE, path, value)), "-o", page)

    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert (done.exit_code == 0) == page.exists()
    assert done.output.strip()


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        (0, "trials 0 to 3: are missing, the sweep's status counts 4"),
        (3, "trial 3: is missing, the sweep's status counts 4"),
    ],
)
def test_trials_that_the_status_counts_and_nobody_has_are_missed(tmp_path: Path, kept: int, said: str) -> None:
    dump = a_dump(4)
    counts = {"total": 4, "running": 0, "succeeded": 4, "failed": 0, "pruned": 0}
    dump[0]["status"] = {**dump[0].get("status", {}), "counts": counts}
    done = sweep("verify", "find", "-f", written(tmp_path, dump[: 1 + kept]))

    assert done.exit_code == 1
    assert done.stdout.splitlines() == [said]


def test_without_a_trial_nothing_is_proved(tmp_path: Path) -> None:
    done = sweep("verify", "find", "-f", written(tmp_path, [{**a_dump(1)[0], "status": {}}]))

    assert done.exit_code == 1
    assert done.stderr.startswith("find: no trial is there, so there is nothing to prove")


def test_decisions_of_early_stopping_are_made_again_and_shown_in_the_report(tmp_path: Path) -> None:
    dump = a_dump(9, method="random")
    decisions = with_early_stopping(dump, EARLY)
    file = written(tmp_path, dump)
    stopped = [trial for trial, made in decisions.items() if made[-1][1] == "Stop"]
    assert 0 < len(stopped) < 9
    assert decisions[0] == [(1, "Continue"), (3, "Continue")]  # the first to come

    done = sweep("verify", "find", "-f", file)
    count = sum(map(len, decisions.values()))
    assert done.stdout == (
        f"find: 9 trials, each suggestion follows from what its trial saw, and {count} decisions of early stopping\n"
    )
    text = Seen(report(tmp_path, dump)).text
    assert text.count("Pruned at 1") == sum(len(decisions[trial]) == 1 for trial in stopped)
    assert "hyperband, the best 1/3 of a rung go on" in text


def test_a_trial_that_was_stopped_without_a_number_is_proved_and_told_as_such(tmp_path: Path) -> None:
    dump = a_dump(9, method="random")
    with_early_stopping(dump, EARLY)
    stop = {"rung": 1, "seen": 8, "decision": "Stop"}
    dump[-1]["status"] |= {"outcome": "Stopped", "trial": {"pruned": True, "decisions": [stop]}}

    done = sweep("verify", "find", "-f", written(tmp_path, dump))
    assert (done.exit_code, done.stdout.count("\n")) == (0, 1), done.stdout
    text = Seen(report(tmp_path, dump)).text
    assert "MetricNotFinite: it was no finite number at 1" in text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"decision": "Stop"}, "after 8 others, Continue is right, and Stop is recorded"),
        ({"seen": 7}, "at rung 1 it has seen 7 others, but 8 came before it"),
        ({"value": None}, "at rung 1 with no finite number after 8 others, Stop is right, and Continue is recorded"),
        ({"value": 99.0}, "at rung 1 with 99.0 after 8 others, Stop is right, and Continue is recorded"),
    ],
)
def test_a_decision_that_was_changed_afterwards_is_found(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    dump = a_dump(9, method="random")
    decisions = with_early_stopping(dump, EARLY)
    last = max(trial for trial, made in decisions.items() if made[0][1] == "Continue")
    dump[1 + last]["status"]["trial"]["decisions"][0].update(change)
    done = sweep("verify", "find", "-f", written(tmp_path, dump))

    assert done.exit_code == 1
    assert said in done.stdout
    assert re.search(r"find: \d+ things? in 9 trials do(es)? not follow from what is recorded", done.stderr)


class Seen(HTMLParser):
    """Tags, where they point, and the text outside of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.pointed: list[str] = []
        self.anchors: list[str] = []
        self.words: list[str] = []
        self._stack: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._stack.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "data", "action", "srcset", "poster"):
                self.pointed.append(value or "")
            if name == "id" and value:
                self.anchors.append(value)

    def handle_endtag(self, tag: str) -> None:
        while self._stack and self._stack.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self._stack):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def charts_in(text: str) -> list[str]:
    """Titles of the sections that have a drawing."""
    return [
        title for title, rest in re.findall(r"<h2>([^<]+)</h2>(.*?)(?=<h2>|$)", text, re.S) if "Plotly.newPlot" in rest
    ]


def test_a_report_that_can_not_be_written_is_told_in_a_sentence(tmp_path: Path) -> None:
    nowhere = tmp_path / "nonexist"
    told = sweep("report", "find", "-f", written(tmp_path, a_dump(1)), "-o", nowhere / "x")
    assert (told.exit_code, told.output) == (1, f"--output: there is no folder {nowhere}; make it first\n")
    told = sweep("report", "find", "-f", written(tmp_path, a_dump(1)), "-o", tmp_path)
    assert (told.exit_code, told.output) == (1, f"--output: {tmp_path} can't be written: is a directory\n")


def test_a_report_has_the_charts_the_trials_and_the_settings_and_points_nowhere_else(tmp_path: Path) -> None:
    text = report(tmp_path, a_dump(24, fates=3))
    page = Seen(text)

    assert charts_in(text) == ["History", "Parallel coordinates", "Importance of parameters", "Value by parameter"]
    assert [point for point in page.pointed if not point.startswith("#")] == []
    assert {point.removeprefix("#") for point in page.pointed} <= set(page.anchors)
    assert page.anchors.count("trial-find-0007") == 1
    assert "link" not in page.tags
    assert "sendChartToCloud" in text.rpartition("</script>")[0][-4000:]  # taken out, in the last chart too
    for words in (
        "24 of 24 trials",
        "bayes",
        "process.rows_out, minimize",
        "16 to 8192, multiples of 1",
        "Pruned at 3",
    ):
        assert words in page.text, words


def test_what_users_write_can_not_become_part_of_the_page(tmp_path: Path) -> None:
    parameters = {
        "text_length_filter.text_key": {"values": EVIL},
        "character_repetition_filter.max_ratio": FILTERS["character_repetition_filter.max_ratio"],
    }
    text = report(tmp_path, a_dump(12, fates=1, parameters=parameters, description="<i onclick=x>hi</i>"))
    page = Seen(text)

    assert "img" not in page.tags
    assert "i" not in page.tags
    assert page.tags.count("script") == text.count("</script>")
    assert "<script>alert(1)</script>" in page.text
    assert "<i onclick=x>hi</i>" in page.text
    drawn = "".join(re.findall(r"Plotly\.newPlot\(.*?</script>", text, re.S))
    assert "<script>alert" not in drawn
    assert "<img" not in drawn


def test_a_search_that_found_nothing_yet_still_has_a_report(tmp_path: Path) -> None:
    nothing = Seen(report(tmp_path, a_dump(0))).text
    assert "No trial has begun." in nothing
    assert "No trial has a value yet." in nothing

    failed = a_dump(6)
    for trial in failed[1:]:
        trial["status"] = {"outcome": "Failed", "completionTime": "2026-01-31T12:30:00Z"}
    text = report(tmp_path, failed)
    assert charts_in(text) == []
    assert "No trial has a value: all that ended failed." in Seen(text).text
    assert "No trial has succeeded." in Seen(text).text

    one = report(tmp_path, a_dump(1))
    assert charts_in(one) == ["History", "Parallel coordinates", "Value by parameter"]
    assert "Needs 10 trials that succeeded; there are 1." in Seen(one).text


def test_one_parameter_and_constants_alone_are_fine(tmp_path: Path) -> None:
    name = "text_length_filter.min_len"
    one = report(tmp_path, a_dump(12, parameters={name: FILTERS[name]}))
    assert "There is one parameter to search." in Seen(one).text

    constant = report(tmp_path, a_dump(2, parameters={name: {"value": 20}}))
    assert charts_in(constant) == ["History"]
    assert "All parameters are constants." in Seen(constant).text


def test_a_trial_with_repeats_shows_how_far_they_lie_apart(tmp_path: Path) -> None:
    dump = a_dump(
        4, template=TRAINING, metric={"name": "judge.accuracy", "goal": "maximize"}, spread=0.05,
        parameters={"train.extraConfigs.train.max_epochs": {"min": 1, "max": 40}}, objective=lambda point: 1 - bowl(point),
    )  # fmt: skip
    text = report(tmp_path, dump)

    assert "Spread over repeats" in charts_in(text)
    [drawn] = re.findall(
        r"<h2>Spread over repeats</h2>.*?Plotly\.newPlot\(\s*\"[^\"]+\",\s*(\[.*?\}\]),\s*\{", text, re.S
    )
    repeats, means = json.loads(drawn)
    assert len(repeats["x"]) == 12
    assert len(means["x"]) == 4


def test_commands_that_search_nothing_import_nothing_that_does() -> None:
    """It takes seconds, and is not in the images of hooks, which convert and plan run in as well."""
    told = "import sys, sandbox_operator.cli.main; print({'optuna', 'plotly', 'scipy'} & {*sys.modules})"
    found = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
