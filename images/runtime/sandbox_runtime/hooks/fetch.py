# SPDX-License-Identifier: Apache-2.0
"""FetchHook: data and weights from elsewhere onto the volume, whole and as they were meant, or not at all."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from ..errors import ConfigError
from ..fetch.listing import Listing, list_source
from ..fetch.remote import patiently
from ..fetch.transfer import Fetched, Transfer, told_bytes
from ..fetch.unpack import stem_of, unpack
from .base import Artifact, HookContext, HookResult
from .recipe import counted


class FetchHook:
    """Outputs: path (a file; a folder for an archive, a repository or all below a key).

    Metrics: `bytes` (of what was fetched, archives as they came), `files`, `seconds`, `transferred_bytes` (what this
    attempt moved; the rest was there from an earlier one). While it runs `bytes` tells what is there.
    Secrets come as environment variables and go nowhere.
    """

    def run(self, context: HookContext) -> HookResult:
        began = time.monotonic()
        config = context.extra
        publish = context.user_path("extraConfigs.export_path")
        transfer = Transfer(
            context.state / "fetch",
            attempt=context.contract.attempt,
            unique=str(context.workspace.attempt),
            max_bytes=config.max_bytes,
            tell=lambda there: context.metrics.log({"bytes": there}),
        )
        listing = patiently("what there is to fetch", lambda: list_source(config, os.environ), transfer.halt)
        print(f"{listing.told}: {counted(len(listing.files), 'file')}", flush=True)
        fetched = transfer.fetch(listing.files)
        path = arrange(fetched, listing, context.out, config.unpack, config.max_unpacked_bytes)
        size, moved = (sum(getattr(file, what) for file in fetched) for what in ("size", "transferred"))
        return HookResult(
            outputs=[Artifact(path, publish=publish)],
            metrics={
                "bytes": size,
                "seconds": round(time.monotonic() - began, 3),
                "files": len(fetched),
                "transferred_bytes": moved,
            },
            message=_message(listing, fetched, size, moved),
        )


def arrange(fetched: Sequence[Fetched], listing: Listing, out: Path, mode: str, max_unpacked: int | None) -> Path:
    """Put what was fetched where it belongs below `out`, archives unpacked; returns the file or folder that it is."""
    first = fetched[0]
    if listing.is_single:
        stem = stem_of(listing.name) if mode != "never" else None
        if stem is None:
            return _place(first.path, out / listing.name)
        unpack(first.path, listing.name, out / stem, first.remote.told, max_unpacked)
        return out / stem
    folder = out / listing.name
    for file in fetched:
        target = folder / file.remote.name
        target.parent.mkdir(parents=True, exist_ok=True)
        stem = stem_of(target.name) if mode == "all" else None
        try:
            if stem is None:
                _place(file.path, target)
            else:
                unpack(file.path, target.name, target.with_name(stem), file.remote.told, max_unpacked)
        except FileExistsError as error:
            raise ConfigError(
                f"extraConfigs.unpack: {file.remote.told} can't be unpacked beside another file or archive of its name"
            ) from error
    return folder


def _place(kept: Path, target: Path) -> Path:
    """The same file under another name, so that it is there for a later attempt should this one be killed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(kept, target)
    except FileExistsError:
        raise
    except OSError:  # a volume without hard links
        kept.replace(target)
    return target


def _message(listing: Listing, fetched: Sequence[Fetched], size: int, moved: int) -> str:
    digest = f", sha256 {fetched[0].sha256}" if listing.is_single else ""
    earlier = f"; {told_bytes(size - moved)} of it by an earlier attempt" if moved < size else ""
    return f"{counted(len(fetched), 'file')}, {told_bytes(size)}{digest}, from {listing.told}{earlier}"
