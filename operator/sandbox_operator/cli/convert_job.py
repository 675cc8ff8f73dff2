# SPDX-License-Identifier: Apache-2.0
"""One job on its way from upstream's form to ours: what it is called, what it reads, and the text it becomes."""

from __future__ import annotations

from dataclasses import dataclass, field

from sandbox_api.hooks import known_hook

from .convert_hooks import Write, returns, writes
from .convert_tree import Entry, Map, Seq, copied_entry, plain
from .convert_upstream import Upstream, UpstreamJob

ROOTS = {"dj_configs": "djConfigs", "extra_configs": "extraConfigs"}
ORDER = ("hook", "metaName", "probe", "input", "output", "local", "djConfigs", "extraConfigs", "resources")
_OURS = {"hook": "hook", "meta_name": "metaName", "input": "input", "output": "output", "local": "local", **ROOTS}


@dataclass(eq=False)
class Job:
    up: UpstreamJob
    upstream_pipeline: str
    stage: str
    """Upstream's name of its list."""
    index: int
    """Its place among all jobs, in the order in which they run."""
    hook: str
    upstream_name: str | None
    pipeline: str = ""
    meta_name: str = ""
    out: Map = field(default_factory=Map)
    """The job as it will be written; configurations stand in it as trees."""
    files: dict[str, str] = field(default_factory=dict)
    """Side files that were read, by `djConfigs` or `extraConfigs`."""
    names: dict[str, str] = field(default_factory=dict)
    """What the job calls its outputs, by our names of them."""
    recipe: Job | None = None
    """The refine job whose recipe is this job's whole Data-Juicer configuration."""

    @property
    def where(self) -> str:
        return self.up.where

    @property
    def input(self) -> Map:
        return self._settings("input")

    @property
    def local(self) -> Map:
        return self._settings("local")

    def config(self, root: str) -> Map | None:
        """A configuration as far as it is known; that of a refined recipe is the one that was refined."""
        value = self.out.get(root)
        if root == "djConfigs" and self.recipe is not None:
            return self.recipe.config(root)
        return value if isinstance(value, Map) else None

    @property
    def kind(self) -> str | None:
        """The component that upstream's hook would run."""
        extra = self.config("extraConfigs")
        kind = self.local.get("extraConfigs.type") or (extra.get("type") if extra else None)
        return kind if isinstance(kind, str) else None

    @property
    def writes(self) -> tuple[Write, ...]:
        return writes(self.hook, self.kind)

    def is_filled(self, target: str) -> bool:
        """Whether an input replaces what stands at a target."""
        filled = self.input.entries
        parts = target.split(".")
        return any(".".join(parts[:length]) in filled for length in range(1, len(parts) + 1))

    def reference(self, output: str) -> str:
        """How others refer to one of its outputs (ours by name)."""
        return f"{self.pipeline}.{self.meta_name}.{self.names.get(output, output)}"

    def fill(self, target: str, reference: str, remark: str) -> None:
        self.input.put(target, reference, remark)

    def _settings(self, key: str) -> Map:
        entry = self.out.entries.setdefault(key, Entry(Map()))
        assert isinstance(entry.value, Map)
        return entry.value

    def finished(self) -> Entry:
        """The job at its place in our list, its keys in the order that the guide to the language shows."""
        for key in ("input", "local"):
            if not self._settings(key).entries:
                del self.out.entries[key]
        self.out.entries = {key: self.out.entries[key] for key in ORDER if key in self.out.entries}
        place = self.up.entry
        entry = Entry(self.out, [*place.above, *([place.beside] if place.beside else [])])
        if self.up.source:
            entry.remark(f"this job stood in {self.up.source}")
        return entry


def jobs_of(upstream: Upstream) -> list[Job]:
    """All jobs in the order in which they run, their keys in our spelling and not looked into yet."""
    jobs: list[Job] = []
    for pipeline in upstream.pipelines:
        for stage, (_, written) in pipeline.lists.items():
            for up in written:
                name = up.body.get("meta_name")
                job = Job(up, pipeline.name, stage, len(jobs), str(up.body.get("hook")), str(name) if name else None)
                job.out = Map(
                    {_OURS[key]: copied_entry(entry) for key, entry in up.body.entries.items() if key in _OURS}
                )
                for key in ("input", "local"):
                    _respell(job, key)
                jobs.append(job)
    return jobs


def _respell(job: Job, key: str) -> None:
    entry = job.out.entries.setdefault(key, Entry(Map()))
    settings = entry.value if isinstance(entry.value, Map) else Map()
    entry.value = Map({respelt(target): value for target, value in settings.entries.items()})


def upstreams(target: str) -> str:
    """`djConfigs.a.b` as `dj_configs.a.b`, for messages about upstream's file."""
    root, dot, rest = target.partition(".")
    return f"{ {ours: theirs for theirs, ours in ROOTS.items()}.get(root, root) }{dot}{rest}"


def respelt(target: str) -> str:
    """`dj_configs.a.b` as `djConfigs.a.b`."""
    root, dot, rest = target.partition(".")
    return f"{ROOTS.get(root, root)}{dot}{rest}"


def name_outputs(job: Job) -> None:
    """`output` by our positions; what upstream returns is not everywhere what stands first with us."""
    entry = job.out.entries.pop("output", None)
    given = plain(entry.value) if entry else None
    if entry is None or not given:
        return
    given = given if isinstance(given, list) else [given]
    known = known_hook(job.hook, job.kind)
    ours = returns(job.hook, job.kind)
    if known is None or len(given) > len(ours):
        entry.value = Seq([Entry(name) for name in given], True)
    else:
        job.names = dict(zip(ours, given, strict=False))
        last = max(known.outputs.index(name) for name in job.names)
        order = [_named(job.names, output) for output in known.outputs[: last + 1]]
        entry.value = Seq([Entry(name) for name in order], True)
        if order != given:
            there = " and ".join(f"{name!r} is our {output!r}" for output, name in job.names.items())
            entry.remark(f"by position, and ours are {', '.join(known.outputs)}: {there}")
    job.out.entries["output"] = entry


def _named(names: dict[str, str], output: str) -> str:
    """A name for an output that upstream does not have; never one that another output was given."""
    if output in names or output not in names.values():
        return names.get(output, output)
    return f"{output}_2"
