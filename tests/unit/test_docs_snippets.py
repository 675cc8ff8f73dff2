# SPDX-License-Identifier: Apache-2.0
"""Each YAML snippet of the documentation is one that the planner accepts, or is named here with why it is none."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from sandbox_api.experiment import ExperimentSpec
from sandbox_api.hook_resource import hooks_in
from sandbox_operator.plan.compile import compile_spec
from sandbox_operator.plan.sweep_definition import compile_sweep

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("*.md", "docs/**/*.md", "configs/**/*.md", "helm/**/*.md", "images/**/*.md", "cluster/**/*.md")
NO_SPECS = {
    "docs/how-to/convert.md": "what Data-Juicer's sandbox has, and parts of what becomes of it; tests/golden has them whole",
    "docs/how-to/operate.md": "rules of Prometheus",
    "docs/reference/hooks.md": "three ways to write one key",
}  # fmt: skip
FIELDS = {field.alias or name for name, field in ExperimentSpec.model_fields.items()}
BEFORE: dict[str, list[dict[str, Any]]] = {
    "anonymous.process.dataset": [{"hook": "ProcessDataHook", "djConfigs": {"dataset_path": "inputs/raw/a.jsonl"}}],
    "anonymous.train.model": [
        {"hook": "TrainModelHook", "type": "swift", "extraConfigs": {"model": "inputs/raw/m", "dataset": "inputs/raw/a"}}
    ],
}  # fmt: skip
"""Jobs that a snippet takes as being there, by what it reads of them."""
NOT_YET = re.compile(r"\.type: \w+ of type \w+ is not in this version yet$")
"""The page says so, and where to look whether it is still true."""


def snippets() -> Iterator[Any]:
    found = 0
    for page in sorted({path for pattern in PAGES for path in ROOT.glob(pattern)}):
        name = str(page.relative_to(ROOT))
        for match in re.finditer(r"^```yaml\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL):
            found += 1
            line = page.read_text()[: match.start()].count("\n") + 1
            if name not in NO_SPECS:
                yield pytest.param(name, match[1], id=f"{name}:{line}")
    assert found > 5


def documents_of(text: str) -> list[Any]:
    return list(yaml.safe_load_all(text.replace("sha256:...", f"sha256:{'0' * 64}")))


def spec_of(snippet: Any, text: str) -> dict[str, Any]:
    """The spec that a snippet is a part of."""
    jobs = {"executionJobConfigs": snippet} if isinstance(snippet, list) else dict(snippet)
    assert set(jobs) <= FIELDS, "neither a spec nor jobs: mend it, or name the page in NO_SPECS"
    missing = [
        jobs_before for reference, jobs_before in BEFORE.items() if reference in text and not _has(jobs, reference)
    ]
    volumes = [{"name": name, "claimName": name} for name in sorted({*re.findall(r"inputs/([\w-]+)/", text), "raw"})]
    first = [job for jobs_before in missing for job in jobs_before]
    if first:
        jobs["executionJobConfigs"] = [*first, *jobs.get("executionJobConfigs", [])]
    return {"workspace": {"claimName": "w"}, "inputs": volumes, **jobs}


def _has(jobs: dict[str, Any], reference: str) -> bool:
    names = [job.get("metaName") for lists in jobs.values() if isinstance(lists, list) for job in lists]
    hooks = [job.get("hook") for lists in jobs.values() if isinstance(lists, list) for job in lists]
    return reference.split(".")[1] in names or BEFORE[reference][0]["hook"] in hooks


@pytest.mark.parametrize(("page", "text"), list(snippets()))
def test_a_snippet_of_the_documentation_is_one_that_is_accepted(page: str, text: str) -> None:
    beside = re.findall(r"^```yaml\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    hooks, problems = hooks_in([document for other in beside for document in documents_of(other)])
    assert problems == ()
    for document in documents_of(text):
        kind = document.get("kind") if isinstance(document, dict) else None
        if kind == "SandboxSweep":
            assert (
                compile_sweep(document["spec"], name=document["metadata"]["name"], uid="any", added=hooks).problems
                == ()
            )
        elif kind != "SandboxHook":  # those have been read above
            spec = document["spec"] if kind == "SandboxExperiment" else spec_of(document, text)
            told = [problem for problem in compile_spec(spec, hooks).problems if not NOT_YET.search(problem)]
            assert told == []
