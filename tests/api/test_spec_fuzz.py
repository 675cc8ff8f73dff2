# SPDX-License-Identifier: Apache-2.0
"""Ten thousand specs: each is refused with a reason by the API server or by the planner, or it runs; never a mistake.

The specs are drawn by number (`specs.py`); a failure names the number. With SANDBOX_DEEP=1 the full counts, resumable
(`progress.py`). What goes where:

* all 10 000 to a real API server, which is asked but stores nothing, and to the planner; what both take is played to its
  end in this process, with failures, and its status is held against the schema;
* all of the same that the API server takes (two in three), and a fifth of the others, to the operator's real process on
  the fake API server, where their hooks succeed;
* those that both take of 3 000 others (one in three) to the real process on the real API server: every object is stored.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from tests.api.conftest import Operators, Plane
from tests.api.lab import Lab, experiment
from tests.api.rehearsal import rehearse
from tests.api.specs import Spec, crd_schema, draw, schema_of
from tests.api.storm import storm
from tests.api.warm import Nursery
from tests.api.wild import EXAMPLES, check_examples, patterns_in
from tests.progress import DEEP, Say, in_pieces, long, told

from sandbox_api.status import ExperimentStatus
from sandbox_operator.kube.client import Client
from sandbox_operator.kube.config import connect
from sandbox_operator.kube.errors import ApiError
from sandbox_operator.plan.compile import Compiled, compile_spec
from sandbox_operator.reconcile.resources import EXPERIMENTS

EACH = 250 if DEEP else 150
"""Specs in a piece."""
PROBLEM = re.compile(r"spec(?:[.\[]\S.*?)?: \S", re.DOTALL)


@dataclass(frozen=True)
class Verdict:
    """What becomes of one spec."""

    number: int
    sort: str
    spec: Spec
    refusal: str | None
    """The API server's words."""
    stored: Spec | None
    """With the API server's defaults."""
    compiled: Compiled

    def __str__(self) -> str:
        return f"spec {self.number} ({self.sort}): {json.dumps(self.spec)[:3000]}"


@pytest.fixture
async def client(plane: Plane) -> AsyncIterator[Client]:
    async with Client(connect(kubeconfig=str(plane.admin)), field_manager="fuzz") as made:
        yield made


async def verdict_on(client: Client, number: int) -> Verdict:
    sort, spec = draw(number)
    refusal, stored = None, None
    try:
        answer = await client.request(
            ("create", "sandboxexperiments"),
            "POST",
            EXPERIMENTS.path(namespace="default"),
            query={"dryRun": "All", "fieldValidation": "Strict"},
            body=experiment("demo", spec),
        )
        stored = json.loads(answer)["spec"]
    except ApiError as error:
        if error.status not in (400, 422):
            raise
        refusal = error.message
    try:
        compiled = compile_spec(spec)
    except Exception as error:
        raise AssertionError(f"spec {number} ({sort}): compile_spec raised {error!r}: {json.dumps(spec)}") from error
    return Verdict(number, sort, spec, refusal, stored, compiled)


def has_null(value: Any) -> bool:
    if isinstance(value, dict):
        return any(has_null(item) for item in value.values())
    return any(has_null(item) for item in value) if isinstance(value, list) else value is None


def check(verdict: Verdict) -> str:
    """What became of a spec; every way out says why."""
    problems = verdict.compiled.problems
    assert all(PROBLEM.match(problem) for problem in problems), f"no field's path: {problems}\n{verdict}"
    if verdict.refusal is not None:
        assert "spec" in verdict.refusal, f"refused without a field: {verdict.refusal}\n{verdict}"
        assert problems, f"the API server refuses what the planner takes: {verdict.refusal}\n{verdict}"
        return "refused by the API server"
    assert verdict.stored is not None
    seen = compile_spec(verdict.stored)  # what the operator sees: defaults filled in, keys sorted, nulls gone
    if not has_null(verdict.spec):
        assert set(seen.problems) == set(problems), f"stored, it means something else: {seen.problems}\n{verdict}"
        assert seen.jobs == verdict.compiled.jobs, f"stored, it has other jobs\n{verdict}"
    if seen.problems:
        return "refused by the planner"
    try:
        status = rehearse(verdict.stored, seen, random.Random(verdict.number))
    except Exception as error:
        raise AssertionError(f"{type(error).__name__}: {error}\n{verdict}") from error
    wrong = next(STATUS.iter_errors(status.model_dump(mode="json", exclude_none=True)), None)
    assert wrong is None, f"a status that the API server would not take: {wrong}\n{verdict}"
    assert len(json.dumps(status.model_dump(mode="json", exclude_none=True))) < 300_000, verdict
    return f"played to the end: {status.outcome}"


STATUS = Draft202012Validator(crd_schema()["properties"]["status"])


def test_the_generator_knows_every_form_of_text_in_the_schemas() -> None:
    check_examples()
    assert patterns_in(schema_of()) | patterns_in(schema_of("sandboxhooks")) <= set(EXAMPLES)


@long
async def test_any_spec_is_refused_with_a_reason_or_runs(client: Client, say: Say, counts: Say) -> None:
    """By a real API server, strictly, as kubectl asks it; what it refuses for its form the planner refuses too."""

    async def piece(seed: int) -> Counter[str]:
        found: Counter[str] = Counter(specs=0)
        for start in range(seed * EACH, (seed + 1) * EACH, 10):
            for verdict in await asyncio.gather(*(verdict_on(client, number) for number in range(start, start + 10))):
                found.update({"specs": 1, check(verdict): 1})
        return found

    found = await in_pieces("specs", range(40 if DEEP else 2), piece, say=say, deep=DEEP)
    counts(f"specs: {told(found)}")
    assert found["specs"] >= (10_000 if DEEP else 300)
    ended = sum(number for what, number in found.items() if what.startswith("played"))
    assert min(ended, found["refused by the API server"], found["refused by the planner"]) > found["specs"] / 10


@long
async def test_the_real_process_makes_no_mistake_over_any_spec(
    nursery: Nursery, client: Client, tmp_path: Path, say: Say, counts: Say
) -> None:
    """What the API server takes, and some of what it does not: an older one may have, and the operator must stay calm."""

    async def piece(seed: int) -> Counter[str]:
        first = seed * 100
        verdicts = await asyncio.gather(*(verdict_on(client, number) for number in range(first, first + 100)))
        # No API server has ever stored a spec that is no object, and the operator's process would end over one.
        chosen = [v for v in verdicts if v.stored is not None or (v.number % 5 == 0 and isinstance(v.spec, dict))]
        found: Counter[str] = Counter()
        async with storm(nursery, tmp_path) as it:
            it.operator.start()
            for verdict in chosen:
                await it.lab.apply(f"spec-{verdict.number}", until_its_end(verdict.stored or verdict.spec, "1h"))
            names = [f"spec-{verdict.number}" for verdict in chosen]
            await it.lab.until(lambda: all(is_told(it.lab, name) for name in names), "all are told or over", 120)
            assert it.operator.code is None, it.operator.log
            for name in names:
                found.update({"sent": 1, outcome_of(it.lab, name): 1})
        return found

    found = await in_pieces("specs in the process", range(100 if DEEP else 1), piece, say=say, deep=DEEP)
    counts(f"specs through the real process: {told(found)}")
    assert found["Succeeded"] > 0
    assert found["InvalidSpec"] > 0


@long
async def test_valid_specs_on_a_real_api_server(
    lab: Lab, client: Client, plane: Plane, operators: Operators, say: Say, counts: Say
) -> None:
    """Their Jobs, claims and statuses are all taken, or the refusal is told; none waits without a reason."""
    operator = operators(plane.operator, SANDBOX_NAMESPACES=lab.namespace)
    await lab.make_bound_claim("shared")

    async def piece(seed: int) -> Counter[str]:
        first = 2_000_000 + seed * 60
        verdicts = await asyncio.gather(*(verdict_on(client, number) for number in range(first, first + 60)))
        valid = [v for v in verdicts if v.stored is not None and not v.compiled.problems]
        for verdict in valid:
            assert verdict.stored is not None
            await lab.apply(f"spec-{verdict.number}", until_its_end(verdict.stored, "8s"))
        names = [f"spec-{verdict.number}" for verdict in valid]
        await lab.until(lambda: all(is_told(lab, name) for name in names), "all are told or over", 200)
        assert operator.code is None
        found = Counter({"drawn": 60, "sent": len(names)}) + Counter(outcome_of(lab, name) for name in names)
        for name in names:
            await lab.client.delete(EXPERIMENTS, name, lab.namespace)
        return found

    found = await in_pieces(
        "specs on a real API server", range(50 if DEEP else 1), piece, say=say, deep=DEEP, at_once=1
    )
    counts(f"valid specs on a real API server: {told(found)}")
    assert found["Succeeded"] > 0


def until_its_end(spec: Spec, pending: str) -> Spec:
    """The same spec in a hurry: what waits for somebody ends soon, and iterations without an end are few."""
    if not isinstance(spec, dict):
        return spec
    hurried = {"timeouts": {"pending": pending}, "retry": {"backoff": "1s", "maxBackoff": "1s", "infra": 1, "user": 0}}
    jobs = json.loads(json.dumps(spec), object_hook=_without_limits)
    few = {"maxIterNum": 2} if isinstance(spec.get("maxIterNum"), int) and spec["maxIterNum"] != 1 else {}
    return {**jobs, **hurried, **few, "suspend": False}


def _without_limits(value: dict[str, Any]) -> dict[str, Any]:
    return {key: item for key, item in value.items() if key not in ("timeouts", "retry")} if "hook" in value else value


def is_told(lab: Lab, name: str) -> bool:
    """Whether an experiment is over, or can't begin before somebody does something, and is told what."""
    status = lab.status(name)
    begun = any(job.get("attempts") for job in status.get("jobs") or ())
    return bool(status.get("completionTime")) or (not begun and lab.condition(name, "Stalled").get("status") == "True")


def outcome_of(lab: Lab, name: str) -> str:
    """How it ended and why, or the reason why it does not."""
    status = lab.status(name)
    ExperimentStatus.model_validate(status)
    if not status.get("completionTime"):
        return str(lab.condition(name, "Stalled")["reason"])
    reasons = [job["reason"] for job in status["jobs"] if job["state"] == "Failed"][:1]
    return ": ".join([status["outcome"], *reasons])
