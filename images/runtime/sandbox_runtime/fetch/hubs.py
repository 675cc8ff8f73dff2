# SPDX-License-Identifier: Apache-2.0
"""Repositories of Hugging Face and ModelScope: their own clients say what is in them, `web` gets it.

Hugging Face resolves a branch or tag to a commit first, so that all files are of one state however long fetching takes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial

from sandbox_api.fetch import FetchConfig
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

    told = source.root
    api = HfApi(endpoint=config.endpoint, token=token or False)
    about = {"repo_id": source.place, "repo_type": source.kind}
    try:
        commit = api.repo_info(**about, revision=source.revision).sha
        tree = [
            entry
            for entry in api.list_repo_tree(**about, revision=commit, recursive=True)
            if isinstance(entry, RepoFile)
        ]
    except GatedRepoError:
        raise ConfigError(
            f"extraConfigs.source: {told}: its owner must grant access to the account of the token"
        ) from None
    except HfHubHTTPError as error:
        _refuse(error.response.status_code, told, source, error.response.headers, has_token=bool(token))
        raise
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


def list_modelscope(config: FetchConfig, source: Source, token: str | None) -> tuple[list[RemoteFile], str]:
    """The files of a repository, and the revision. Raises ConfigError and Interrupted.

    This hub does not say which commit a branch stands for; what each file must be is told by its digest.
    """
    from modelscope_hub import HubApi
    from modelscope_hub.errors import APIError, NetworkError

    revision = source.revision or "master"
    told = source.root
    client = HubApi(endpoint=config.endpoint, token=token).legacy
    try:
        if source.kind == "dataset":
            entries = client.list_dataset_files_paginated(source.place, revision)
        else:
            entries = client.list_repo_files(source.place, source.kind, revision)
    except APIError as error:
        if error.status_code is None:
            raise Interrupted("the hub does not answer") from None
        _refuse(error.status_code, told, source, {}, has_token=bool(token))
        raise
    except NetworkError as error:
        raise Interrupted(reason(error)) from None
    # older routes of this hub know the cookie only
    headers = {"Authorization": f"Bearer {token}", "Cookie": f"m_session_id={token}"} if token else {}
    files = []
    for entry in entries:
        if entry.get("Type") != "tree":
            path, sha256, size = entry["Path"], entry.get("Sha256") or None, entry.get("Size")
            url = client.get_download_url(source.place, source.kind, path, revision)
            open_it = partial(_open if sha256 else open_web, url, f"{told}/{path}", headers)
            files.append(RemoteFile(path, f"{told}/{path}", open_it, size, sha256, sha256))
    return files, revision


def _open(url: str, told: str, headers: dict[str, str], start: int, version: str | None) -> Body:
    return open_web(url, told, headers, start, version, if_range=False)


def _refuse(status: int, told: str, source: Source, headers: Mapping[str, str], *, has_token: bool) -> None:
    """Raise what a hub's answer means; a private repository is as good as none to those who may not see it."""
    if status in (401, 404):
        advice = "the account of the token may not see it" if has_token else "it is private and wants a token"
        revision = f"no revision {source.revision!r} of it" if source.revision else "no such repository"
        raise ConfigError(f"extraConfigs.source: {told}: there is {revision}, or {advice} ({status})")
    refuse(status, told, headers, has_token=has_token)
