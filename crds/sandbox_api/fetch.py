# SPDX-License-Identifier: Apache-2.0
"""Settings of FetchHook."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from .extra import SAID, ExtraConfig
from .source import HUBS, STORES, Source, parse_source


def _source(text: str) -> str:
    try:
        parse_source(text)
    except ValueError as error:
        raise PydanticCustomError(SAID, str(error)) from error
    return text


KEYS = {
    "s3": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    "oss": ("OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET"),
}
"""Environment variables that hold a store's access key."""


class FetchConfig(ExtraConfig):
    source: Annotated[str, Field(max_length=4096), AfterValidator(_source)]
    """What to fetch: https://..., hf://[datasets/]owner/name[@revision][/path], modelscope://..., s3://bucket/key,
    oss://bucket/key; a key that ends with / is all below it, s3://bucket/ the whole bucket."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """Digest that the file must have, where the source is one file."""
    export_path: str | None = None
    """Where what was fetched is published."""
    unpack: Literal["auto", "never", "all"] = "auto"
    """auto: a source that is one archive (zip, tar, tar.gz, tar.bz2, tar.xz, tar.zst); all: archives in a repository
    or below a key too."""
    include: Annotated[list[str], Field(max_length=256)] = []
    """Patterns of the files to fetch from a repository or below a key, e.g. *.jsonl; none: all."""
    exclude: Annotated[list[str], Field(max_length=256)] = []
    """Patterns of the files to leave out."""
    endpoint: Annotated[str | None, Field(pattern=r"^https?://[^\s@]+$", validate_default=True)] = None
    """Address of the hub or store where it is not the usual one; oss:// needs it."""
    region: str | None = None
    """Region of a bucket."""
    token_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    """Environment variable that holds the token, from `secrets`; default: HF_TOKEN, MODELSCOPE_API_TOKEN."""
    max_bytes: Annotated[int, Field(gt=0)] | None = None
    """Refuse to fetch more; default: what the volume has room for."""
    max_unpacked_bytes: Annotated[int, Field(gt=0)] | None = None
    """Refuse to unpack to more; default: a hundred times the archive, at least 1 GiB."""

    @field_validator("endpoint", "region", "token_env", "include", "exclude")
    @classmethod
    def _belongs_to_the_source(cls, value: Any, info: ValidationInfo) -> Any:
        if "source" in info.data:  # else it is wrong itself, or comes later
            problem = _misplaced(str(info.field_name), value, parse_source(info.data["source"]))
            if problem:
                raise PydanticCustomError(SAID, problem)
        return value


def _misplaced(field: str, value: Any, source: Source) -> str | None:
    """What is wrong with a setting of a source of this scheme."""
    if field == "endpoint" and source.scheme == "oss" and value is None:
        return "oss:// needs the address of the bucket's region, e.g. https://s3.oss-cn-hangzhou.aliyuncs.com"
    if value in (None, []):
        return None
    if field == "token_env" and source.scheme in STORES:
        return f"{source.scheme}:// takes no token but keys: give {' and '.join(KEYS[source.scheme])} in `secrets`"
    if field == "region" and source.scheme not in STORES:
        return "only s3:// and oss:// have a region"
    if field in ("endpoint", "include", "exclude") and source.scheme not in (*HUBS, *STORES):
        return f"{source.scheme}:// is one file at one address; leave it out"
    return None
