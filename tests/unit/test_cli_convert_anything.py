# SPDX-License-Identifier: Apache-2.0
"""`sandboxctl convert` on files that nobody would write: it ends with sentences or with resources, never otherwise."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.progress import DEEP, long
from tests.unit.test_cli_convert import judged, trial_or_experiment
from typer.testing import CliRunner

from sandbox_api.hooks import HOOKS
from sandbox_operator.cli.convert_hooks import TYPES
from sandbox_operator.cli.convert_upstream import JOB_KEYS, LISTS, SETTINGS
from sandbox_operator.cli.main import app

PATHS = ["a.jsonl", "./outputs/a.jsonl", "outputs/iter_1/a.jsonl", "../../../outputs/m", "outputs/m/checkpoint-2.pt", "/abs/x", "~/y/z.json", "<x>", "<home>/a/b", "/path/to/z", ".", "..", "/", "", "s3://b/k", "0.5 a.jsonl 0.5 b.jsonl", "side.yaml", "side.json", "recipe.yaml", "no.yaml", "好/行.jsonl", "a b/c.csv", "~nobody/x.jsonl", "x" * 300 + ".jsonl", "x" * 300 + ".yaml"]  # fmt: skip
NAMES = ["a", "b", "probe", "process", "dots.in.it", "two words", "名字", "-", "x" * 70, "1"]
KINDS = sorted({kind for kinds in TYPES.values() for kind in kinds})
REFERENCES = ["-1.0", "-1.x", "-1.", "-1", "anonymous.a.x", "anonymous.anonymous_meta_name.0", "p.a.x", "a.b", "two words.dots.in.it.x", "..", ""]  # fmt: skip
KEYS = ["dataset_path", "export_path", "export_original_dataset", "process", "type", "train", "saving_config", "output_dir", "model_path", "lora_path", "path_k_sigma_recipe", "env_name", "work_dir", "num_gpus", "dataset", "np", "videos_path", "meta_paths", "<<", "y", "a.b"]  # fmt: skip

words = st.sampled_from([*PATHS, *NAMES, *KINDS, *REFERENCES])
leaves = st.none() | st.booleans() | st.integers(-3, 9) | st.floats(-1e3, 1e3) | words
nested = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=8,
)
configs = st.dictionaries(st.sampled_from(KEYS), nested, max_size=6)
targets = st.builds(
    lambda root, rest: ".".join([root, *rest]),
    st.sampled_from(["dj_configs", "dj_configs", "extra_configs", "configs"]),
    st.lists(st.sampled_from([*KEYS, "0"]), max_size=3),
)
good_targets = targets.filter(lambda target: not target.startswith("configs"))
good_configs = configs | configs | st.sampled_from(["side.yaml", "side.json", "side.yaml"])
good_jobs = st.fixed_dictionaries(
    {"hook": st.sampled_from([*HOOKS, *HOOKS, "MyHook"])},
    optional={
        "meta_name": st.sampled_from(NAMES) | st.none(),
        "dj_configs": good_configs,
        "extra_configs": good_configs,
        "input": st.dictionaries(good_targets, st.sampled_from(REFERENCES), max_size=3),
        "local": st.dictionaries(good_targets, nested, max_size=3),
        "output": st.sampled_from(NAMES) | st.lists(st.sampled_from(NAMES), max_size=3),
    },
)
odd_jobs = st.dictionaries(st.sampled_from(JOB_KEYS), nested | st.dictionaries(targets, nested, max_size=2), max_size=5)
jobs = st.sampled_from([*[good_jobs] * 50, odd_jobs]).flatmap(lambda kind: kind)
lists = st.dictionaries(st.sampled_from([*LISTS]), st.lists(jobs, min_size=1, max_size=3) | st.none(), min_size=1)
settings_of = st.fixed_dictionaries(
    {},
    optional={
        "experiment_name": st.sampled_from(NAMES),
        "hpo_config": st.sampled_from(["search.yaml", *PATHS]) | leaves,
        "max_iter_num": leaves,
        "iter_targets": st.lists(st.sampled_from(["a.b.c >= 1", "anonymous.a.x<2", "a >", "=="]) | leaves, max_size=2),
        "iter_updater": st.dictionaries(
            st.sampled_from(REFERENCES), st.sampled_from([*REFERENCES, "p.a.dj_configs.x"])
        ),
        "resume": leaves,
    },
)
odd_settings = st.dictionaries(st.sampled_from(SETTINGS), nested, max_size=3)
pipelines = st.lists(
    st.dictionaries(st.sampled_from([*NAMES, "p"]), lists, min_size=1, max_size=1), max_size=3
) | st.dictionaries(st.sampled_from([*NAMES, "p"]), lists, max_size=2)
files = st.one_of(
    st.builds(lambda a, b: {**a, **b}, settings_of, lists),
    st.builds(lambda a, b: {**a, **b}, odd_settings, lists),
    st.builds(lambda a, b: {**a, "pipelines": b}, settings_of, pipelines),
    st.dictionaries(st.sampled_from([*SETTINGS, *LISTS, "pipelines", *JOB_KEYS]), nested, max_size=5),
)


REFERS_TO_ITSELF = {"hook": "RefineRecipeViaKSigmaHook", "meta_name": "a", "input": {"dj_configs": "anonymous.a.x"}}


@long
@given(content=files, is_json=st.booleans())
@example(
    content={"iter_targets_mode": {"x": None}, "probe_job_configs": [{"hook": "ProbeViaAnalyzerHook"}]}, is_json=False
)
@example(content={"probe_job_configs": [REFERS_TO_ITSELF]}, is_json=False)
@example(content={"probe_job_configs": [REFERS_TO_ITSELF, {**REFERS_TO_ITSELF, "meta_name": "b"}]}, is_json=True)
@settings(
    max_examples=10_000 if DEEP else 150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_whatever_stands_in_a_file_it_becomes_resources_or_sentences(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: dict[str, Any], is_json: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "side.yaml").write_text("dataset_path: rows.jsonl\nexport_path: outputs/a.jsonl\nprocess: []\n")
    (tmp_path / "search.yaml").write_text(
        "method: grid\nmetric: {name: x}\nparameters: {text_length_filter.min_len: {values: [1, 2]}}\n"
    )
    (tmp_path / "side.json").write_text(
        '{"type": "easyanimate", "train": {"saving_config": {"output_dir": "outputs/m"}}}'
    )
    file = tmp_path / ("x.json" if is_json else "x.yaml")
    file.write_text(json.dumps(content) if is_json else yaml.safe_dump(content, allow_unicode=True))
    result = CliRunner().invoke(app, ["convert", str(file)])

    assert isinstance(result.exception, SystemExit | None), result.exception
    assert (result.exit_code == 2) == (result.stdout == "")
    if result.exit_code == 2:
        assert all(line.startswith(f"{file}: ") for line in result.stderr.splitlines())
        assert len(set(result.stderr.splitlines())) == len(result.stderr.splitlines())
        return
    experiment = trial_or_experiment(result.stdout)
    plan = judged(result.stdout)
    assert [f"problem: {problem}" for problem in plan.problems] == [
        line for line in result.stderr.splitlines() if line.startswith("problem: ")
    ]
    written = [job for part in (content, *_pipelines(content)) for name in LISTS for job in part.get(name) or ()]
    spec = experiment.spec
    ours = [job for part in (spec, *spec.get("pipelines", ())) for jobs in part.values() if _is_list_of_jobs(jobs) for job in jobs]  # fmt: skip
    assert len(ours) == len(written)


def _pipelines(content: dict[str, Any]) -> list[dict[str, Any]]:
    there = content.get("pipelines") or []
    return [*there.values()] if isinstance(there, dict) else [body for item in there for body in item.values()]


def _is_list_of_jobs(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) and "hook" in item for item in value)
