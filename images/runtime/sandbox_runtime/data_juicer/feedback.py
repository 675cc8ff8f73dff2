# SPDX-License-Identifier: Apache-2.0
"""Refinement of a recipe by scores of rows: each bound of a filter moves towards where the score is best along
the filter's own statistic, if that is more than chance.

Pure: plain data and arrays in, plain data out, no import of Data-Juicer. The same seed decides the same.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .association import Association, Bins, Floats, associate, holm, quantile_bins, rank_correlation
from .bounds import Argument, Bound, bounds_of, number

COPY = 0.95
"""Statistics whose rank correlation is at least this, in either direction, say the same of the rows."""
MAX_ROWS = 20_000
"""Scored rows that decide, drawn by seed where there are more; the kept share is counted over all."""
FINENESS = 20
"""How many times the strictest threshold of Holm's correction is above the least p-value that there can be."""


@dataclass(frozen=True)
class Rule:
    """How bounds may move. `min_kept` is a share of all analysed rows, `max_step` a number of bins."""

    bins: int = 10
    min_support: int = 100
    min_kept: float = 0.5
    max_step: int = 1
    alpha: float = 0.05


@dataclass(frozen=True, eq=False)
class Criterion:
    """What an operator of the recipe asks of one statistic.

    `values` are the statistic of every analysed row, NaN where it has none: a filter keeps rows without the
    medium that it is about. `unfit` says why its bounds can't move, if so.
    """

    index: int
    op: str
    stat: str
    values: Floats
    lower: Bound | None
    upper: Bound | None
    min_closed: bool = True
    max_closed: bool = True
    is_reversed: bool = False
    unfit: str = ""

    def keeps(self, low: float, high: float) -> NDArray[np.bool_]:
        """Which rows it keeps with these bounds."""
        above = self.values >= low if self.min_closed != self.is_reversed else self.values > low
        below = self.values <= high if self.max_closed != self.is_reversed else self.values < high
        return np.isnan(self.values) | ((above & below) != self.is_reversed)

    @property
    def range(self) -> tuple[float, float]:
        """Its bounds as they are."""
        low = self.lower.value if self.lower else -math.inf
        return low, self.upper.value if self.upper else math.inf

    @property
    def edges(self) -> tuple[float, float]:
        """The figure from which on rows are kept, and the one from which on they are dropped again."""
        low, high = self.range
        return (
            low if self.min_closed else float(np.nextafter(low, math.inf)),
            float(np.nextafter(high, math.inf)) if self.max_closed else high,
        )


@dataclass(frozen=True)
class Evidence:
    """What the scores say of a statistic: the score is best between `best_from` and `best_to` (None: no end),
    with the mean `inside` there and `outside` elsewhere. `shape` is up, down or band; `corrected` is Holm's p.
    """

    rows: int
    shape: str
    p: float
    corrected: float
    best_from: float | None
    best_to: float | None
    inside: float
    outside: float


@dataclass(frozen=True)
class Finding:
    """One bound of the recipe, moved or not, and why. `expected_kept` is the share of all rows that the whole
    recipe keeps once this and the moves before it are made; None for a bound that stays.
    """

    bound: Bound
    after: Any
    why: str
    evidence: Evidence | None = None
    expected_kept: float | None = None

    @property
    def index(self) -> int:
        return self.bound.index

    @property
    def op(self) -> str:
        return self.bound.op

    @property
    def arg(self) -> str:
        return self.bound.arg

    @property
    def before(self) -> Any:
        return self.bound.before

    @property
    def is_moved(self) -> bool:
        return self.expected_kept is not None


@dataclass(frozen=True)
class Decision:
    """Every bound of the recipe with what was found, in the recipe's order.

    The kept shares are of all analysed rows, by the bounds on measured statistics alone. `copies` are groups of
    statistics that say the same of the rows; the first of each is the one that may move bounds.
    """

    findings: list[Finding]
    kept_before: float
    expected_kept: float
    copies: list[list[str]]

    @property
    def moved(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.is_moved]


def criteria_of(
    process: Sequence[Mapping[str, Any]],
    statistics: Mapping[str, Floats],
    unfit: Mapping[str, str],
    op_stats: Mapping[str, Collection[str]],
    op_args: Mapping[str, Mapping[str, Argument]],
) -> list[Criterion]:
    """What a recipe asks of the measured statistics. `unfit` says of some why they can't move a bound."""
    found: dict[tuple[int, str], Criterion] = {}
    for bound in bounds_of(process, statistics, op_stats, op_args):
        key, arguments = (bound.index, bound.stat), process[bound.index][bound.op] or {}
        if key not in found:
            is_reversed = bool(arguments.get("reversed_range", False))
            found[key] = Criterion(
                index=bound.index,
                op=bound.op,
                stat=bound.stat,
                values=statistics[bound.stat],
                lower=None,
                upper=None,
                min_closed=bool(arguments.get("min_closed_interval", True)),
                max_closed=bool(arguments.get("max_closed_interval", True)),
                is_reversed=is_reversed,
                unfit="the operator keeps what is outside of its bounds" if is_reversed else unfit.get(bound.stat, ""),
            )
        side = {"lower" if bound.is_lower else "upper": bound}
        found[key] = replace(found[key], **side)  # type: ignore[arg-type]
    return list(found.values())


def decide(criteria: Sequence[Criterion], scores: Floats, rule: Rule, *, maximize: bool, seed: int) -> Decision:
    """Decide which bounds move, and where to.

    `scores` has one figure for each analysed row, NaN where it has none.
    """
    rows = np.flatnonzero(np.isfinite(scores))
    if len(rows) > MAX_ROWS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, MAX_ROWS, replace=False))
    found = _associations(criteria, rows, scores if maximize else -scores, rule, seed)
    corrected = dict(zip(found, holm([each.p for each in found.values()]), strict=True))
    leader_of = _leaders(criteria, rows, found)
    recipe = _Recipe(criteria)
    kept_before = recipe.kept
    findings: dict[tuple[int, str], Finding] = {}
    proposals: list[tuple[bool, int, _Proposal]] = []
    for rank, place in enumerate([*leader_of, *(place for place in range(len(criteria)) if place not in found)]):
        criterion = criteria[place]
        evidence = _evidence(found[place], corrected[place], maximize) if place in found else None
        why = _why_not(criterion, evidence, leader_of.get(place, place), criteria, rule)
        for bound in filter(None, (criterion.lower, criterion.upper)):
            findings[place, bound.arg] = Finding(bound, bound.before, why, evidence)
            if not why:
                proposal = _proposal(place, criterion, bound, found[place], rule)
                proposals.append((proposal.tightens, rank, proposal))
    for _, _, proposal in sorted(proposals, key=lambda entry: entry[:2]):  # what loosens makes room for the others
        key = (proposal.place, proposal.bound.arg)
        findings[key] = recipe.move(proposal, findings[key], rule)
    groups: dict[int, list[str]] = {}
    for place, leader in leader_of.items():
        groups.setdefault(leader, []).append(criteria[place].stat)
    copies = [names for group in groups.values() if len(names := list(dict.fromkeys(group))) > 1]
    in_order = [findings[key] for key in sorted(findings, key=lambda key: key[0])]
    return Decision(in_order, kept_before, recipe.kept, copies)


def _associations(
    criteria: Sequence[Criterion], rows: NDArray[np.int64], scores: Floats, rule: Rule, seed: int
) -> dict[int, Association]:
    """By place among the criteria; without those that can't be tested: unfit, constant, too few rows."""
    binned: dict[int, tuple[NDArray[np.int64], Bins]] = {}
    for place, criterion in enumerate(criteria):
        measured = rows[np.isfinite(criterion.values[rows])]
        if not criterion.unfit and len(measured) >= 2 * rule.min_support:
            # what the recipe drops already is told apart: a bound is not to let in a few bad rows of a good bin
            bins = quantile_bins(criterion.values[measured], rule.bins, rule.min_support, criterion.edges)
            if len(bins.offsets) > 1:
                binned[place] = (measured, bins)
    resamples = math.ceil(FINENESS * len(binned) / rule.alpha)
    return {
        place: associate(
            bins,
            scores[measured],
            lower=criteria[place].lower is not None,
            upper=criteria[place].upper is not None,
            resamples=resamples,
            rng=np.random.default_rng(seed),  # the same for all, so that exact copies get the same p
        )
        for place, (measured, bins) in binned.items()
    }


def _leaders(
    criteria: Sequence[Criterion], rows: NDArray[np.int64], found: Mapping[int, Association]
) -> dict[int, int]:
    """For each tested criterion the one that it is a copy of, or itself; the surest first."""
    leader_of: dict[int, int] = {}
    for place in sorted(found, key=lambda place: (found[place].p, -found[place].difference, place)):
        leader_of[place] = place
        for leader in {other: None for other in leader_of.values() if other != place}:
            values = (criteria[each].values[rows] for each in (place, leader))
            if abs(rank_correlation(*values)) >= COPY:
                leader_of[place] = leader
                break
    return leader_of


def _evidence(found: Association, corrected: float, maximize: bool) -> Evidence:
    sign = 1 if maximize else -1
    bins = found.bins
    return Evidence(
        rows=len(bins.order),
        shape=found.shape,
        p=found.p,
        corrected=corrected,
        best_from=float(bins.starts[found.first]) if found.first > 0 else None,
        best_to=float(bins.ends[found.last - 1]) if found.last < len(bins.starts) else None,
        inside=sign * found.inside,
        outside=sign * found.outside,
    )


def _why_not(
    criterion: Criterion, evidence: Evidence | None, leader: int, criteria: Sequence[Criterion], rule: Rule
) -> str:
    """Why the bounds of a criterion stay; empty when the scores are for moving them."""
    if criterion.unfit:
        return f"stays: {criterion.unfit}"
    if evidence is None:
        return f"stays: fewer than two bins of {rule.min_support} scored rows"
    if criteria[leader] is not criterion:
        return f"stays: a copy of {criteria[leader].stat} of {criteria[leader].op}, which may move"
    if evidence.corrected > rule.alpha:
        return f"stays: no range of it has better scores beyond chance (p {evidence.corrected:.3g} after correction)"
    return ""


@dataclass(frozen=True)
class _Proposal:
    """Where a bound should go: values to try, the farthest first. Empty when it is where it should be."""

    place: int
    bound: Bound
    values: list[float]
    tightens: bool
    is_whole_way: bool


def _proposal(place: int, criterion: Criterion, bound: Bound, found: Association, rule: Rule) -> _Proposal:
    """Steps from a bound towards the range where the score is best, `max_step` bins at the most."""
    bins = found.bins
    if bound.is_lower:
        sign, starts, ends, wanted, closed = 1.0, bins.starts, bins.ends, found.first, criterion.min_closed
    else:  # the same seen from above
        sign, starts, ends = -1.0, -bins.ends[::-1], -bins.starts[::-1]
        wanted, closed = len(starts) - found.last, criterion.max_closed
    now = sign * bound.value
    now = now if closed else np.nextafter(now, math.inf)
    first = int(np.count_nonzero(ends < now))  # the first bin that is kept, at least in part
    steps: Sequence[int] = ()
    if wanted > first:
        steps = range(min(wanted, first + rule.max_step), first, -1)
    elif wanted < first:
        steps = [max(wanted, first - rule.max_step)]
    values = [float(starts[step]) for step in steps]
    values = [sign * (value if closed else float(np.nextafter(value, -math.inf))) for value in values]
    return _Proposal(place, bound, values, wanted > first, not steps or steps[0] == wanted)


class _Recipe:
    """Bounds as they are moved one after another, and what share of the rows the whole recipe keeps."""

    def __init__(self, criteria: Sequence[Criterion]) -> None:
        self._criteria = criteria
        self._ranges = [criterion.range for criterion in criteria]
        self._keeps = [criterion.keeps(*criterion.range) for criterion in criteria]

    @property
    def kept(self) -> float:
        return float(np.mean(np.logical_and.reduce(self._keeps))) if self._keeps else 1.0

    def move(self, proposal: _Proposal, finding: Finding, rule: Rule) -> Finding:
        """Move a bound as far as it may go; the finding then says so, or why it stays."""
        place, bound = proposal.place, proposal.bound
        low, high = self._ranges[place]
        others = np.logical_and.reduce([keeps for other, keeps in enumerate(self._keeps) if other != place] or [True])
        is_short = False
        for value in proposal.values:
            after = bound.written(value)
            figure = number(after)
            assert figure is not None
            if (figure > bound.value) != (bound.is_lower == proposal.tightens) or figure == bound.value:
                continue  # rounding took the step back
            moved = (figure, high) if bound.is_lower else (low, figure)
            keeps = self._criteria[place].keeps(*moved)
            kept = float(np.mean(keeps & others))
            if proposal.tightens and kept < rule.min_kept:
                is_short = True
                continue
            is_farthest = value == proposal.values[0]
            self._ranges[place], self._keeps[place] = moved, keeps
            return replace(finding, after=after, expected_kept=kept, why=_why(proposal, finding, is_farthest, rule))
        if not proposal.values:
            return replace(finding, why="stays: it is where the score is best")
        if is_short:
            words = f"stays: the recipe would keep less than {rule.min_kept:g} of the rows (minKept)"
            return replace(finding, why=words)
        return replace(finding, why="stays: the step is less than what the argument can say")


def _why(proposal: _Proposal, finding: Finding, is_farthest: bool, rule: Rule) -> str:
    evidence = finding.evidence
    assert evidence is not None
    ends = (evidence.best_from, evidence.best_to)
    where = " and ".join(
        f"{words} {end:.6g}" for words, end in zip(("from", "up to"), ends, strict=True) if end is not None
    )
    said = f"moved: the score is best {where} (mean {evidence.inside:.4g}, elsewhere {evidence.outside:.4g})"
    if not is_farthest:
        return f"{said}; not farther, for the recipe would keep less than {rule.min_kept:g} of the rows (minKept)"
    return said if proposal.is_whole_way else f"{said}; not farther in one run (maxStep {rule.max_step})"
