# SPDX-License-Identifier: Apache-2.0
"""Turns `input`, `probe` and shared paths into references to outputs of earlier jobs, and finds what can't be one.

A reference is `<pipeline>.<metaName>.<output or figure>`, or `-1.<output>` for the job before in written order. A path
in a configuration that an earlier job declares to write is a reference as well, so that files in the guide's style
work and stay safe.
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from sandbox_api.contract import INPUTS, REFINED
from sandbox_api.hook import Hook, Kind
from sandbox_api.hooks import HOOKS
from sandbox_api.words import did_you_mean as did_you_mean

from .job import ANY_ITEM, Reference, is_of_each_item

_WRITTEN = {target for hook in HOOKS.values() for target in hook.writes}


@dataclass(frozen=True)
class Written:
    """A file that a job's configuration says it writes."""

    output: str
    target: str
    """The configuration key that names it."""


@dataclass(frozen=True)
class Producer:
    """What references need to know of a job."""

    job_id: str
    where: str
    hook: Hook
    pipeline: str
    meta_name: str
    outputs: tuple[str, ...]
    writes: Mapping[str, Written] = field(default_factory=dict)
    """By normalised path."""
    absent: Mapping[str, str] = field(default_factory=dict)
    """Outputs it will not make, and the configuration key that would change that."""
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    """Of its outputs, as far as they are known before it runs."""

    def kind_of(self, name: str) -> Kind | None:
        """What an output or a figure is; None: nobody knows yet."""
        if name in self.outputs:
            return self.kinds.get(name)
        return "number" if self.hook.known else None


def kind_problem(target: str, source: object, producers: Sequence[Producer]) -> Iterator[str]:
    """A sentence where a whole configuration would be filled with what surely is none."""
    if "." in target or not isinstance(source, Reference) or source.element is not None:
        return
    made_by = next((producer for producer in producers if producer.job_id == source.job_id), None)
    kind = made_by.kind_of(source.output) if made_by is not None else None
    if kind in ("number", "list"):
        yield f"{source.output!r} is a {kind}; {target} needs a configuration, as the recipe of a refine job is one"


def resolve(text: str, where: str, earlier: tuple[Producer, ...], later: tuple[Producer, ...]) -> Reference | str:
    """The reference that `text` stands for among earlier jobs, or a sentence that says why it is none."""
    parts = text.split(".", 2)
    if parts[0] == "-1":
        output = text[len("-1.") :]
        if not earlier:
            return f"{where}: there is no job before this one for {text!r}"
        last = earlier[-1]
        if _has(last, output):
            return Reference(last.job_id, output)
        if output in last.absent:
            return _told_absent(where, last, output)
        hint = did_you_mean(output, last.outputs)
        return f"{where}: the job before this one ({last.meta_name}) has no output {output!r}{hint}"
    if len(parts) < 3:
        return f"{where}: {text!r} is not a reference; write <pipeline>.<metaName>.<output>, or -1.<output>"
    pipeline, meta_name, output = parts
    named = [p for p in earlier if (p.pipeline, p.meta_name) == (pipeline, meta_name)]
    found = _of_these(named, output, where)
    if found is not None:
        return found
    if any((p.pipeline, p.meta_name) == (pipeline, meta_name) for p in later):
        return f"{where}: {text!r} is an output of a job that runs later; only earlier jobs can be referred to"
    known = [f"{p.pipeline}.{p.meta_name}.{name}" for p in earlier for name in p.outputs]
    if named:
        what = f"no job named {meta_name!r} before this one has an output {output!r}"
    else:
        what = f"no job before this one has the metaName {meta_name!r} in the pipeline {pipeline!r}"
    return f"{where}: {what}{did_you_mean(text, known)}"


def resolve_by_name(text: str, where: str, producers: Sequence[Producer], *, numbers: bool) -> Reference | str:
    """The reference that `text` stands for among all jobs, or a sentence that says why it is none.

    It belongs to no job, so that there is none before it. `numbers`: only figures are asked for, and told.
    """
    kind = "figure" if numbers else "output"
    parts = text.split(".", 2)
    if len(parts) < 3 or parts[0] == "-1":
        known = [name for p in producers for name in _names(p, numbers=numbers) if "*" not in name]
        meant = [name for name in known if name.endswith(f".{text.removeprefix('-1.')}")]
        example = f", e.g. {(meant or known)[0]}" if known else ""
        return f"{where}: {text!r} does not name a job's result; write <pipeline>.<metaName>.<{kind}>{example}"
    pipeline, meta_name, name = parts
    named = [p for p in producers if (p.pipeline, p.meta_name) == (pipeline, meta_name)]
    if not named:
        hint = did_you_mean(f"{pipeline}.{meta_name}", (f"{p.pipeline}.{p.meta_name}" for p in producers))
        return f"{where}: no job has the metaName {meta_name!r} in the pipeline {pipeline!r}{hint}"
    found = _of_these(named, name, where)
    if found is not None:
        return found
    hint = _told(name, named, numbers=numbers)
    return f"{where}: no job named {meta_name!r} has {'a' if numbers else 'an'} {kind} {name!r}{hint}"


def _of_these(named: Sequence[Producer], output: str, where: str) -> Reference | str | None:
    """The output, else the figure, of one of these jobs; a sentence where it is one that won't be made."""
    for producer in named:
        if output in producer.outputs:
            return Reference(producer.job_id, output)
    for producer in named:
        if _has(producer, output):
            return Reference(producer.job_id, output)
        if output in producer.absent:
            return _told_absent(where, producer, output)
    return None


def _names(producer: Producer, *, numbers: bool) -> list[str]:
    """References to the job's results, as they are written; `*` stands for any text."""
    outputs = [name for name in producer.outputs if not numbers or producer.kinds.get(name) in (None, "number")]
    # Those told from a probe of the same name have a shorter name as well.
    figures = [name for name in producer.hook.figures if not name.startswith(f"{REFINED}.")]
    return [f"{producer.pipeline}.{producer.meta_name}.{name}" for name in (*outputs, *figures)]


def _told(word: str, named: Sequence[Producer], *, numbers: bool) -> str:
    """The end of a sentence that helps: the nearest result of these jobs, or all of them."""
    known = {name.split(".", 2)[2]: name for producer in named for name in _names(producer, numbers=numbers)}
    close = get_close_matches(word, known, 1, 0.6)
    if close:
        return f"; did you mean {known[close[0]]!r}?"
    any_text = " (* is any text)" if any("*" in name for name in known) else ""
    return f"; there is: {', '.join(known.values())}{any_text}" if known else "; there is none"


def list_problem(text: str, reference: Reference, where: str, reader: str, earlier: Iterable[Producer]) -> str | None:
    """A sentence where a forEach (in the pipeline `reader`) goes through what is known to be no list."""
    producer = next(p for p in earlier if p.job_id == reference.job_id)
    own_item = producer.pipeline == reader and not is_of_each_item(reference.job_id)
    if ANY_ITEM in reference.job_id and not own_item:
        return None  # one result of each item, which is a list
    kind = producer.kind_of(reference.output)
    if kind is None or kind == "list":
        return None
    return f"{where}: {text!r} is a {kind}, no list; write the list itself, or the reference of an output that is one"


def number_problem(text: str, reference: Reference, where: str, producers: Iterable[Producer]) -> str | None:
    """A sentence where a target compares what is known to be no number."""
    producer = next(p for p in producers if p.job_id == reference.job_id)
    kind = producer.kind_of(reference.output)
    if kind is None or kind == "number" or producer.hook.has_figure(reference.output):
        return None
    hint = _told(reference.output, [producer], numbers=True)
    return f"{where}: {text!r} is a {kind}, no number; name one of the job's figures{hint}"


def _told_absent(where: str, producer: Producer, output: str) -> str:
    key = producer.absent[output]
    return f"{where}: {producer.meta_name} makes {output!r} only with {key}: true ({producer.where})"


def path_references(
    configs: Mapping[str, Any],
    where: str,
    earlier: tuple[Producer, ...],
    later: tuple[Producer, ...],
    writes: Collection[str] = (),
) -> tuple[dict[str, Reference], list[str]]:
    """References that stand in a configuration as plain paths, by target, and problems with such paths.

    `configs` holds `djConfigs` and `extraConfigs` as written. A key that names what some hook writes is never read,
    nor is one of `writes`, the job's own.
    """
    found: dict[str, Reference] = {}
    problems: list[str] = []
    for target, value in strings_in(configs):
        if target in _WRITTEN or target in writes:
            continue
        path = normal_path(value)
        writer = next((p for p in reversed(earlier) if path in p.writes), None)
        if writer is not None:
            found[target] = Reference(writer.job_id, writer.writes[path].output)
        else:
            after = next((p for p in later if path in p.writes), None)
            if after is not None:
                words = f"{value!r} is written by a job that runs later ({after.where}); put that job first"
                problems.append(f"{where}.{target}: {words}")
            elif _names_a_result(value, earlier):
                words = f"{value!r} is taken as a path here; for the job's result write input: {{{target}: {value}}}"
                problems.append(f"{where}.{target}: {words}")
    return found, problems


def _names_a_result(text: str, earlier: tuple[Producer, ...]) -> bool:
    """Whether a text that stands in a configuration is the reference of an earlier job's output."""
    pipeline, _, rest = text.partition(".")
    meta_name, _, output = rest.partition(".")
    return any((p.pipeline, p.meta_name) == (pipeline, meta_name) and output in p.outputs for p in earlier)


def strings_in(configs: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Each text in a configuration, with its dotted target; texts inside lists can't be targets and are left out."""
    for key, value in configs.items():
        target = f"{prefix}{key}"
        if isinstance(value, str):
            yield target, value
        elif isinstance(value, Mapping):
            yield from strings_in(value, f"{target}.")


def normal_path(path: str) -> str:
    """One spelling for a path that users may write in several ways."""
    normal = posixpath.normpath(path)
    return normal[1:] if f"{normal}/".startswith(f"{INPUTS}/") else normal


def _has(producer: Producer, name: str) -> bool:
    return name in producer.outputs or producer.hook.has_figure(name)
