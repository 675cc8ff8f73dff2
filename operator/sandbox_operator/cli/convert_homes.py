# SPDX-License-Identifier: Apache-2.0
"""A home for each side file: inline, once for all jobs that read it, or in a ConfigMap where it is long."""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .convert_job import Job
from .convert_names import name_of, unique
from .convert_tree import Entry, Map
from .convert_upstream import NotConverted
from .convert_write import Document, write

INLINE_BYTES = 8192
"""A side file up to this size stands inline; one that several jobs read, up to a quarter of it."""
MAX_CONFIG_MAP = 1_000_000


@dataclass(frozen=True)
class _Copy:
    """A side file as one job reads it."""

    entry: Entry
    config: Map
    path: str
    text: str

    @property
    def key(self) -> tuple[str, str]:
        """Equal for jobs that read the very same: what was mended in a job's copy makes it another."""
        return self.path, self.text


def house(jobs: list[Job], volume: str, config_map: str) -> dict[str, str]:
    """Put side files where they belong; the content of the ConfigMap that is mounted as an input, by file name.

    Raises NotConverted when it would be too large for one.
    """
    copies = [*_copies(jobs)]
    readers = Counter(copy.key for copy in copies)
    inline: dict[tuple[str, str], Map] = {}
    mounted: dict[tuple[str, str], str] = {}
    for copy in copies:
        if len(copy.text.encode()) > INLINE_BYTES // (1 if readers[copy.key] == 1 else 4):
            name = mounted.setdefault(copy.key, _file_name(copy.path, mounted.values()))
            copy.entry.value = f"inputs/{volume}/{name}"
            copy.entry.remark(f"{copy.path}, in the ConfigMap {config_map}: it is long")
        elif copy.key in inline:
            first = copy.entry.value = inline[copy.key]
            first.anchor = first.anchor or unique(_stem(copy.path), [other.anchor or "" for other in inline.values()])
            copy.entry.remark(f"{copy.path}, as above")
        else:
            inline[copy.key] = copy.config
            copy.entry.remark(f"{copy.path}, inline")
    content = {name: text for (_, text), name in mounted.items()}
    if sum(len(text.encode()) for text in content.values()) > MAX_CONFIG_MAP:
        raise NotConverted(f"the side files {', '.join(content)} are more than a ConfigMap holds (1 MiB); shorten them")
    return content


def _copies(jobs: list[Job]) -> Iterator[_Copy]:
    for job in jobs:
        for root, path in job.files.items():
            config = job.out.get(root)
            if isinstance(config, Map):
                text = write([Document(config)]) if config.entries else "{}\n"
                yield _Copy(job.out.entries[root], config, path, text)


def _file_name(path: str, taken: Iterable[str]) -> str:
    stem = re.sub(r"[^-._a-zA-Z0-9]+", "-", posixpath.splitext(posixpath.basename(path))[0])
    return f"{unique(stem, [name.removesuffix('.yaml') for name in taken])}.yaml"


def _stem(path: str) -> str:
    return name_of(posixpath.splitext(posixpath.basename(path))[0]) or "config"
