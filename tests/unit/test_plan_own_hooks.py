# SPDX-License-Identifier: Apache-2.0
"""Hooks of one's own in a spec: found by name, checked by their schema, run on their image, as any other hook."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping
from typing import Any

import pytest
from tests.custom import ROUTES, documents, hook_in
from tests.unit.builders import DEFAULTS, NOW, a_spec, an_experiment, created, probe

from sandbox_api.hook import Hook
from sandbox_api.hook_resource import hook_of
from sandbox_operator.plan.compile import Compiled, compile_spec
from sandbox_operator.plan.experiment import plan_experiment
from sandbox_operator.plan.facts import ClaimFact

E = "spec.executionJobConfigs"
DEDUP = hook_in("raw-go")


def dedup(**more: Any) -> dict[str, Any]:
    return {"hook": "exact-dedup", "extraConfigs": {"dataset_path": "inputs/raw/demo.jsonl"}, **more}


def compiled(*jobs: dict[str, Any], hooks: Mapping[str, Hook | tuple[str, ...]] | None = None, **more: Any) -> Compiled:
    return compile_spec(a_spec(executions=list(jobs), **more), hooks if hooks is not None else {"exact-dedup": DEDUP})


@pytest.mark.parametrize("route", ROUTES)
def test_the_examples_are_specs_that_run(route: str) -> None:
    (spec,) = (document["spec"] for document in documents(route) if document["kind"] == "SandboxExperiment")
    hook = hook_in(route)
    result = compile_spec(spec, {hook.name: hook})

    assert (result.problems, result.warnings) == ((), ())


def test_a_hook_that_nobody_made_known_is_no_hook() -> None:
    assert compiled(dedup(hook="exact-dedupe")).problems == (
        f"{E}[0].hook: there is no hook 'exact-dedupe'; did you mean 'exact-dedup'?",
    )


def test_a_hook_that_can_not_be_used_says_why() -> None:
    wrong = hook_of({"metadata": {"name": "exact-dedup"}, "spec": {"contract": "raw", "image": "a"}})
    assert isinstance(wrong, tuple)

    assert compiled(dedup(), hooks={"exact-dedup": wrong}).problems == (
        f"{E}[0].hook: the SandboxHook 'exact-dedup' can't be used: spec.command: contract: raw needs a command;"
        " contract: runtime has none, the runtime is started",
    )


@pytest.mark.parametrize(
    ("job", "problems"),
    [
        ({"extraConfigs": {"dataset_path": "inputs/raw/a.jsonl", "ignore_case": "yes"}}, [f"{E}[0].extraConfigs.ignore_case: write true or false, not 'yes'"]),
        ({"extraConfigs": {"datasetpath": "x"}}, [f"{E}[0].extraConfigs.dataset_path: is missing", f"{E}[0].extraConfigs.datasetpath: exact-dedup has no such setting; did you mean 'dataset_path'?"]),
        ({"extraConfigs": "inputs/raw/x.yaml"}, [f"{E}[0].extraConfigs: exact-dedup has defaults and a schema; write the settings inline, so that they are checked and its defaults filled in before anything starts"]),
        ({"extraConfigs": {"dataset_path": "inputs/other/a.jsonl"}}, [f"{E}[0].extraConfigs.dataset_path: spec.inputs has no 'other'; there is: raw"]),
        ({"djConfigs": {"process": []}}, [f"{E}[0].djConfigs: exact-dedup reads no Data-Juicer configuration; leave it out"]),
        ({"local": {"extraConfigs.text_key": 7}}, [f"{E}[0].extraConfigs.text_key: write text, not 7"]),
        ({"output": ["a", "b", "c"]}, [f"{E}[0].output: 3 names are too many; the results of exact-dedup are dataset, removed"]),
    ],
)  # fmt: skip
def test_its_settings_are_checked_before_anything_starts(job: dict[str, Any], problems: list[str]) -> None:
    assert sorted(compiled(dedup(**job)).problems) == sorted(problems)


def test_its_results_and_figures_can_be_referred_to() -> None:
    after = [
        probe(metaName="a", input={"djConfigs.dataset_path": "anonymous.dedup.dataset"}),
        probe(metaName="b", input={"djConfigs.np": "anonymous.dedup.rows_out"}),
        probe(metaName="c", input={"djConfigs.np": "anonymous.dedup.rows"}),
    ]
    result = compiled(dedup(), evaluations=after)

    (problem,) = result.problems
    assert problem.startswith("spec.evaluationJobConfigs[2].input[\"djConfigs.np\"]: no job named 'dedup'")
    assert result.jobs[0].outputs == ("dataset", "removed")


def test_what_an_input_brings_is_not_missing() -> None:
    job = dedup(extraConfigs={}, input={"extraConfigs.dataset_path": "anonymous.probe.dataset"})
    first = probe(djConfigs={"dataset_path": "inputs/raw/a.jsonl", "export_original_dataset": True, "export_path": "o.jsonl"})  # fmt: skip

    assert compiled(job, probes=[first]).problems == ()


def test_a_path_that_it_publishes_is_a_reference_for_later_jobs_and_no_input_of_its_own() -> None:
    mix = hook_in("own-image")
    settings = {"dataset_path": "inputs/raw/a.jsonl", "shares": {"a": 1}, "export_path": "outputs/mixed.jsonl"}
    jobs = [
        {"hook": "mix-by-source", "extraConfigs": settings},
        dedup(extraConfigs={"dataset_path": "outputs/mixed.jsonl"}),
    ]
    result = compiled(*jobs, hooks={"mix-by-source": mix, "exact-dedup": DEDUP})

    assert result.problems == ()
    assert not result.jobs[0].inputs
    assert str(result.jobs[1].inputs["extraConfigs.dataset_path"].output) == "dataset"  # type: ignore[union-attr]

    twice = compiled(jobs[0], {**jobs[0], "metaName": "again"}, hooks={"mix-by-source": mix})
    assert twice.problems == (
        f"{E}[1].extraConfigs.export_path: 'outputs/mixed.jsonl' is already written by"
        f" {E}[0].extraConfigs.export_path; give one of them another path",
    )


def test_its_job_runs_its_program_on_its_image_with_the_defaults_in() -> None:
    settings = {"dataset_path": "inputs/raw/a.jsonl", "ignore_case": True}
    snapshot = an_experiment(
        a_spec(executions=[dedup(extraConfigs=settings)], workspace={"claimName": "shared"}), claims=bound()
    )
    step = plan_experiment(snapshot, compile_spec(snapshot.spec, {"exact-dedup": DEDUP}), DEFAULTS, NOW)

    (action,) = created(step)
    (container,) = action.manifest["spec"]["template"]["spec"]["containers"]
    assert (container["image"], container["command"]) == ("registry.example/exact-dedup:1", ["/exact-dedup"])
    environment = {entry["name"]: entry.get("value") for entry in container["env"]}
    contract = json.loads(gzip.decompress(base64.b64decode(environment["SANDBOX_CONTRACT"])))
    assert contract["configs"]["extra"] == {"text_key": "text", "ignore_space": False, **settings}
    assert contract["outputs"] == ["dataset", "removed"]
    assert len(environment["SANDBOX_CONTRACT_DIGEST"]) == 64


def bound() -> dict[str, ClaimFact]:
    return {"shared": ClaimFact(name="shared", uid="c", phase="Bound", access_mode="ReadWriteMany")}


def test_its_image_can_be_another_for_one_experiment() -> None:
    snapshot = an_experiment(
        a_spec(executions=[dedup()], workspace={"claimName": "shared"}, images={"exact-dedup": "mine:2"}),
        claims=bound(),
    )
    step = plan_experiment(snapshot, compile_spec(snapshot.spec, {"exact-dedup": DEDUP}), DEFAULTS, NOW)

    (action,) = created(step)
    assert action.manifest["spec"]["template"]["spec"]["containers"][0]["image"] == "mine:2"
