# SPDX-License-Identifier: Apache-2.0
"""What a source holds: one file, or the files of a repository or below a key, narrowed to those that are wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial

from sandbox_api.fetch import FetchConfig
from sandbox_api.source import Source, parse_source

from ..errors import ConfigError
from .hubs import list_huggingface, list_modelscope
from .remote import RemoteFile
from .stores import list_store
from .unpack import BadArchive, safe_parts
from .web import open_web


@dataclass(frozen=True)
class Listing:
    """The files to fetch."""

    name: str
    """Of the file or the folder that it becomes."""
    files: tuple[RemoteFile, ...]
    is_single: bool
    """Whether the source is one file."""
    told: str
    """Where it is from, for people: with the commit that a branch or tag stood for."""


def list_source(config: FetchConfig, environ: Mapping[str, str]) -> Listing:
    """Ask what there is. Raises ConfigError when it is not what the configuration says, and Interrupted."""
    source = parse_source(config.source)
    if source.scheme in ("http", "https"):
        listing = _web(config, source, environ)
    elif source.scheme in ("s3", "oss"):
        listing = _below(source, list_store(config, source, environ), source.root)
    else:
        ask = list_huggingface if source.scheme == "hf" else list_modelscope
        files, revision = ask(config, source, token(config, environ, source))
        listing = _below(source, files, f"{source.root}@{revision}")
    return _narrowed(config, listing)


def token(config: FetchConfig, environ: Mapping[str, str], source: Source) -> str | None:
    """The token for a source, from the environment. Raises ConfigError when the variable that is named is not there."""
    if config.token_env is None:
        return environ.get({"hf": "HF_TOKEN", "modelscope": "MODELSCOPE_API_TOKEN"}.get(source.scheme, "")) or None
    if not environ.get(config.token_env):
        raise ConfigError(
            f"extraConfigs.token_env: the pod has no environment variable {config.token_env}; give it in the job's"
            f" `secrets`: [{{env: {config.token_env}, name: <Secret>, key: <key>}}]"
        )
    return environ[config.token_env].strip()


def _web(config: FetchConfig, source: Source, environ: Mapping[str, str]) -> Listing:
    secret = token(config, environ, source)
    # a value with a space says itself how it is meant: `Basic dXNlcjpwYXNz`
    headers = {"Authorization": secret if " " in secret else f"Bearer {secret}"} if secret else {}
    name = source.path.rstrip("/").rpartition("/")[2] or source.place
    told = config.source.partition("?")[0].partition("#")[0]  # what stands behind may be a signature
    file = RemoteFile(name, told, partial(open_web, config.source, told, headers))
    return Listing(name, (file,), True, told)


def _below(source: Source, files: Sequence[RemoteFile], place: str) -> Listing:
    """The files at or below the source's path, their names relative to it."""
    path = source.path
    told = f"{place}/{path}" if path else place
    single = [file for file in files if file.name == path]
    if single:
        name = path.rpartition("/")[2]
        return Listing(name, (replace(single[0], name=name),), True, told)
    folder = path if path.endswith("/") or not path else f"{path}/"
    below = [replace(file, name=file.name.removeprefix(folder)) for file in files if file.name.startswith(folder)]
    if not below:
        raise ConfigError(f"extraConfigs.source: there is no file at {told}")
    name = path.rstrip("/").rpartition("/")[2] or source.place.rpartition("/")[2]
    return Listing(name, tuple(below), False, told)


def _narrowed(config: FetchConfig, listing: Listing) -> Listing:
    files = listing.files
    if not listing.is_single:
        files = tuple(file for file in files if _is_wanted(file.name, config.include, config.exclude))
    if not files:
        raise ConfigError(
            f"extraConfigs.include: none of the {len(listing.files)} files of {listing.told} is wanted; the first of"
            f" them is {listing.files[0].name}"
        )
    for file in files:
        try:
            if not safe_parts(file.name):
                raise BadArchive("it has no name")
        except BadArchive as error:
            raise ConfigError(f"extraConfigs.source: {listing.told} can't be fetched: {error}") from error
    if config.sha256 is not None:
        files = (_pinned(config.sha256, listing, files),)
    return replace(listing, files=files)


def _pinned(sha256: str, listing: Listing, files: Sequence[RemoteFile]) -> RemoteFile:
    if not listing.is_single:
        raise ConfigError(
            f"extraConfigs.sha256: {listing.told} is a folder of {len(files)} files, and a digest is of one; name the"
            " file in `source`, or pin the revision to a commit instead"
        )
    file = files[0]
    if file.sha256 not in (None, sha256):
        raise ConfigError(
            f"extraConfigs.sha256: {file.told} has the digest {file.sha256}; write that if this is the file that is"
            " meant, else it is not the one it was"
        )
    return replace(file, sha256=sha256, is_pinned=True)


def _is_wanted(name: str, include: Sequence[str], exclude: Sequence[str]) -> bool:
    """Patterns as hubs have them: `*` goes over `/`, and a pattern that ends with / is all below it."""

    def fits(patterns: Sequence[str]) -> bool:
        return any(fnmatchcase(name, f"{pattern}*" if pattern.endswith("/") else pattern) for pattern in patterns)

    return (not include or fits(include)) and not fits(exclude)
