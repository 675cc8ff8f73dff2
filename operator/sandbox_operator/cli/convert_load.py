# SPDX-License-Identifier: Apache-2.0
"""Finds what each job is configured with, in the order in which jobs run: inline, in a side file, or by another job.

A path that an earlier job writes is that job's result even where a file of that name lies about from an old run.
"""

from __future__ import annotations

from .convert_hooks import ANALYZER, REFINES
from .convert_job import ROOTS, Job, name_outputs
from .convert_names import clean_outputs, output_name, producer, translated
from .convert_paths import Written, normal, writer_of, written_by
from .convert_read import SUFFIXES
from .convert_tree import Entry, Map
from .convert_upload import is_placeholder
from .convert_upstream import Files, NotConverted


def load(jobs: list[Job], files: Files) -> list[Written]:
    """Put configurations and references in place; what all jobs write. Raises NotConverted."""
    written: list[Written] = []
    problems: list[str] = []
    for job in jobs:
        _translate_inputs(job, jobs)
        try:
            for upstream_root, root in ROOTS.items():
                _load(job, upstream_root, root, written, files)
        except NotConverted as error:
            problems += error.problems
        clean_outputs(job)
        name_outputs(job)
        written += written_by(job)
    if problems:
        raise NotConverted(*problems)
    return [there for job in jobs for there in written_by(job)]


def _load(job: Job, upstream_root: str, root: str, written: list[Written], files: Files) -> None:
    where = f"{job.where}.{upstream_root}"
    entry = job.out.entries.get(root, Entry(None))
    whole = job.local.entries.pop(root, None)
    if whole is not None:
        entry.value = whole.value
        entry.remark(f"from local, which replaces all of {upstream_root}")
        job.out.entries[root] = entry
    value = entry.value
    if root in job.input.entries or value is None:
        job.out.entries.pop(root, None)
        if value is not None and not (isinstance(value, str) and is_placeholder(value)):
            what = f" ({value})" if isinstance(value, str) else ""
            job.input.entries[root].remark(f"{upstream_root}{what} is left out: this replaces all of it")
        if root in job.input.entries:
            _keep_comments(entry, job.input.entries[root])
    elif isinstance(value, str):
        writer = writer_of(normal(value), written)
        if writer is not None:
            del job.out.entries[root]
            words = f"was the path {value!r}, which {writer.job.where} writes"
            job.fill(root, writer.job.reference(writer.write.output), words)
            _keep_comments(entry, job.input.entries[root])
            job.recipe = writer.job if writer.job.hook in REFINES else None
        elif is_placeholder(value):
            raise NotConverted(f"{where}: {value!r} was never filled in, and no input fills it")
        elif not value.endswith(SUFFIXES):
            raise NotConverted(f"{where}: {value!r} is not the path of a .yaml, .yml or .json file")
        else:
            entry.value, below = files.read(value, where)
            entry.above += below
            job.files[root] = value


def _keep_comments(entry: Entry, instead: Entry) -> None:
    instead.above += [line for line in (*entry.above, entry.beside) if line]


def _translate_inputs(job: Job, jobs: list[Job]) -> None:
    for target, entry in job.input.entries.items():
        text = entry.value
        assert isinstance(text, str)
        found = producer(text, jobs, job.index)
        if found is not None and found[0].index < job.index:
            _expect_data_set(*found, job)
            if target == "djConfigs" and found[0].hook in REFINES:
                job.recipe = found[0]
        new = translated(text, jobs, job.index)
        if new != text and text.partition(".")[0] != "-1":
            entry.remark(f"was {text!r}")
        entry.value = new


def _expect_data_set(source: Job, output: str, reader: Job) -> None:
    """An analysis exports its data set only when told to; upstream hands on the path all the same."""
    config = source.config("djConfigs") or Map()
    target = "djConfigs.export_original_dataset"
    is_told = source.local.get(target) or config.get("export_original_dataset")
    if (
        source.hook == ANALYZER
        and output_name(source, output) == source.names.get("dataset", "dataset")
        and not is_told
    ):
        source.local.put(target, True, f"without it there is no data set for {reader.where} to read")
