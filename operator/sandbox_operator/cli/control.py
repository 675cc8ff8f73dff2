# SPDX-License-Identifier: Apache-2.0
"""Commands that change an experiment over time. Each edits fields of its spec, as anyone with kubectl could.

What a field means is the operator's; the planner is asked first, so that what it would refuse is not written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from sandbox_api.hook import Hook
from sandbox_api.hook_resource import hooks_in
from sandbox_api.status import ExperimentStatus

from ..kube.client import Client
from ..kube.errors import Forbidden, NotFound
from ..plan.compile import compile_spec
from .command import Name, Namespace, say, with_cluster
from .experiments import EXPERIMENTS, HOOKS, Ended

Spec = Mapping[str, Any]
Edit = Callable[[Spec, ExperimentStatus], tuple[Spec, str]]
"""From spec and status to what is to change in spec, and the sentence that says what follows. Raises Ended where there
is nothing to do."""


def suspend(
    context: typer.Context,
    name: Name,
    now: Annotated[bool, typer.Option("--now", help="End the running hooks; they go on where they can.")] = False,
    namespace: Namespace = None,
) -> None:
    """Start no further hook; with --now, end the running ones. It is not a failure; resume goes on."""

    def edit(spec: Spec, status: ExperimentStatus) -> tuple[Spec, str]:
        _refuse_ended(status, "there is nothing to suspend")
        policy = "Now" if now else "Boundary"
        if spec.get("suspend") and spec.get("suspendPolicy", "Boundary") == policy:
            raise Ended("is suspended already")
        running = _running(status)
        follows = f"{running} {'is ended' if now else 'runs to its end'}; " if running else ""
        return {"suspend": True, "suspendPolicy": policy}, f"{follows}no further hook starts until it is resumed"

    _change(context, name, namespace, edit)


def resume(context: typer.Context, name: Name, namespace: Namespace = None) -> None:
    """Go on with a suspended experiment."""

    def edit(spec: Spec, status: ExperimentStatus) -> tuple[Spec, str]:
        if not spec.get("suspend"):
            raise Ended("is not suspended")
        done = f", {status.progress} jobs done" if status.progress else ""
        return {"suspend": False}, f"goes on{done}"

    _change(context, name, namespace, edit)


def stop(
    context: typer.Context,
    name: Name,
    after_evaluation: Annotated[
        bool, typer.Option("--after-evaluation", help="Run the evaluation first, on what there is.")
    ] = False,
    namespace: Namespace = None,
) -> None:
    """End an experiment for good; its results stay."""

    def edit(spec: Spec, status: ExperimentStatus) -> tuple[Spec, str]:
        _refuse_ended(status, "there is nothing to stop")
        how = "AfterEvaluation" if after_evaluation else "Now"
        if spec.get("stop") == how:
            raise Ended(f"is being stopped already (spec.stop: {how})")
        words = "ends after its evaluation" if after_evaluation else "ends; results that are there stay"
        if spec.get("suspend") and after_evaluation:
            words += ", which starts when it is resumed"
        return {"stop": how}, words

    _change(context, name, namespace, edit)


def rerun(
    context: typer.Context,
    name: Name,
    from_: Annotated[
        str | None, typer.Option("--from", help="metaName, or the beginning of a job id. Default: what failed, or all.")
    ] = None,
    token: Annotated[
        str | None, typer.Option(help="Any text that was not used before. Default: the next number.")
    ] = None,
    namespace: Namespace = None,
) -> None:
    """Run jobs again on the same volume; what is replaced is kept as history."""

    def edit(spec: Spec, status: ExperimentStatus) -> tuple[Spec, str]:
        used = (spec.get("rerun") or {}).get("token")
        new = token or next_token(used, status.rerun_token)
        if new in (used, status.rerun_token):
            raise Ended(f"the token {new!r} was used already; take another --token")
        if status.start_time is None:
            raise Ended("has not started yet; there is nothing to run again")
        what = f"{from_} and everything after it" if from_ else "what failed or was skipped, or else everything"
        held = "; it is suspended: nothing starts before it is resumed" if spec.get("suspend") else ""
        return {"rerun": {"token": new, "from": from_}, "stop": None}, f"runs {what} again (token {new!r}){held}"

    _change(context, name, namespace, edit)


def next_token(*used: str | None) -> str:
    """The number after the highest one used; a time where others than numbers are in use."""
    known = [text for text in used if text is not None]
    if all(text.isdigit() for text in known):
        return str(max(map(int, known), default=0) + 1)
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")


def _change(context: typer.Context, name: str, namespace: str | None, edit: Edit) -> None:
    """Read, decide, write once; the sentence is printed after the API server has taken it."""

    async def run(client: Client, where: str) -> str:
        item = await client.get(EXPERIMENTS, name, where)
        spec, status = item["spec"], ExperimentStatus.model_validate(item.get("status") or {})
        try:
            patch, words = edit(spec, status)
        except Ended as error:
            raise Ended(f"{name}: {error}") from None
        await _refuse_new_problems(client, where, spec, patch)
        await client.patch(EXPERIMENTS, name, {"spec": patch}, where)
        return words

    words, _ = with_cluster(context, namespace, run)
    say(f"{name}: {words}")


async def _refuse_new_problems(client: Client, namespace: str, spec: Spec, patch: Spec) -> None:
    """Ask the operator's own planner. Raises Ended with what only the change makes wrong."""
    hooks = await hooks_of(client, namespace)
    if hooks is None:  # without the namespace's hooks the answer could be wrong: then the operator tells
        return
    after = {key: value for key, value in {**spec, **patch}.items() if value is not None}
    if isinstance(after.get("rerun"), Mapping):
        after["rerun"] = {key: value for key, value in after["rerun"].items() if value is not None}
    old = set(compile_spec(spec, hooks).problems)
    new = [problem for problem in compile_spec(after, hooks).problems if problem not in old]
    if new:
        raise Ended("\n".join(new))


async def hooks_of(client: Client, namespace: str) -> dict[str, Hook | tuple[str, ...]] | None:
    """The SandboxHooks of a namespace by name; None where they can't be read."""
    try:
        found = (await client.list(HOOKS, namespace)).items
    except (Forbidden, NotFound):
        return None
    kind = {"apiVersion": HOOKS.api_version, "kind": HOOKS.kind}  # the items of a list don't say it
    return hooks_in([{**item, **kind} for item in found], namespace)[0]


def _refuse_ended(status: ExperimentStatus, words: str) -> None:
    if status.completion_time is not None:
        raise Ended(f"has ended already ({status.outcome}); {words}")


def _running(status: ExperimentStatus) -> str:
    """The jobs at work, for a sentence."""
    jobs = [job for job in status.jobs if job.state == "Running"]
    return ", ".join(f"{job.id} ({job.meta_name})" for job in jobs)
