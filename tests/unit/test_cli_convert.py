# SPDX-License-Identifier: Apache-2.0
"""`sandboxctl convert`: upstream's files and what becomes of them, case by case in `tests/golden/convert`.

A case is a folder: `case.yaml` (what it is about, the file, options, and patterns of what the planner says of it beyond
what this version can't do yet), `in/` (the folder upstream would be started in), `expected.yaml` (unless it can't be
converted) and `expected.txt` (stderr, without the planner's lines). After a change that is meant, write them anew with

    SANDBOX_WRITE_GOLDEN=1 pytest tests/unit/test_cli_convert.py

and read the diff.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from sandbox_operator.cli.main import app
from sandbox_operator.cli.offline import Experiment, read_documents
from sandbox_operator.cli.preview import ExperimentPlan, previewed
from sandbox_operator.plan.sweep_definition import CompiledSweep, compile_sweep

GOLDEN = Path(__file__).resolve().parents[1] / "golden/convert"
NOT_YET = (r"is not in this version yet$", r": this version can't do it yet; ")
"""What the planner may say of any case: it leaves these words when it can do more."""
PLANNER = ("problem: ", "warning: ")


@dataclass(frozen=True)
class Case:
    folder: Path

    @property
    def settings(self) -> dict[str, Any]:
        return dict(yaml.safe_load((self.folder / "case.yaml").read_text()))

    def convert(self, monkeypatch: pytest.MonkeyPatch) -> Result:
        monkeypatch.chdir(self.folder / "in")
        return CliRunner().invoke(app, ["convert", self.settings["file"], *self.settings.get("options", [])])


CASES = [Case(folder) for folder in sorted(GOLDEN.iterdir())]
CONVERTED = [
    case for case in CASES if (case.folder / "expected.yaml").exists() or os.environ.get("SANDBOX_WRITE_GOLDEN")
]


def named(case: Case) -> str:
    return case.folder.name


def golden(path: Path, text: str) -> str:
    """What a golden file holds; written first when that is asked for."""
    if os.environ.get("SANDBOX_WRITE_GOLDEN"):
        if text:
            path.write_text(text)
        else:
            path.unlink(missing_ok=True)
    return path.read_text() if path.exists() else ""


def trial_or_experiment(text: str) -> Experiment:
    """The experiment in a text, or what each trial of the search in it runs."""
    documents = read_documents(text)
    searches = [item for item in documents.others if item["kind"] == "SandboxSweep"]
    found = [Experiment(item["metadata"]["name"], None, item["spec"]["template"]) for item in searches]
    (experiment,) = found or documents.experiments
    return experiment


def judged(text: str) -> ExperimentPlan | CompiledSweep:
    """What is wrong with the experiment or the search in a text."""
    searches = [item for item in read_documents(text).others if item["kind"] == "SandboxSweep"]
    if searches:
        return compile_sweep(searches[0]["spec"], name=searches[0]["metadata"]["name"], uid="any")
    return previewed(trial_or_experiment(text), {}, {})[0]


def lines(result: Result, *, of_the_planner: bool) -> list[str]:
    return [line for line in result.stderr.splitlines() if line.startswith(PLANNER) == of_the_planner]


def test_there_are_cases_of_every_kind() -> None:
    assert len(CONVERTED) >= 15
    assert len(CASES) - len(CONVERTED) >= 3 or os.environ.get("SANDBOX_WRITE_GOLDEN")


@pytest.mark.parametrize("case", CASES, ids=named)
def test_a_file_of_upstream_becomes_what_the_golden_file_says(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    result = case.convert(monkeypatch)

    assert result.stdout == golden(case.folder / "expected.yaml", result.stdout)
    told = "".join(f"{line}\n" for line in lines(result, of_the_planner=False))
    assert told == golden(case.folder / "expected.txt", told)


@pytest.mark.parametrize("case", CASES, ids=named)
def test_the_exit_code_says_whether_the_result_would_run(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    result = case.convert(monkeypatch)
    problems = [line for line in result.stderr.splitlines() if line.startswith(("problem: ", "can't run: "))]

    assert result.exit_code == (1 if problems else 0) if result.stdout else 2
    assert isinstance(result.exception, SystemExit | None)


@pytest.mark.parametrize("case", CONVERTED, ids=named)
def test_the_planner_finds_only_what_this_version_lacks_or_the_case_is_about(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = case.settings.get("planner", [])
    result = case.convert(monkeypatch)
    problems = [line.removeprefix("problem: ") for line in result.stderr.splitlines() if line.startswith("problem: ")]

    unexpected = [p for p in problems if not any(re.search(pattern, p) for pattern in (*NOT_YET, *expected))]
    assert unexpected == []
    assert [pattern for pattern in expected if not any(re.search(pattern, p) for p in problems)] == []


@pytest.mark.parametrize("case", CONVERTED, ids=named)
def test_the_yaml_says_to_sandboxctl_plan_what_it_said_to_the_planner(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = case.convert(monkeypatch)
    plan = judged(result.stdout)

    told = [f"problem: {problem}" for problem in plan.problems] + [f"warning: {words}" for words in plan.warnings]
    assert told == lines(result, of_the_planner=True)


@pytest.mark.parametrize("case", CONVERTED, ids=named)
def test_no_comment_of_the_user_is_lost(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of keys that are dropped without a word (null, or false) apart; such a case names them."""
    lost = set(case.settings.get("lost_comments", []))
    result = case.convert(monkeypatch)
    written = [
        comment
        for path in sorted((case.folder / "in").rglob("*.y*ml"))
        for comment in re.findall(r"(?m)(?:^|\s)# ?(.+?)\s*$", path.read_text())
    ]

    assert {comment for comment in written if comment not in result.stdout} == lost


def converted(folder: Path, text: str, *options: str, name: str = "sandbox.yaml") -> Result:
    file = folder / name
    file.write_text(text)
    return CliRunner().invoke(app, ["convert", str(file), *options])


ONE_JOB = (
    "execution_job_configs: [{hook: ProcessDataHook, dj_configs: {dataset_path: 's3://b/x.jsonl', process: []}}]\n"
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "it is not YAML: while parsing a flow node"),
        ("", "it holds nothing, where keys and values are needed"),
        ("- a", "it holds a list, where keys and values are needed"),
        ("just text", "it holds the value 'just text', where keys and values are needed"),
        ("a: &a [*a]", "an anchor in it holds itself"),
        ("a: .inf", "it holds .inf, which Kubernetes can't store"),
        ("a: !!python/object:os.system {}", "the tag tag:yaml.org,2002:python/object:os.system in line 1 means nothing to Kubernetes"),
        ("a: !!binary aGk=", "is of the type tag:yaml.org,2002:binary, which Kubernetes can't store"),
        ("? [a, b]\n: 1", "a key in line 1 is not a word"),
        ("a: 1\n---\nb: 2", "expected a single document"),
        ("{}", "there is no job in it; write at least one in probe_job_configs"),
        ("probe_job_configs:\nexecution_job_configs: []", "there is no job in it"),
        ("pipelines: {a: {probe_job_configs: }}", "there is no job in it"),
        ("kind: SandboxExperiment\napiVersion: x", "it is a Kubernetes resource already (kind SandboxExperiment)"),
        ("dataset_path: a.jsonl\nprocess: []", "it is a recipe of Data-Juicer, not a configuration of its sandbox"),
        ("hook: ProcessDataHook", "it is a single job; convert the configuration whose job list names it"),
        ("method: bayes\nparameters: {}", "it is the definition of a search (what hpo_config names) and does not say what is to run;"),
        ("experment_name: x", "experment_name: the sandbox has no such setting; did you mean 'experiment_name'?"),
        (f"iter_updater: [a]\n{ONE_JOB}", "iter_updater: write `<pipeline>.<meta_name>.<output>: "),
        ("pipelines: text", "pipelines: write a list of `<name>: {<job lists>}`"),
    ],
)  # fmt: skip
def test_a_file_that_is_none_of_upstreams_is_refused_with_a_sentence(tmp_path: Path, text: str, said: str) -> None:
    result = converted(tmp_path, text)

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"{tmp_path}/sandbox.yaml: ")
    assert said in result.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [('{"a": }', "it is not JSON: Expecting value"), ('{"a": NaN}', "it holds NaN"), ("[]", "it holds a list")],
)
def test_json_that_is_none_is_refused_with_a_sentence(tmp_path: Path, text: str, said: str) -> None:
    result = converted(tmp_path, text, name="sandbox.json")

    assert result.exit_code == 2
    assert said in result.stderr


def test_a_file_that_is_not_text_is_refused_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "sandbox.yaml").write_bytes(b"\xff\xfe\x00")
    result = CliRunner().invoke(app, ["convert", str(tmp_path / "sandbox.yaml")])

    assert (result.exit_code, "it is not text (UTF-8)" in result.stderr) == (2, True)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["convert", str(tmp_path / "nowhere.yaml")], env={"COLUMNS": "200"})

    assert result.exit_code == 2
    assert "nowhere.yaml' does not exist" in result.stderr


def test_a_missing_side_file_is_named_with_its_key_and_where_it_was_looked_for(tmp_path: Path) -> None:
    text = "probe_job_configs: [{hook: ProbeViaAnalyzerHook, dj_configs: configs/x.yaml}]"
    result = converted(tmp_path, text)
    rooted = converted(tmp_path, text, "--root", str(tmp_path))

    where = f"{tmp_path}/sandbox.yaml: probe_job_configs[0].dj_configs: there is no file 'configs/x.yaml'"
    assert result.stderr.startswith(f"{where} in this folder, nor in one above the configuration; --root names")
    assert rooted.stderr.startswith(f"{where} in {tmp_path}; --root names")


def test_unknown_keys_and_missing_side_files_are_named_together(tmp_path: Path) -> None:
    """A misspelt key may hold what others read: then nothing is said of that."""
    jobs = "probe_job_configs: [{hook: ProbeViaAnalyzerHook, dj_configs: configs/x.yaml, COLOUR: 3}]"
    strange = converted(tmp_path, f"{jobs}\nshape: round")
    misspelt = converted(tmp_path, f"{jobs}\nexecution_job_config: []")

    assert [line.split(": ")[1] for line in strange.stderr.splitlines()] == [
        "shape", "probe_job_configs[0].COLOUR", "probe_job_configs[0].dj_configs",
    ]  # fmt: skip
    assert [line.split(": ")[1] for line in misspelt.stderr.splitlines()] == [
        "execution_job_config",
        "probe_job_configs[0].COLOUR",
    ]
    assert strange.exit_code == misspelt.exit_code == 2


def test_side_files_all_come_from_the_folder_that_has_the_first_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Upstream was started in one folder; a file of that name elsewhere is another file."""
    monkeypatch.chdir(tmp_path)
    for folder in ("repository/configs/demo", "configs"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "repository/configs/a.yaml").write_text("{dataset_path: s3://b/a.jsonl, process: []}")
    (tmp_path / "configs/b.yaml").write_text("{dataset_path: s3://b/b.jsonl, process: []}")
    jobs = "".join(f"  - {{hook: ProcessDataHook, dj_configs: configs/{name}.yaml}}\n" for name in "ab")
    result = converted(tmp_path / "repository/configs/demo", f"execution_job_configs:\n{jobs}")

    assert result.exit_code == 2
    assert "[1].dj_configs: there is no file 'configs/b.yaml' in repository, where others are" in result.stderr


def test_the_result_can_be_written_to_a_file_but_not_over_what_it_is_made_from(tmp_path: Path) -> None:
    target = tmp_path / "experiment.yaml"
    result = converted(tmp_path, ONE_JOB, "-o", str(target), "--name", "mine")
    over = converted(tmp_path, ONE_JOB, "-o", str(tmp_path / "sandbox.yaml"))
    nowhere = converted(tmp_path, ONE_JOB, "-o", str(tmp_path / "no/such/folder.yaml"))

    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    (experiment,) = read_documents(target.read_text()).experiments
    assert (experiment.name, experiment.namespace) == ("mine", None)
    assert (over.exit_code, "is the file to convert" in over.stderr) == (2, True)
    assert (tmp_path / "sandbox.yaml").read_text() == ONE_JOB
    assert (nowhere.exit_code, "--output: there is no folder" in nowhere.stderr) == (2, True)


def test_a_name_that_the_api_server_would_refuse_is_refused_with_a_better_one(tmp_path: Path) -> None:
    result = converted(tmp_path, ONE_JOB, "--name", "My Run")
    nothing = converted(tmp_path, ONE_JOB, "--name", "好")

    assert (result.exit_code, nothing.exit_code) == (2, 2)
    assert "--name: 'My Run' can't be the name of an experiment; try 'my-run'" in result.stderr
    assert "try 'sandbox'" in nothing.stderr


def test_rows_that_name_media_files_travel_through_a_pod_however_small_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    text = ONE_JOB.replace("s3://b/x.jsonl", "data/x.jsonl")
    (tmp_path / "data/x.jsonl").write_text('{"text": "a"}\n')
    plain = converted(tmp_path, text, "--name", "n")
    (tmp_path / "data/x.jsonl").write_text('{"text": "a", "images": ["a.png"]}\n')
    media = converted(tmp_path, text, "--name", "n")

    assert "{name: data, configMapName: n-data}" in plain.stdout
    assert "kubectl create configmap n-data --from-file=data/x.jsonl" in plain.stderr
    assert "{name: data, claimName: n-data, subPath: data}" in media.stdout
    assert "kubectl cp data n-upload:/inputs/data" in media.stderr


def test_the_upload_pod_mounts_the_claim_that_the_experiment_reads(tmp_path: Path) -> None:
    text = ONE_JOB.replace("s3://b/x.jsonl", "/data/x.jsonl")
    made = converted(tmp_path, text, "--name", "n", "--upload-pod")
    own = converted(tmp_path, text, "--name", "n", "--upload-pod", "--data-claim", "datasets")

    claim, pod = yaml.safe_load_all(made.stdout)
    assert (made.exit_code, made.stderr) == (0, "")
    assert (claim["kind"], claim["metadata"]["name"]) == ("PersistentVolumeClaim", "n-data")
    assert pod["spec"]["volumes"] == [{"name": "inputs", "persistentVolumeClaim": {"claimName": "n-data"}}]
    (pod,) = yaml.safe_load_all(own.stdout)
    assert pod["spec"]["volumes"] == [{"name": "inputs", "persistentVolumeClaim": {"claimName": "datasets"}}]


def test_the_examples_of_the_how_to_page_are_the_guides_case() -> None:
    page = (GOLDEN.parents[2] / "docs/how-to/convert.md").read_text()
    blocks = re.findall(r"(?ms)^```yaml\n(.*?)^```", page)[:4]
    guide = GOLDEN / "guide"
    before = (guide / "in/configs/demo/sandbox/sandbox.yaml").read_text()
    after = (guide / "expected.yaml").read_text()

    assert [block in text for block, text in zip(blocks, (before, before, after, after), strict=True)] == [True] * 4
    assert "kubectl create configmap demo-sandbox-run0-data --from-file=demos/data/demo-dataset.jsonl" in page
