# SPDX-License-Identifier: Apache-2.0
"""Values drawn from a structural schema, as it stands in a CustomResourceDefinition, and mistakes put into given ones.

What the schema gains is drawn from the day it is generated. A pattern that is new has to be taught here (`EXAMPLES`).
"""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Schema = dict[str, Any]
Path = tuple[str | int, ...]

EXAMPLES: dict[str, tuple[list[str], list[str]]] = {
    # pattern: fitting texts, others
    "^([0-9]+(s|m|h|d))+$": (
        ["1s", "90s", "10m", "1h30m", "2d", "0s", "9999d"],
        ["", "10", "1.5h", "-1s", "1 h", "10M"],
    ),
    "^[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?$": (
        ["a", "probe_2", "A-b", "x" * 63],
        ["", "-a", "a.b", "ü", "a b", "x" * 64],
    ),
    "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$": (["a", "my-claim", "a.b"], ["", "A", "-a", "a_b", "a/b", "x" * 300]),
    "^[A-Za-z_][A-Za-z0-9_]*$": (["A", "HF_TOKEN", "_x"], ["", "1A", "A-B", "A B"]),
    "^[A-Za-z][A-Za-z0-9_-]*$": (
        ["ProbeViaAnalyzerHook", "ProcessDataHook", "RefineRecipeViaKSigmaHook", "TrainModelHook", "Nobody"],
        ["", "1Hook", "a b", "Probe.Hook"],
    ),
    r"^[A-Za-z0-9_.%/-]*(\*[A-Za-z0-9_.%/-]*){0,2}$": (["", "rows", "*.mean", "a*b*c"], ["a*b*c*d", "a b", "(x)"]),
}
TEXTS = [
    "", "a", "anonymous.a.stats", "-1.stats", "-1.", "anonymous.a.rows >= 1", "inputs/raw/demo.jsonl", "../../etc/passwd", "/etc/passwd",
    "item.x", "djConfigs", "extraConfigs.k", "2Gi", "500m", "$(HOME)", "$$", "a\nb", "\u0000"[:0] + "\u00e4\u00f6\u00fc", "\U0001f600" * 3, "x" * 200, "true", "null", "1e5", "%s%d{}",
]  # fmt: skip
KEYS = ["a", "default", "gpu8", "nvidia.com/gpu", "cpu", "memory", "djConfigs", "djConfigs.process", "djConfigs.dataset_path",
        "extraConfigs.k", "process", "dataset_path", "x y", "", "a.b.c", "ä", "spec", "0"]  # fmt: skip
QUANTITIES = [1, 0, 8, "1", "500m", "4Gi", "1e3", "1.5", ".5", "0"]
NO_QUANTITIES = [-1, "-1", "4GB", "", "much", "1e999", "1 Gi", "0x10", 1.5]


@dataclass
class Wild:
    """`Wild(chance).value(schema)`; `wrong` is how likely a node breaks its own schema."""

    chance: random.Random
    wrong: float = 0.01

    def value(self, schema: Schema, depth: int = 0) -> Any:
        """A value for a schema."""
        if self.chance.random() < self.wrong:
            return self.not_of(schema)
        if schema.get("x-kubernetes-int-or-string"):
            return self.chance.choice(QUANTITIES)
        if "enum" in schema:
            return self.chance.choice(schema["enum"])
        match schema.get("type"):
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, depth)
            case "string":
                return self._text(schema)
            case "integer" | "number":
                return self._number(schema)
            case "boolean":
                return self.chance.random() < 0.5
        return self.anything(depth)

    def _object(self, schema: Schema, depth: int) -> Any:
        if "properties" not in schema and "additionalProperties" not in schema:
            return {self.chance.choice(KEYS): self.anything(depth + 1) for _ in range(self.chance.randint(0, 3))}
        if "additionalProperties" in schema:
            of = schema["additionalProperties"]
            most = min(3, schema.get("maxProperties", 3))
            return {self.chance.choice(KEYS): self.value(of, depth + 1) for _ in range(self.chance.randint(0, most))}
        likely = 0.9 if depth == 0 else 0.35 / (1 + 0.3 * depth)
        required = schema.get("required", [])
        return {
            name: self.value(of, depth + 1)
            for name, of in schema["properties"].items()
            if (name in required and self.chance.random() > self.wrong)
            or self.chance.random() < (likely if of.get("type") != "object" else likely / 2)
        }

    def _array(self, schema: Schema, depth: int) -> Any:
        least, most = schema.get("minItems", 0), min(3, schema.get("maxItems", 3))
        return [self.value(schema["items"], depth + 1) for _ in range(self.chance.randint(least, max(least, most)))]

    def _text(self, schema: Schema) -> str:
        if "pattern" in schema:
            fitting = [text for text in EXAMPLES[schema["pattern"]][0] if len(text) <= schema.get("maxLength", 1000)]
            return self.chance.choice(fitting)
        return self.chance.choice(TEXTS)[: schema.get("maxLength", 1000)]

    def _number(self, schema: Schema) -> int:
        least, most = schema.get("minimum", 0), schema.get("maximum", 2**31)
        return self.chance.choice([least, least + 1, min(most, least + 2), most, self.chance.randint(least, most)])

    def anything(self, depth: int = 0) -> Any:
        """Any JSON at all."""
        kind = self.chance.randrange(9 if depth < 4 else 7)
        match kind:
            case 0:
                return None
            case 1:
                return self.chance.random() < 0.5
            case 2:
                return self.chance.choice([0, 1, -1, 2**31, 2**63 - 1, -(2**63), 256])
            case 3:
                return self.chance.choice([0.5, -1.5, 1e300, 1e-300, 2.25])
            case 7:
                return [self.anything(depth + 1) for _ in range(self.chance.randint(0, 3))]
            case 8:
                return {self.chance.choice(KEYS): self.anything(depth + 1) for _ in range(self.chance.randint(0, 3))}
        return self.chance.choice(TEXTS)

    def not_of(self, schema: Schema) -> Any:
        """Something that this schema does not want, or hardly."""
        ways = [self.anything(3), None]
        if "pattern" in schema:
            ways += [self.chance.choice(EXAMPLES[schema["pattern"]][1])] * 3
        if "maxLength" in schema:
            ways.append("x" * (schema["maxLength"] + 1))
        if "minimum" in schema:
            ways += [schema["minimum"] - 1, -(2**40)]
        if "maximum" in schema:
            ways += [schema["maximum"] + 1, 2**63 - 1]
        if "maxItems" in schema and schema["maxItems"] < 70 and schema["items"].get("type") == "string":
            ways.append(["a"] * (schema["maxItems"] + 1))
        if schema.get("x-kubernetes-int-or-string"):
            ways.append(self.chance.choice(NO_QUANTITIES))
        if "enum" in schema:
            ways += ["Never mind", schema["enum"][0].lower()]
        return self.chance.choice(ways)

    # More, and mistakes

    def decorated(self, value: Any, schema: Schema, more: int) -> Any:
        """A copy of a value with so many of its optional fields filled."""
        value = copy.deepcopy(value)
        for _ in range(more):
            free = [
                (path, name, of["properties"][name])
                for path, of in places_in(value, schema)
                if isinstance(_at(value, path), dict)
                for name in sorted(set(of.get("properties", {})) - set(_at(value, path)))
            ]
            path, name, of = self.chance.choice(free)
            _at(value, path)[name] = self.value(of, 1)
        return value

    def mistaken(self, value: Any, schema: Schema, mistakes: int) -> Any:
        """A copy of a value with so many mistakes in it."""
        value = copy.deepcopy(value)
        for _ in range(mistakes):
            places = [(path, of) for path, of in places_in(value, schema) if path]
            if places:
                self._spoil(value, *self.chance.choice(places))
        return value

    def _spoil(self, whole: Any, path: Path, schema: Schema) -> None:
        *way, last = path
        around = _at(whole, tuple(way))
        match self.chance.randrange(7):
            case 0:
                del around[last]
            case 1 if isinstance(last, str):  # misspelt
                where = self.chance.randrange(len(last) + 1)
                around[last[:where] + self.chance.choice(["", "x", "_"]) + last[where + 1 :]] = around.pop(last)
            case 2 if isinstance(last, int):  # twice, or in another order
                around.insert(self.chance.randrange(len(around) + 1), copy.deepcopy(around[last]))
            case 3:
                around[last] = self.value(schema)
            case 4 if isinstance(around[last], str) and around[last]:
                text = around[last]
                where = self.chance.randrange(len(text))
                around[last] = text[:where] + self.chance.choice(["", ".", "x", " ", "ä", "-"]) + text[where + 1 :]
            case 5 if isinstance(around, dict):
                around[self.chance.choice(KEYS)] = self.anything(2)
            case _:
                around[last] = self.not_of(schema)


def places_in(value: Any, schema: Schema, path: Path = ()) -> Iterator[tuple[Path, Schema]]:
    """Every node of a value with its schema, as far as there is one."""
    yield path, schema
    if isinstance(value, dict):
        named, rest = schema.get("properties", {}), schema.get("additionalProperties")
        for key, item in value.items():
            yield from places_in(item, named.get(key, rest if isinstance(rest, dict) else {}), (*path, key))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from places_in(item, schema.get("items", {}), (*path, number))


def _at(whole: Any, path: Path) -> Any:
    for part in path:
        whole = whole[part]
    return whole


def patterns_in(schema: Schema) -> set[str]:
    """Every pattern of a schema."""
    found = {schema["pattern"]} if "pattern" in schema else set()
    rest = schema.get("additionalProperties")
    below = [*schema.get("properties", {}).values(), schema.get("items", {}), rest if isinstance(rest, dict) else {}]
    return found.union(*(patterns_in(each) for each in below if each))


def check_examples() -> None:
    """The examples are what they are said to be."""
    for pattern, (fitting, others) in EXAMPLES.items():
        assert all(re.search(pattern, text) for text in fitting), pattern
        assert not any(re.search(pattern, text) and len(text) < 64 for text in others), pattern
