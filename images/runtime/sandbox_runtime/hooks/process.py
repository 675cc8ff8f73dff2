# SPDX-License-Identifier: Apache-2.0
"""ProcessDataHook: a recipe run over a data set, with the rows counted after each operator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data_juicer.dataset import prepare
from ..data_juicer.process import OperatorRows, Processed, lend, process
from .base import Artifact, HookContext, HookResult, data_set_name
from .components import run_on_data
from .recipe import addressed_errors, counted, data_juicer_job_id, write_recipe

CHOOSE = {"random_selector": "select_num", "topk_specified_field_selector": "topk"}
"""Operators that choose a number of rows, and the argument that says how many."""


class ProcessDataHook:
    """Outputs: dataset (a file, or a folder of shards when `export_shard_size` asks for them).

    Metrics: `rows_in`, `rows_out`, `ops.<i>_<op>.rows_in` and `.rows_out`, i from 0; with executor_type ray the latter
    only with `countEachOp`; `.short` of a selector that was to choose more rows than there were.
    What was run, after inputs and a trial's parameters, stands in `recipe.yaml` in the attempt's folder.
    A later attempt of the same contract goes on after the operators an earlier one had done.
    Under another name (an entry point) it runs the third party's data executor that `type` names instead.
    """

    def run(self, context: HookContext) -> HookResult:
        if (done := run_on_data(context, "data_executor", outputs=1)) is not None:
            return done
        publish = context.user_path("djConfigs.export_path")
        if context.place.rank == 0:  # beside the log, whatever becomes of the run
            write_recipe(context.dj, context.workspace.attempt, None)
        name = data_set_name(publish)
        sharded = bool(context.dj.get("export_shard_size"))

        if context.place.rank > 0:
            with addressed_errors(context):
                lend(context.dj, context.place, np=context.cpus, memory_bytes=context.contract.limits.memory_bytes)
            return HookResult(outputs=[], message="lent its processors to the Ray of rank 0")

        if isinstance(recipe := context.dj.get("process"), list):  # else it is refused below
            context.metrics.expect(len(recipe))

        def count(done: OperatorRows) -> None:
            context.metrics.log(operator_rows(done), step=done.index + 1)

        with addressed_errors(context):
            prepared = prepare(context.dj, context.scratch / "input", np=context.cpus)
            processed = process(
                context.dj,
                prepared,
                work_dir=context.scratch,
                export_path=context.out / "dataset" / name if sharded else context.out / name,
                job_id=data_juicer_job_id(context),
                np=context.cpus,
                state_dir=context.state,
                attempt=context.contract.attempt,
                memory_bytes=context.contract.limits.memory_bytes,
                count_each_op=context.extra.count_each_op,
                on_operator=count,
                place=context.place,
            )
        recipe = context.dj.get("process") or []
        few = [*too_few(processed, recipe)]
        for sentence in few:
            print(f"warning: {sentence}", flush=True)
        return HookResult(
            outputs=[Artifact(processed.dataset, rows=processed.rows_out, publish=_published(publish, sharded))],
            metrics=rows_by_importance(processed) | missing_rows(processed, recipe),
            message="; ".join([_message(processed, len(recipe)), *few]),
        )


def operator_rows(done: OperatorRows) -> dict[str, float]:
    name = f"ops.{done.index}_{done.name}"
    return {f"{name}.rows_out": done.rows_out, f"{name}.rows_in": done.rows_in}


def rows_by_importance(processed: Processed) -> dict[str, float]:
    """Totals first, then each operator's rows out, then the rows in, which the operator before it tells as well."""
    rows: dict[str, float] = {"rows_in": processed.rows_in, "rows_out": processed.rows_out}
    each = [operator_rows(done) for done in processed.operators]
    for which in (".rows_out", ".rows_in"):
        rows |= {name: value for figures in each for name, value in figures.items() if name.endswith(which)}
    return rows


def missing_rows(processed: Processed, recipe: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Of each operator that was to choose more rows than there were, how many are missing."""
    return {
        f"ops.{done.index}_{done.name}.short": wanted - done.rows_in
        for done in processed.operators
        if (wanted := _wanted(recipe[done.index])) is not None and wanted > done.rows_in
    }


def too_few(processed: Processed, recipe: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The same in words: Data-Juicer then takes all rows, or some of them again, and says nothing."""
    for done in processed.operators:
        wanted = _wanted(recipe[done.index])
        if wanted is not None and wanted > done.rows_in:
            repeats = done.rows_out - done.rows_in
            taken = f"{counted(repeats, 'row')} were taken again" if repeats > 0 else "all of them were taken"
            key = f"process[{done.index}].{done.name}.{CHOOSE[done.name]}"
            yield f"{key}: {wanted} rows were asked for, of {counted(done.rows_in, 'row')} that there were; {taken}"


def _wanted(entry: Mapping[str, Any]) -> int | None:
    """How many rows an operator is to choose, where its recipe says a number."""
    ((name, args),) = entry.items()
    wanted = (args or {}).get(CHOOSE.get(name, ""))
    by_share = any((args or {}).get(share) for share in ("select_ratio", "top_ratio"))
    return wanted if isinstance(wanted, int) and not by_share else None


def _published(publish: Path | None, sharded: bool) -> Path | None:
    """A folder of shards can't stand under a file's name."""
    return publish.with_suffix("") if publish and sharded else publish


def _message(processed: Processed, operators: int) -> str:
    rows_in, rows_out = (f"{rows:,}".replace(",", " ") for rows in (processed.rows_in, processed.rows_out))
    resumed = f", {processed.resumed} of them done by an earlier attempt" if processed.resumed else ""
    return f"{rows_in} -> {rows_out} rows in {counted(operators, 'operator')}{resumed}"
