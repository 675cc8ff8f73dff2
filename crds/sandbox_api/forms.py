# SPDX-License-Identifier: Apache-2.0
"""Forms of text that Kubernetes or the container runtime would refuse only when a pod is made, hours into an
experiment. They are no part of the resource's schema, whose size is limited: the planner checks them before the first
Job.

Sources: the reference grammar of the distribution project; apimachinery's validation of label keys, label values, names
and keys of Secrets.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from .base import Quantity

_HOST = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[a-fA-F0-9:]+\])"
_PATH_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?:{_HOST}(?::[0-9]+)?/)?{_PATH_PART}(?:/{_PATH_PART})*"
    r"(?::\w[\w.-]{0,127})?(?:@(?:sha256:[0-9a-f]{64}|(?!sha256:)[A-Za-z][A-Za-z0-9+._-]*:[0-9a-fA-F]{32,}))?",
    re.ASCII,
)
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*")
_SECRET_KEY = re.compile(r"(?!\.\.)(?!\.$)[A-Za-z0-9._-]+")


def is_qualified_name(text: str) -> bool:
    """Whether it can be the key of a label, a taint or a resource: a name, after a domain and `/` where it has one."""
    domain, slash, name = text.rpartition("/")
    has_domain = len(domain) <= 253 and _SUBDOMAIN.fullmatch(domain) is not None
    return _LABEL.fullmatch(name) is not None and (not slash or has_domain)


def _image_reference(text: str) -> str:
    if _REFERENCE.fullmatch(text) is None:
        raise ValueError(
            f"{text!r} is no image reference; write it like registry/path/name:tag or registry/path/name@sha256:..., in"
            " small letters up to the tag"
        )
    return text


def _label_key(text: str) -> str:
    if not is_qualified_name(text):
        raise ValueError(f"{text!r} is no label key; write a name like gpu or example.com/gpu, at most 63 characters")
    return text


def _label_value(text: str) -> str:
    if text and _LABEL.fullmatch(text) is None:
        raise ValueError(
            f"{text!r} is no label value; write at most 63 letters, digits, - _ or ., a letter or digit first and last"
        )
    return text


def _sub_path(text: str) -> str:
    if text.startswith("/") or ".." in text.split("/"):
        raise ValueError(f"{text!r} leaves the claim; write a folder inside it, without a / first and without ..")
    return text


def _secret_key(text: str) -> str:
    if _SECRET_KEY.fullmatch(text) is None:
        raise ValueError(f"{text!r} is no key of a Secret; write letters, digits, -, _ and .")
    return text


def _size(value: int | str) -> int | str:
    number = str(value).strip().rstrip("numkKMGTPEi")
    if float(number) <= 0:
        raise ValueError(f"{value!r} is no size of a volume; write one above zero, like 50Gi")
    return value


def _object_name(text: str) -> str:
    if _SUBDOMAIN.fullmatch(text) is None:
        raise ValueError(
            f"{text!r} won't do: write a name as Kubernetes has them: small letters, digits, - and ., no - or . first"
            " or last"
        )
    return text


ImageReference = Annotated[str, Field(max_length=512), AfterValidator(_image_reference)]
LabelKey = Annotated[str, AfterValidator(_label_key)]
TaintKey = Annotated[str, AfterValidator(lambda text: text and _label_key(text))]
"""Empty where every taint is meant."""
LabelValue = Annotated[str, AfterValidator(_label_value)]
SubPath = Annotated[str, Field(max_length=1024), AfterValidator(_sub_path)]
DataKey = Annotated[str, Field(max_length=253), AfterValidator(_secret_key)]
ClassName = Annotated[str, AfterValidator(_object_name)]
"""The name of a priority or runtime class."""
Size = Annotated[Quantity, AfterValidator(_size)]
"""Of a volume."""
