# SPDX-License-Identifier: Apache-2.0
"""Makes a search of what `hpo_config` names: a W&B sweep's definition, which a SandboxSweep takes as it is.

Its keys keep their spelling, their order and their comments; the converted experiment becomes the trials' template.
What its values mean is the planner's business.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from sandbox_api.sentences import schema_problems
from sandbox_api.sweep import IGNORED, SweepSpec

from ..plan.references import did_you_mean
from .convert_tree import Entry, Map, Scalar, Seq, copied_entry, plain
from .convert_upstream import Files, NotConverted

KEY = "hpo_config"
KNOWN = (
    "method", "metric", "parameters", "early_terminate", "run_cap", "sweep_max_count", "description",
    *(key for key in IGNORED if "." not in key),
)  # fmt: skip
"""Keys of W&B's definitions, and the two that Data-Juicer adds."""
NEEDED = {
    "method": "how is searched: bayes, random or grid",
    "metric": "what for: `{name: quality_score, goal: maximize}`",
    "parameters": "where: `<op_name>.<arg>: {values: [...]}` and the like",
}
"""Keys that must be there, and what they say."""


@dataclass
class Sweep:
    definition: Map
    name: Map | Seq | Scalar
    """What its file calls it."""
    above: list[str] = field(default_factory=list)
    """Comments at the key that named the file."""
    below: list[str] = field(default_factory=list)
    """Comments after its last key."""

    def around(self, template: Map) -> Map:
        """The spec of the SandboxSweep whose trials are experiments of this spec."""
        entries = {key: copied_entry(entry) for key, entry in self.definition.entries.items()}
        metric = entries["metric"].value
        inside = {f"metric.{key}": entry for key, entry in metric.entries.items()} if isinstance(metric, Map) else {}
        for key, entry in {**entries, **inside}.items():
            if key in IGNORED:
                entry.remark("taken as it is, and has no effect here")
        next(iter(entries.values())).above[:0] = self.above
        entries["template"] = Entry(template, remarks=["what each trial runs, its parameters applied"])
        return Map(entries)


def sweep_of(settings: Map, files: Files) -> Sweep | None:
    """The search that a configuration asks for, if it does. Raises NotConverted."""
    entry = settings.entries.get(KEY)
    if entry is None or plain(entry.value) in (None, False, ""):
        return None
    value, where, below = entry.value, KEY, []
    if isinstance(value, str):
        where = f"{KEY} ({value})"
        value, below = files.read(value, KEY)
    if not isinstance(value, Map):
        raise NotConverted(f"{KEY}: name the .yaml or .json file with the search's definition")
    problems = [*_problems(value, where)]
    if problems:
        raise NotConverted(*problems)
    above = [*entry.above, *([entry.beside] if entry.beside else [])]
    return Sweep(value, value.get("sweep_name") or value.get("name"), above, below)


def _problems(definition: Map, where: str) -> Iterator[str]:
    unknown = [key for key in definition.entries if key not in KNOWN]
    for key in unknown:
        yield f"{where}: {key}: the definition of a search has no such key{did_you_mean(key, KNOWN)}"
    lacking = [key for key in NEEDED if definition.get(key) is None]
    for key in lacking:
        yield f"{where}: {key}: is missing; it says {NEEDED[key]}"
    if not unknown and not lacking:
        yield from _form_problems({**plain(definition), "template": {}}, where)


def _form_problems(definition: Mapping[str, Any], where: str) -> Iterator[str]:
    try:
        SweepSpec.model_validate(definition)
    except ValidationError as error:
        for problem in schema_problems(error, SweepSpec, ""):
            yield f"{where}: {problem.removeprefix('.')}"
