# SPDX-License-Identifier: Apache-2.0
"""The charts of a sweep's report. Where there is too little to draw one, a sentence says what it needs.

Plotly reads some HTML in labels, and names and values are users': whatever comes from them is escaped here.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import optuna
import plotly.graph_objects as go
from optuna.distributions import FloatDistribution
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import TrialState, create_trial

from sandbox_api.distributions import CATEGORICAL, WEIGHTED

from ..search.distributions import Parameter
from .sweep_read import SweepView, TrialView
from .sweep_words import shown

ENOUGH_FOR_IMPORTANCE = 10
MOST_REPEATED = 60
_LONGEST_LABEL = 26
BLUE, ORANGE, GREY, RED = "#2563ab", "#d97706", "#9aa3ad", "#c2362b"
_FONT = {"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 13, "color": "#1f2933"}


@dataclass(frozen=True)
class Chart:
    """A chart, or the sentence that says why there is none."""

    title: str
    words: str
    figure: go.Figure | None = None


def charts(view: SweepView) -> Iterator[Chart]:
    """All of them, in the order of the page."""
    yield history(view)
    yield parallel_coordinates(view)
    yield importance(view)
    yield slices(view)
    repeated = [trial for trial in view.trials if len(trial.repeats) > 1]
    if repeated:
        yield repeats(view, repeated)


def escaped(value: object, longest: int = 60) -> str:
    """Text of a user's, cut to a length, as it may stand in HTML."""
    return html.escape(_cut(shown(value), longest))


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def history(view: SweepView) -> Chart:
    """Value by number of the trial, and the best so far."""
    title = "History"
    valued = [trial for trial in view.trials if trial.value is not None]
    failed = [trial for trial in view.trials if trial.seen_as == "failed"]
    if not valued:
        return Chart(
            title, "No trial has a value yet." if not failed else "No trial has a value: all that ended failed."
        )
    figure = _figure(height=420)
    best = _best_so_far(view, valued)
    if best:
        numbers, values = zip(*best, strict=True)
        end = max(trial.fact.number for trial in view.trials)
        figure.add_scatter(
            x=[*numbers, end], y=[*values, values[-1]], name="best so far", mode="lines",
            line={"shape": "hv", "color": ORANGE, "width": 2}, hoverinfo="skip",
        )  # fmt: skip
    for state, name, colour, symbol in (
        ("succeeded", "succeeded", BLUE, "circle"), ("pruned", "pruned, at its last rung", GREY, "triangle-down"),
    ):  # fmt: skip
        some = [trial for trial in valued if trial.seen_as == state]
        if some:
            figure.add_scatter(
                x=[trial.fact.number for trial in some], y=[trial.value for trial in some], name=name, mode="markers",
                marker={"color": colour, "symbol": symbol, "size": 8, "line": {"width": 0.5, "color": "white"}},
                text=[_hover(view, trial) for trial in some], hoverinfo="text",
            )  # fmt: skip
    if failed:
        values = [trial.value for trial in valued if trial.value is not None]
        floor = min(values) - 0.08 * ((max(values) - min(values)) or abs(min(values)) or 1.0)
        figure.add_scatter(
            x=[trial.fact.number for trial in failed], y=[floor] * len(failed), name="failed, no value",
            mode="markers", marker={"color": RED, "symbol": "x", "size": 7},
            text=[_hover(view, trial) for trial in failed], hoverinfo="text",
        )  # fmt: skip
    figure.update_xaxes(title_text="trial", rangemode="tozero", **_whole_ticks(view))
    figure.update_yaxes(title_text=escaped(view.objective))
    return Chart(title, f"{_goal_words(view)}. A point is a trial; hover for its parameters.", figure)


def _best_so_far(view: SweepView, valued: Sequence[TrialView]) -> list[tuple[int, float]]:
    pick = min if view.settings.goal == "minimize" else max
    found: list[tuple[int, float]] = []
    for trial in valued:
        if trial.seen_as == "succeeded" and trial.value is not None:
            found.append((trial.fact.number, pick([trial.value, *(value for _, value in found[-1:])])))
    return found


def parallel_coordinates(view: SweepView) -> Chart:
    """A line for each trial through its parameters' values to the metric."""
    title = "Parallel coordinates"
    valued = [trial for trial in view.trials if trial.value is not None and _is_whole(view, trial)]
    if not valued:
        return Chart(title, "Drawn once a trial has a value.")
    if not view.settings.space.searched:
        return Chart(title, "All parameters are constants.")
    values = [trial.value or 0.0 for trial in valued]
    axes = [
        _axis(each, [trial.fact.parameters[each.name] for trial in valued]) for each in view.settings.space.searched
    ]
    axes.append(_numbers_axis(_label(view.objective), values, log=False))
    scale = [[0, BLUE], [0.5, "#e8d9b5"], [1, ORANGE]]
    line = {
        "color": values, "showscale": True, "colorscale": scale, "reversescale": view.settings.goal == "minimize",
        "colorbar": {"title": {"text": ""}, "thickness": 12, "x": 1.04},
    }  # fmt: skip
    figure = _figure(height=480)
    figure.add_parcoords(
        line=line, dimensions=axes, labelangle=-18, labelside="top", rangefont={"size": 1, "color": "rgba(0,0,0,0)"}
    )
    figure.update_layout(margin={"l": 90, "r": 90, "t": 130, "b": 30})
    words = "Orange is good. Drag along an axis to choose a range of it, drag a name to move the axis."
    return Chart(title, words, figure)


def _axis(parameter: Parameter, values: Sequence[Any]) -> dict[str, Any]:
    label = _label(parameter.name)
    if parameter.distribution in (CATEGORICAL, WEIGHTED):
        # by what they look like: values may be lists or mappings
        texts = list(dict.fromkeys(shown(choice) for choice in parameter.choices))
        return {
            "label": label,
            "values": [texts.index(shown(value)) if shown(value) in texts else None for value in values],
            "tickvals": list(range(len(texts))),
            "ticktext": [_cut(text, _LONGEST_LABEL) for text in texts],  # these alone are not read as HTML
            "range": [-0.2, len(texts) - 0.8],
        }
    low, high = min(values), max(values)
    return _numbers_axis(label, values, log=_is_log(parameter) and low > 0 and high > low)


def _numbers_axis(label: str, values: Sequence[float], *, log: bool) -> dict[str, Any]:
    at = [math.log10(value) for value in values] if log else list(values)
    low, high = min(at), max(at)
    if low == high:
        return {
            "label": label,
            "values": at,
            "range": [low - 1, high + 1],
            "tickvals": [low],
            "ticktext": [shown(values[0])],
        }
    if all(isinstance(value, int) for value in values) and not log:
        ticks = sorted({float(round(low + part * (high - low) / 5)) for part in range(6)})
    else:
        ticks = [low + part * (high - low) / 5 for part in range(6)]
    texts = [_tick(10**tick if log else tick) for tick in ticks]
    return {"label": label, "values": at, "range": [low, high], "tickvals": ticks, "ticktext": texts}


def _tick(value: float) -> str:
    return f"{value:.0f}" if 100 <= abs(value) < 1e6 else f"{value:.3g}"


def importance(view: SweepView) -> Chart:
    """How much of the difference between good trials and all of them each parameter explains (PED-ANOVA)."""
    title = "Importance of parameters"
    valued = [trial for trial in view.trials if trial.seen_as == "succeeded" and trial.fact.point is not None]
    searched = view.settings.space.searched
    if len(searched) < 2:
        return Chart(title, "There is one parameter to search." if searched else "All parameters are constants.")
    if len(valued) < ENOUGH_FOR_IMPORTANCE:
        return Chart(title, f"Needs {ENOUGH_FOR_IMPORTANCE} trials that succeeded; there are {len(valued)}.")
    if len({trial.value for trial in valued}) < 2:
        return Chart(title, "All trials have the same value.")
    shares = _shares(view, valued)
    names = sorted(shares, key=lambda name: shares[name])
    figure = _figure(height=110 + 34 * len(names))
    figure.add_bar(
        x=[shares[name] for name in names], y=[_label(name) for name in names], orientation="h",
        marker_color=BLUE, text=[f"{shares[name]:.0%}" for name in names], textposition="outside", cliponaxis=False,
        hovertext=[escaped(name, 253) for name in names], hoverinfo="text",
    )  # fmt: skip
    figure.update_xaxes(range=[0, 1.08 * max(0.1, *shares.values())], tickformat=".0%")
    figure.update_yaxes(automargin=True)
    return Chart(title, "PED-ANOVA over the trials that succeeded: which parameters set good trials apart.", figure)


def _shares(view: SweepView, valued: Sequence[TrialView]) -> dict[str, float]:
    names = [each.name for each in view.settings.space.searched]
    cube = {name: FloatDistribution(0.0, 1.0) for name in names}
    study = optuna.create_study(direction=view.settings.goal)
    study.add_trials(
        create_trial(
            state=TrialState.COMPLETE, value=trial.value, params=dict(zip(names, trial.fact.point or (), strict=True)),
            distributions=dict(cube),
        )
        for trial in valued
        if len(trial.fact.point or ()) == len(names)
    )  # fmt: skip
    found = optuna.importance.get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    return {name: found.get(name, 0.0) for name in names}


def slices(view: SweepView) -> Chart:
    """Value over each parameter by itself."""
    title = "Value by parameter"
    valued = [trial for trial in view.trials if trial.value is not None and _is_whole(view, trial)]
    searched = view.settings.space.searched
    if not valued or not searched:
        return Chart(title, "Drawn once a trial has a value." if searched else "All parameters are constants.")
    from plotly.subplots import make_subplots

    columns = min(3, len(searched))
    rows = math.ceil(len(searched) / columns)
    figure = make_subplots(
        rows=rows, cols=columns, shared_yaxes=True, horizontal_spacing=0.04, vertical_spacing=min(0.2, 0.32 / rows),
        subplot_titles=[_label(each.name) for each in searched],
    )  # fmt: skip
    _dress(figure, height=130 + 270 * rows)
    figure.update_layout(margin_t=80)  # the titles stand below the buttons
    for index, each in enumerate(searched):
        row, column = index // columns + 1, index % columns + 1
        at = [trial.fact.parameters[each.name] for trial in valued]
        is_choice = each.distribution in (CATEGORICAL, WEIGHTED)
        figure.add_scatter(
            x=[escaped(value, _LONGEST_LABEL) for value in at] if is_choice else at,
            y=[trial.value for trial in valued], mode="markers", showlegend=False, row=row, col=column,
            marker={
                "color": [GREY if trial.seen_as == "pruned" else BLUE for trial in valued], "size": 7, "opacity": 0.75,
            },
            text=[_hover(view, trial) for trial in valued], hoverinfo="text",
        )  # fmt: skip
        if is_choice:
            choices = list(dict.fromkeys(escaped(choice, _LONGEST_LABEL) for choice in each.choices))
            figure.update_xaxes(
                type="category", categoryorder="array", categoryarray=choices, range=[-0.5, len(choices) - 0.5],
                row=row, col=column,
            )  # fmt: skip
        elif _is_log(each) and min(at) > 0 and max(at) >= 3 * min(at):
            figure.update_xaxes(type="log", dtick="D2" if max(at) < 30 * min(at) else 1, row=row, col=column)
        if column == 1:
            figure.update_yaxes(title_text=_label(view.objective), row=row, col=column)
    figure.update_annotations(font_size=13)
    return Chart(title, "A point is a trial; pruned ones are grey.", figure)


def repeats(view: SweepView, repeated: Sequence[TrialView]) -> Chart:
    """How far apart one trial's repeats lie, beside how far trials lie apart."""
    chosen = sorted(repeated, key=_cost(view))[:MOST_REPEATED]
    names = [f"{trial.fact.number}" for trial in chosen]
    figure = _figure(height=420)
    figure.add_scatter(
        x=[name for name, trial in zip(names, chosen, strict=True) for _ in trial.repeats],
        y=[value for trial in chosen for value in trial.repeats], name="one repeat", mode="markers",
        marker={"color": BLUE, "size": 7, "opacity": 0.6},
    )  # fmt: skip
    figure.add_scatter(
        x=names, y=[fmean(trial.repeats) for trial in chosen], name="their mean, the trial's value", mode="markers",
        marker={"color": ORANGE, "symbol": "line-ew-open", "size": 16, "line": {"width": 3}},
        text=[_hover(view, trial) for trial in chosen], hoverinfo="text",
    )  # fmt: skip
    figure.update_xaxes(title_text="trial, the best first", type="category", categoryorder="array", categoryarray=names)
    figure.update_yaxes(title_text=escaped(view.objective))
    more = f" The best {MOST_REPEATED} of {len(repeated)}." if len(repeated) > MOST_REPEATED else ""
    words = f"Repeats that lie as far apart as trials do say that the difference between those may be chance.{more}"
    return Chart("Spread over repeats", words, figure)


def _cost(view: SweepView) -> Callable[[TrialView], float]:
    sign = 1 if view.settings.goal == "minimize" else -1
    return lambda trial: sign * fmean(trial.repeats)


def _is_whole(view: SweepView, trial: TrialView) -> bool:
    """Whether it has a usable value for each parameter; a resource that somebody wrote may not."""
    return all(
        each.name in trial.fact.parameters
        and (each.distribution in (CATEGORICAL, WEIGHTED) or _is_number(trial.fact.parameters[each.name]))
        for each in view.settings.space.searched
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_log(parameter: Parameter) -> bool:
    return "log" in parameter.distribution


def _label(name: str) -> str:
    """A long name on two lines, broken at a dot or an underscore, each cut to what fits."""
    if len(name) <= _LONGEST_LABEL:
        return html.escape(name)
    places = [i for i, letter in enumerate(name) if letter in "._" and 4 < i < len(name) - 4]
    middle = min(places, key=lambda i: (abs(i - len(name) / 2), i), default=len(name) // 2)
    dots = [i for i in places if name[i] == "." and abs(i - len(name) / 2) < len(name) / 3]
    at = (dots[-1] if dots else middle) + 1
    return "<br>".join(escaped(part, _LONGEST_LABEL + 8) for part in (name[:at], name[at:]))


def _hover(view: SweepView, trial: TrialView) -> str:
    fact = trial.fact
    head = f"<b>{escaped(fact.name, 80)}</b>"
    what = f"{escaped(view.objective)}: {shown(trial.value)}" if trial.value is not None else escaped(fact.reason)
    lines = [f"{escaped(name)}: {escaped(value, 40)}" for name, value in list(fact.parameters.items())[:16]]
    return "<br>".join([head, what, *lines])


def _goal_words(view: SweepView) -> str:
    return f"{escaped(view.objective)}: {'low' if view.settings.goal == 'minimize' else 'high'} is good"


def _whole_ticks(view: SweepView) -> dict[str, Any]:
    last = max(trial.fact.number for trial in view.trials)
    return {"dtick": 1, "range": [-0.5, last + 0.5]} if last < 16 else {"range": [-0.02 * last, 1.02 * last]}


def _figure(height: int) -> go.Figure:
    figure = go.Figure()
    _dress(figure, height)
    return figure


def _dress(figure: go.Figure, height: int) -> None:
    figure.update_layout(
        template="plotly_white", height=height, font=_FONT, margin={"l": 70, "r": 30, "t": 40, "b": 50},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}, hoverlabel={"align": "left"},
    )  # fmt: skip
