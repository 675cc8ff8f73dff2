# SPDX-License-Identifier: Apache-2.0
"""Reads W&B's `parameters` in each of their forms, and says all that is wrong with them at once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from .distributions import (
    CATEGORICAL,
    CONSTANT,
    DISTRIBUTIONS,
    INTEGER,
    LARGEST,
    WEIGHTED,
    DefinedParameter,
    shape_of,
)
from .words import written_as_text

_DEFAULTS = {"mu": 0.0, "sigma": 1.0, "a": 1.0, "b": 1.0, "q": 1.0}
_POSITIVE = ("sigma", "a", "b", "q")
_HUGE = 1e308
_MAX_DEPTH = 16
MAX_DIMENSIONS = 64
_LONGEST_NAME = 253
_KEYS = {
    CONSTANT: ("value",),
    CATEGORICAL: ("values",),
    WEIGHTED: ("values", "probabilities"),
    INTEGER: ("min", "max"),
}


@dataclass(frozen=True)
class DefinedSpace:
    """What a definition's `parameters` mean, or what is wrong with them."""

    parameters: tuple[DefinedParameter, ...]
    """Flat, sorted by name; without those that are wrong."""
    problems: tuple[str, ...] = ()
    """A sentence for each mistake."""
    notes: tuple[str, ...] = ()
    """What is allowed, but perhaps not as it was meant."""


def read_space(raw: object, where: str) -> DefinedSpace:
    """The space of W&B's `parameters`, which stand at `where`."""
    reading = _Reading()
    reading.group(raw, where, prefix="", depth=0)
    parameters = tuple(sorted(reading.found, key=lambda each: each.name))
    problems, names = reading.problems, [each.name for each in parameters]
    problems += [
        f"{where}: two parameters are called {name!r}; give each once, flat or nested"
        for name in sorted({name for name in names if names.count(name) > 1})
    ]
    if (dimensions := sum(not each.is_constant for each in parameters)) > MAX_DIMENSIONS:
        problems.append(f"{where}: has {dimensions} parameters to search, {MAX_DIMENSIONS} are the most")
    if not parameters and not problems:
        problems.append(f"{where}: is empty; name at least one parameter")
    return DefinedSpace(parameters, tuple(problems), tuple(reading.notes))


def grid_problems(parameters: Iterable[DefinedParameter], where: str) -> tuple[str, ...]:
    """Why there is no grid: a sentence for each parameter whose values can't be counted."""
    return tuple(
        f'{where}["{each.name}"]: a grid needs values that can be counted, and {each.distribution} has none; '
        "give values, whole numbers as min and max, or q_uniform, or search with random"
        for each in parameters
        if each.grid_size is None
    )


class _Reading:
    def __init__(self) -> None:
        self.found: list[DefinedParameter] = []
        self.problems: list[str] = []
        self.notes: list[str] = []

    def group(self, raw: object, where: str, prefix: str, depth: int) -> None:
        if not isinstance(raw, Mapping):
            self.problems.append(f"{where}: must be a mapping of names to parameters, not {_shown(raw)}")
            return
        if depth > _MAX_DEPTH:
            self.problems.append(f"{where}: is nested more than {_MAX_DEPTH} deep")
            return
        for key, entry in raw.items():
            name, place = f"{prefix}{key}", f'{where}["{key}"]'
            if not isinstance(key, str) or not key or len(name) > _LONGEST_NAME:
                self.problems.append(
                    f"{where}: a parameter's name is text of 1 to {_LONGEST_NAME} characters, not {key!r}"
                )
            elif not isinstance(entry, Mapping):
                self.problems.append(f"{place}: must be a mapping; {_as_mapping(entry)}")
            elif "parameters" in entry:
                self.strangers(entry, ("parameters",), place, "with nested parameters")
                if entry["parameters"] == {}:
                    self.problems.append(f"{place}.parameters: is empty; name at least one parameter")
                self.group(entry["parameters"], f"{place}.parameters", f"{name}.", depth + 1)
            else:
                self.one(name, entry, place)

    def one(self, name: str, entry: Mapping[str, Any], where: str) -> None:
        before = len(self.problems)
        distribution = self.distribution(entry, where)
        if distribution is None:
            return
        keys = _keys_of(distribution)
        self.strangers(entry, (*keys, "distribution"), where, f"of {distribution}")
        made = self.choice(name, distribution, entry, where)
        if made is None:
            made = self.number(name, distribution, entry, where)
        if made is not None and len(self.problems) == before:
            self.found.append(made)

    def distribution(self, entry: Mapping[str, Any], where: str) -> str | None:
        """The one that is named, or the one that the keys mean."""
        named = entry.get("distribution")
        if named is not None:
            if not isinstance(named, str) or named not in DISTRIBUTIONS:
                close = get_close_matches(str(named), DISTRIBUTIONS, n=1)
                meant = f"did you mean {close[0]}?" if close else f"there are {', '.join(DISTRIBUTIONS)}"
                self.problems.append(f"{where}.distribution: there is no {_shown(named)}; {meant}")
                return None
            return WEIGHTED if named == CATEGORICAL and "probabilities" in entry else named
        if "value" in entry:
            return CONSTANT
        if "values" in entry:
            return WEIGHTED if "probabilities" in entry else CATEGORICAL
        if "q" not in entry and "min" in entry and "max" in entry:
            low, high = entry["min"], entry["max"]
            if not (_is_integer(low) and _is_integer(high)):
                return "uniform"
            if high - low == 1:
                self.notes.append(
                    f"{where}: is one of the integers {low} and {high}; for numbers between set distribution: uniform"
                )
            return INTEGER
        self.problems.append(
            f"{where}: does not say what its values are; give value, values, min and max, or a distribution"
        )
        return None

    def strangers(self, entry: Mapping[str, Any], known: tuple[str, ...], where: str, what: str) -> None:
        for key in entry:
            if key not in known:
                keys = ", ".join(each for each in known if each != "distribution")
                self.problems.append(f"{where}.{key}: is no key {what}; those are {keys}")

    def choice(self, name: str, distribution: str, entry: Mapping[str, Any], where: str) -> DefinedParameter | None:
        """A constant or a categorical parameter."""
        if distribution == CONSTANT:
            if "value" not in entry:
                self.problems.append(f"{where}.value: is missing")
                return None
            self.sendable(entry["value"], f"{where}.value")
            return DefinedParameter(name, distribution, choices=(entry["value"],))
        if distribution not in (CATEGORICAL, WEIGHTED):
            return None
        values = entry.get("values")
        if not isinstance(values, list | tuple) or not values:
            self.problems.append(f"{where}.values: must be a list of at least one value, not {_shown(values)}")
            return None
        for index, value in enumerate(values):
            self.sendable(value, f"{where}.values[{index}]")
        shares = entry.get("probabilities", ()) if distribution == WEIGHTED else ()
        if distribution == WEIGHTED and not self.shares(shares, len(values), f"{where}.probabilities"):
            return None
        return DefinedParameter(name, distribution, choices=tuple(values), probabilities=tuple(map(float, shares)))

    def shares(self, shares: object, count: int, where: str) -> bool:
        if not isinstance(shares, list | tuple) or len(shares) != count:
            self.problems.append(f"{where}: must be a list of {count}, one for each of values, not {_shown(shares)}")
        elif not all(_is_number(each) and each >= 0 for each in shares):
            self.problems.append(f"{where}: must be numbers of at least 0, not {_shown(shares)}")
        elif not math.isclose(sum(shares), 1, rel_tol=1e-5, abs_tol=1e-8):
            self.problems.append(f"{where}: must sum to 1, not to {sum(shares):g}")
        else:
            return True
        return False

    def sendable(self, value: object, where: str) -> None:
        """JSON has no NaN and no infinity."""
        match value:
            case float() if not math.isfinite(value):
                self.problems.append(f"{where}: {value} is not a finite number")
            case list() | tuple():
                for index, each in enumerate(value):
                    self.sendable(each, f"{where}[{index}]")
            case Mapping():
                for key, each in value.items():
                    self.sendable(each, f"{where}.{key}")

    def number(self, name: str, distribution: str, entry: Mapping[str, Any], where: str) -> DefinedParameter | None:
        """A parameter whose values are numbers."""
        keys = _keys_of(distribution)
        if "min" not in keys and "mu" not in keys and "a" not in keys:
            return None
        given: dict[str, float] = {}
        for key in keys:
            value = entry.get(key, _DEFAULTS.get(key))
            if not _is_number(value):
                missing = f"is missing; {distribution} needs it"
                wrong = f"must be a finite number, not {_shown(value)}{written_as_text(value)}"
                self.problems.append(f"{where}.{key}: {missing if value is None else wrong}")
            elif key in _POSITIVE and value <= 0:
                self.problems.append(f"{where}.{key}: must be more than 0, not {value}")
            elif key == "min" and distribution.endswith("_values") and value <= 0:
                self.problems.append(f"{where}.min: must be more than 0 on a logarithmic scale, not {value}")
            elif distribution == INTEGER and (value != int(value) or abs(value) > LARGEST):
                self.problems.append(f"{where}.{key}: must be an integer up to 2^53, not {value}")
            else:
                given[key] = value
        if len(given) < len(keys):
            return None
        if "min" in given and given["min"] >= given["max"]:
            self.problems.append(f"{where}: min {given['min']} must be less than max {given['max']}")
            return None
        first, second = (float(given[key]) for key in keys[:2])
        made = DefinedParameter(name, distribution, first=first, second=second, quantum=given.get("q"))
        return made if distribution == INTEGER or self.is_representable(made, where) else None

    def is_representable(self, made: DefinedParameter, where: str) -> bool:
        """Whether all its values are numbers, and its quantum leaves any."""
        limit = LARGEST * (made.quantum or 1) if made.quantum is not None else math.inf
        wrong = None
        try:
            low, high = made.extremes()
            if not math.isfinite(high - low) or max(abs(low), abs(high)) > limit:
                wrong = "too large"
        except OverflowError:
            wrong = "too large"
        except FloatingPointError:
            wrong = "too near to 0"
        if wrong is not None:
            are_exponents = made.distribution.endswith("log_uniform")
            advice = " (min and max are exponents of e)" if are_exponents else ""
            use = (
                f"did you mean {made.distribution}_values?" if are_exponents and made.first > 0 else "make it narrower"
            )
            self.problems.append(f"{where}: {made.distribution} reaches numbers that are {wrong}{advice}; {use}")
            return False
        if made.quantum is not None:
            least, most = made.multiples()
            if least is not None and most is not None and least > most:
                self.problems.append(f"{where}.q: no multiple of {made.quantum} lies between {low:g} and {high:g}")
                return False
        return True


def _keys_of(distribution: str) -> tuple[str, ...]:
    shape = shape_of(distribution)
    if shape is None:
        return _KEYS[distribution]
    return (*shape.keys, "q") if distribution.startswith("q_") else shape.keys


def _as_mapping(entry: object) -> str:
    """How to write what stands in the place of a parameter."""
    if entry is None:
        return "it says nothing of its values: give value, values, min and max, or a distribution"
    is_list = isinstance(entry, list | tuple)
    return f"{'choices are `values: ' if is_list else 'a constant is `value: '}{_shown(entry)}`"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -_HUGE <= value <= _HUGE


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _shown(value: object) -> str:
    """A value as it fits into a sentence."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
