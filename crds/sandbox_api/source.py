# SPDX-License-Identifier: Apache-2.0
"""Where data and weights are fetched from, as users write it: one text with a scheme.

The planner reads it to refuse what is wrong before anything starts, the runtime to fetch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

HUBS = ("hf", "modelscope")
STORES = ("s3", "oss")
FORMS = (
    "https://host/path, http://host/path, hf://[datasets/]owner/name[@revision][/path],"
    " modelscope://[datasets/]owner/name[@revision][/path], s3://bucket/key or oss://bucket/key"
)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Source:
    """A source, taken apart."""

    scheme: Literal["http", "https", "hf", "modelscope", "s3", "oss"]
    place: str
    """The host, the repository `owner/name`, or the bucket."""
    path: str = ""
    """Of http(s) the URL's; of a hub the file or folder in the repository; of a store the key."""
    kind: Literal["model", "dataset"] = "model"
    """What a hub's repository holds."""
    revision: str | None = None
    """Branch, tag or commit of a hub's repository."""

    @property
    def root(self) -> str:
        """The repository or bucket as users write it, without path and revision."""
        return f"{self.scheme}://{'datasets/' if self.kind == 'dataset' else ''}{self.place}"

    @property
    def is_commit(self) -> bool:
        """Whether it names one state of a repository that can't change."""
        return _COMMIT.fullmatch(self.revision or "") is not None


def parse_source(text: str) -> Source:
    """Take a source apart. Raises ValueError, a sentence that says what to write; it never repeats the text, which
    may hold what should have been a secret.
    """
    scheme, mark, rest = text.partition("://")
    scheme = scheme.lower()
    if not mark or scheme not in ("http", "https", *HUBS, *STORES):
        raise ValueError(f"write {FORMS}")
    if any(character.isspace() or not character.isprintable() for character in text):
        raise ValueError("there is a space or an invisible character in it; write it percent-encoded (%20)")
    if scheme in ("http", "https"):
        return _web(text, scheme)
    if scheme in HUBS:
        return _repository(scheme, rest)
    bucket, slash, key = rest.partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise ValueError(f"write {scheme}://bucket/key; a key that ends with / stands for all below it")
    if not slash:
        raise ValueError(
            f"there is no key in it; write {scheme}://bucket/key, or {scheme}://bucket/ for the whole bucket"
        )
    return Source(scheme, bucket, key)  # type: ignore[arg-type]


def is_pinned(extra: Mapping[str, Any]) -> bool:
    """Whether settings of a fetch say what comes, and not only where from: equal ones then bring equal bytes."""
    if extra.get("sha256"):
        return True
    try:
        return parse_source(str(extra.get("source"))).is_commit
    except ValueError:
        return False


def _web(text: str, scheme: str) -> Source:
    parts = urlsplit(text)
    if parts.username is not None or parts.password is not None:
        raise ValueError(
            "a user name or password stands in it, where everybody reads it; put `Basic <base64 of user:password>` into"
            " a Secret, name that in the job's `secrets` and its variable in `token_env`"
        )
    if not parts.hostname:
        raise ValueError(f"write {scheme}://host/path")
    return Source(scheme, parts.hostname, unquote(parts.path))  # type: ignore[arg-type]


def _repository(scheme: str, rest: str) -> Source:
    kind: Literal["model", "dataset"] = "model"
    if rest.startswith(("datasets/", "models/")):
        first, _, rest = rest.partition("/")
        kind = "dataset" if first == "datasets" else "model"
    owner, _, rest = rest.partition("/")
    name, _, path = rest.partition("/")
    name, at, revision = name.partition("@")
    if not owner or not name or "@" in owner or (at and not revision):
        raise ValueError(
            f"write {scheme}://[datasets/]owner/name[@revision][/path]; a / in the revision is written %2F"
        )
    return Source(scheme, f"{owner}/{name}", path.strip("/"), kind, unquote(revision) or None)  # type: ignore[arg-type]
