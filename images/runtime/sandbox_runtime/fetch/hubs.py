# SPDX-License-Identifier: Apache-2.0
"""Repositories of Hugging Face and ModelScope: their own clients say what is in them, `web` gets it.

A branch or tag is resolved to a commit first, so that all files are of one state however long fetching takes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial

from sandbox_api.hooks import FetchConfig
from sandbox_api.source import Source

from ..errors import ConfigError
from .remote import Body, Interrupted, RemoteFile
from .web import open_web, reason, refuse


def list_huggingface(config: FetchConfig, source: Source, token: str | None) -> tuple[list[RemoteFile], str]:
    """The files of a repository, and the commit. Raises ConfigError and Interrupted."""
    # the pod's environment is offline, so that no library fetches anything unasked; this is what asks
    os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "0"
    import httpx2
    from huggingface_hub import HfApi, hf_hub_url
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError
    from huggingface_hub.hf_api import RepoFile

    told = f"{source.scheme}://{source.place}"
    api = HfApi(endpoint=config.endpoint, token=token or False)
    about = {"repo_id": source.place, "repo_type": source.kind}
    try:
        commit = api.repo_info(**about, revision=source.revision).sha
        tree = [entry for entry in api.list_repo_tree(**about, revision=commit, recursive=True) if isinstance(entry, RepoFile)]
    except GatedRepoError:
        raise ConfigError(f"extraConfigs.source: {told}: its owner must grant access to the account of the token") from None
    except HfHubHTTPError as error:
        _refuse(error.response.status_code, told, source, error.response.headers, has_token=bool(token))
        raise Interrupted("the hub's answer is none") from None
    except httpx2.TransportError as error:
        raise Interrupted(reason(error)) from None
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return [
        RemoteFile(
            name=entry.path,
            told=f"{told}/{entry.path}",
            open=partial(
                _open,
                hf_hub_url(source.place, entry.path, repo_type=source.kind, revision=commit, endpoint=api.endpoint),
                f"{told}/{entry.path}",
                headers,
            ),
            size=entry.size,
            version=entry.lfs.sha256 if entry.lfs else entry.blob_id,
            sha256=entry.lfs.sha256 if entry.lfs else None,
        )
        for entry in tree
    ], str(commit)


def _open(url: str, told: str, headers: dict[str, str], start: int, version: str | None) -> Body:
    return open_web(url, told, headers, start, version, if_range=False)


def _refuse(status: int, told: str, source: Source, headers: Mapping[str, str], *, has_token: bool) -> None:
    """Raise what a hub's answer means; a private repository is as good as none to those who may not see it."""
    if status in (401, 404):
        advice = "the account of the token may not see it" if has_token else "it is private and wants a token"
        revision = f"no revision {source.revision!r} of it" if source.revision else "no such repository"
        raise ConfigError(f"extraConfigs.source: {told}: there is {revision}, or {advice} ({status})")
    refuse(status, told, headers, has_token=has_token)
