# SPDX-License-Identifier: Apache-2.0
"""Buckets of object stores: S3, those that speak its protocol, and Aliyun's OSS, which does so too.

The client is boto3 for all, for OSS with the settings that its maker documents for it. Keys come from the environment,
for S3 also from a role of the pod; without any the bucket must be public.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from sandbox_api.fetch import KEYS, FetchConfig
from sandbox_api.source import Source

from ..errors import ConfigError
from .remote import Body, Changed, Interrupted, RemoteFile
from .web import AGAIN, CHUNK, CONNECT_SECONDS, READ_SECONDS, reason

OSS_TOKEN = "OSS_SESSION_TOKEN"


def list_store(config: FetchConfig, source: Source, environ: Mapping[str, str]) -> list[RemoteFile]:
    """The object of a key, or those below a key that ends with /. Raises ConfigError and Interrupted."""
    told = f"{source.root}/{source.path}"
    client = _client(config, source, environ)
    if source.path and not source.path.endswith("/"):
        with _errors(told):
            head = client.head_object(Bucket=source.place, Key=source.path)
        return [_file(client, source, source.path, head["ContentLength"], head["ETag"])]
    found: list[RemoteFile] = []
    with _errors(told):
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=source.place, Prefix=source.path):
            for entry in page.get("Contents", ()):
                if not entry["Key"].endswith("/"):  # consoles make such keys for folders
                    found.append(_file(client, source, entry["Key"], entry["Size"], entry["ETag"]))
    return found


def _file(client: Any, source: Source, key: str, size: int, etag: str) -> RemoteFile:
    told = f"{source.root}/{key}"
    return RemoteFile(key, told, partial(_open, client, source.place, key, etag, told), size, etag)


def _open(client: Any, bucket: str, key: str, etag: str, told: str, start: int, _version: str | None) -> Body:
    with _errors(told):
        part = {"Range": f"bytes={start}-"} if start else {}
        answer = client.get_object(Bucket=bucket, Key=key, IfMatch=etag, **part)
    stream = answer["Body"]
    begins = start if "ContentRange" in answer else 0
    return Body(begins, _chunks(stream, told), begins + answer["ContentLength"], etag, stream.close)


def _chunks(stream: Any, told: str) -> Iterator[bytes]:
    with _errors(told):
        yield from stream.iter_chunks(CHUNK)


def _client(config: FetchConfig, source: Source, environ: Mapping[str, str]) -> Any:
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config

    session = boto3.Session()
    given: dict[str, str | None] = {}
    settings: dict[str, Any] = {}
    if source.scheme == "oss":
        key, secret = (environ.get(name) for name in KEYS["oss"])
        given = {"aws_access_key_id": key, "aws_secret_access_key": secret, "aws_session_token": environ.get(OSS_TOKEN)}
        is_anonymous, settings["signature_version"] = not key, "s3"
    else:
        is_anonymous = session.get_credentials() is None
    if is_anonymous:
        given, settings["signature_version"] = {}, UNSIGNED
    return session.client(
        "s3",
        endpoint_url=config.endpoint,
        region_name=config.region or session.region_name or "us-east-1",
        config=Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"total_max_attempts": 1},  # we ask again ourselves, and go on where it was
            s3={"addressing_style": _addressing(config, source)},
            request_checksum_calculation="when_required",  # stores that only speak the protocol don't know these
            response_checksum_validation="when_required",
            **settings,
        ),
        **given,
    )


def _addressing(config: FetchConfig, source: Source) -> str:
    """Whether the bucket stands in the host's name or in the path."""
    if config.endpoint is None:
        return "auto"
    try:
        ipaddress.ip_address(urlsplit(config.endpoint).hostname or "")
    except ValueError:
        return "virtual" if source.scheme == "oss" else "path"
    return "path"


@contextmanager
def _errors(told: str) -> Iterator[None]:
    """Turn what the client raises into Interrupted, or into ConfigError where asking again won't help."""
    from botocore import exceptions

    try:
        yield
    except exceptions.ClientError as error:
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)
        code = error.response.get("Error", {}).get("Code") or status
        if status == 412:
            raise Changed from None
        if status in AGAIN:
            raise Interrupted(f"the store answers {code}") from None
        if status == 404:
            raise ConfigError(f"extraConfigs.source: {told}: there is no such bucket or key ({code})") from None
        if status in (401, 403):
            raise ConfigError(
                f"extraConfigs.source: {told}: the store refuses it ({code}); give keys that may read it in the job's"
                " `secrets`"
            ) from None
        raise ConfigError(f"extraConfigs.source: {told}: the store answers {code}") from None
    except exceptions.SSLError:
        raise ConfigError(
            f"extraConfigs.source: {told}: its certificate can't be verified; an authority of your own is named by the"
            " environment variable AWS_CA_BUNDLE"
        ) from None
    except (exceptions.HTTPClientError, exceptions.IncompleteReadError, OSError) as error:
        raise Interrupted(reason(error)) from None
    except exceptions.BotoCoreError as error:  # of configuration; these messages hold no secret, nor an address
        raise ConfigError(f"extraConfigs.source: {told}: can't be asked for ({type(error).__name__})") from None
