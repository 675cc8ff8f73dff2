# SPDX-License-Identifier: Apache-2.0
"""The report of a sweep: one HTML file that needs nothing else, no network, to be looked at."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import plotly.io
from plotly.offline import get_plotlyjs

from ..plan.conditions import condition_in
from ..plan.sweep_facts import best_of
from ..search.distributions import Parameter
from .sweep_charts import Chart, charts, escaped
from .sweep_read import SweepView, TrialView
from .sweep_words import range_of, shown

_CONFIG = {
    "displaylogo": False,
    "responsive": True,
    "modeBarButtonsToRemove": ["sendChartToCloud", "select2d", "lasso2d"],
    "plotlyServerURL": "",
}
"""No button sends a chart to anybody."""
_STYLE = """
:root { color-scheme: light }
body { font: 15px/1.5 system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif; color: #1f2933; background: #fff;
       max-width: 1200px; margin: 0 auto; padding: 24px }
h1 { font-size: 26px; margin: 0; overflow-wrap: anywhere } h2 { font-size: 19px; margin: 40px 0 4px }
p { margin: 4px 0 12px } .quiet { color: #5c6873 }
.tiles { display: flex; flex-wrap: wrap; gap: 12px; margin: 20px 0 }
.tile { border: 1px solid #dde2e7; border-radius: 8px; padding: 8px 16px; min-width: 90px }
.tile b { display: block; font-size: 21px; overflow-wrap: anywhere } .tile span { color: #5c6873; font-size: 13px }
.sides { display: grid; grid-template-columns: repeat(auto-fit, minmax(340px, 1fr)); gap: 8px 32px }
.scroll { overflow-x: auto; margin-top: 16px } code { font-size: 13px }
table { border-collapse: collapse; font-size: 14px; width: 100% }
th, td { text-align: left; padding: 5px 12px 5px 0; border-bottom: 1px solid #e8ecf0; vertical-align: top }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
td { overflow-wrap: anywhere } .trials td { overflow-wrap: normal; max-width: 320px }
.trials td:nth-child(-n+3) { white-space: nowrap } .trials td:first-child { max-width: none }
tr.best { background: #fff6e5 } tr:target { outline: 2px solid #d97706 }
th { font-weight: 600; color: #3e4c59 } a { color: #1d5fa8 }
.Succeeded { color: #1d5fa8 } .Failed { color: #c2362b } .Pruned { color: #6b7680 } .Running { color: #92600a }
"""


def page(view: SweepView) -> str:
    """The whole file. Whatever comes from users is escaped."""
    parts = [_head(view), _sides(view), *map(_chart, charts(view)), _trials(view)]
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(view.name)}: sweep</title><style>{_STYLE}</style>"
        f"<script>{get_plotlyjs()}</script></head>\n<body>\n{body}\n</body></html>\n"
    )


def _head(view: SweepView) -> str:
    ready = condition_in(view.status.conditions, "Ready")
    words = html.escape(ready.message) if ready is not None and ready.message else ""
    counts = {state: sum(t.fact.state == state for t in view.trials) for state in _STATES}
    best = _best(view)
    tiles = [
        ("best value", shown(best.value) if best is not None else "none"),
        ("trials", f"{len(view.trials)} of {view.max_trials}"),
        *((state.lower(), str(count)) for state, count in counts.items() if count),
    ]
    made = "".join(f'<div class="tile"><b>{html.escape(text)}</b><span>{name}</span></div>' for name, text in tiles)
    outcome = view.status.outcome or "Pending"
    where = f" in {html.escape(view.namespace)}" if view.namespace else ""
    about = f"<p>{html.escape(view.spec.description)}</p>" if view.spec.description else ""
    return (
        f'<h1>{html.escape(view.name)}</h1><p class="quiet">SandboxSweep{where}: {outcome}. {words}</p>{about}'
        f'<div class="tiles">{made}</div>'
    )


_STATES = ("Succeeded", "Pruned", "Failed", "Running")


def _best(view: SweepView) -> TrialView | None:
    found = best_of([trial.fact for trial in view.trials], view.settings.goal)
    return next((trial for trial in view.trials if found and trial.fact is found[0]), None)


def _sides(view: SweepView) -> str:
    best = _best(view)
    if best is None:
        left = "<h2>Best trial</h2><p>No trial has succeeded.</p>"
    else:
        name = f'<a href="#{_anchor(best)}">{html.escape(best.fact.name)}</a>'
        value = f"{_code(view.objective)} = {shown(best.value)}"
        left = f"<h2>Best trial</h2><p>{name}, {value}</p>{_pairs(best.fact.parameters)}"
    return (
        f'<div class="sides"><div>{left}</div><div><h2>Search</h2>{_pairs(_settings(view))}{_space(view)}</div></div>'
    )


def _settings(view: SweepView) -> Mapping[str, Any]:
    spec, early = view.spec, view.spec.early_terminate or view.spec.early_terminate_
    return {
        "method": spec.method,
        "metric": f"{view.objective}, {spec.metric.goal}",
        **({"target": spec.metric.target} if spec.metric.target is not None else {}),
        "seed": view.settings.seed,
        "trials at a time": spec.parallelism,
        **({"early stopping": _early(early.type, early.eta)} if early is not None else {}),
        **({"begun": view.status.start_time} if view.status.start_time else {}),
        **({"ended": view.status.completion_time} if view.status.completion_time else {}),
    }


def _early(kind: str, eta: float) -> str:
    return f"hyperband, the best 1/{eta:g} of a rung go on" if kind == "hyperband" else "median"


def _space(view: SweepView) -> str:
    head = "<tr><th>parameter</th><th>distribution</th><th>values</th></tr>"
    return f'<div class="scroll"><table>{head}{"".join(map(_parameter, view.settings.space.parameters))}</table></div>'


def _parameter(parameter: Parameter) -> str:
    kind = parameter.distribution.replace("_", "_<wbr>")
    return f"<tr><td>{_code(parameter.name)}</td><td>{kind}</td><td>{escaped(range_of(parameter), 120)}</td></tr>"


def _pairs(pairs: Mapping[str, Any]) -> str:
    rows = "".join(f"<tr><td>{_code(name)}</td><td>{escaped(value, 200)}</td></tr>" for name, value in pairs.items())
    return f"<table>{rows}</table>"


def _chart(chart: Chart) -> str:
    drawn = ""
    if chart.figure is not None:
        drawn = plotly.io.to_html(chart.figure, full_html=False, include_plotlyjs=False, config=_CONFIG)
    return f'<h2>{html.escape(chart.title)}</h2><p class="quiet">{chart.words}</p>{drawn}'


def _trials(view: SweepView) -> str:
    if not view.trials:
        return "<h2>Trials</h2><p>No trial has begun.</p>"
    names = [each.name for each in view.settings.space.searched]
    best = _best(view)
    head = "".join(
        f"<th{_numeric(i == 2)}>{html.escape(name)}</th>"
        for i, name in enumerate(["trial", "state", "value", *names, "reason"])
    )
    body = "".join(_row(trial, names, trial is best) for trial in view.trials)
    return f'<h2>Trials</h2><div class="scroll"><table class="trials"><tr>{head}</tr>{body}</table></div>'


def _row(trial: TrialView, names: Sequence[str], is_best: bool) -> str:
    return "".join(_cells(trial, names, is_best))


def _cells(trial: TrialView, names: Sequence[str], is_best: bool) -> Iterator[str]:
    fact, anchor = trial.fact, _anchor(trial)
    yield f'<tr id="{anchor}"{" class=best" if is_best else ""}>'
    yield f'<td><a href="#{anchor}">{html.escape(fact.name)}</a></td>'
    at = f" at {trial.rungs[-1].rung}" if fact.state == "Pruned" and trial.rungs else ""
    yield f'<td class="{fact.state}">{fact.state}{at}</td>'
    yield f'<td class="number">{shown(trial.value) if trial.value is not None else ""}</td>'
    yield from (f"<td>{escaped(fact.parameters[name], 80) if name in fact.parameters else ''}</td>" for name in names)
    why = f"{fact.reason or ''}: {fact.message}" if fact.message else fact.reason or ""
    yield f"<td>{escaped(why, 200)}</td></tr>"


def _numeric(is_number: bool) -> str:
    return ' class="number"' if is_number else ""


def _anchor(trial: TrialView) -> str:
    return html.escape(f"trial-{trial.fact.name}", quote=True)


def _code(text: str) -> str:
    """A name that may be broken after a dot or an underscore."""
    return f"<code>{html.escape(text).replace('.', '.<wbr>').replace('_', '_<wbr>')}</code>"
