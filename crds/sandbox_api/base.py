# SPDX-License-Identifier: Apache-2.0
"""The small parts every resource and contract model is made of.

Two kinds of model, because they read differently: a spec refuses what it does not know (a misspelt key is a mistake to
tell), a contract ignores it (a newer writer may say more).
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

GROUP = "sandbox.datajuicer.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"


class SpecModel(BaseModel):
    """What users write: camelCase, unknown keys refused, frozen; no type is bent, as the API server bends none."""

    model_config = ConfigDict(
        alias_generator=to_camel, extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True
    )


class ContractModel(BaseModel):
    """What our own programs hand each other: camelCase on the wire, unknown keys ignored, frozen."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
    )


DURATION = r"^([0-9]+(s|m|h|d))+$"
_DURATION_PART = re.compile(r"([0-9]+)([smhd])")
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

MAX_DAYS = 3650


def seconds(duration: str) -> int:
    """The seconds in a `Duration`; the API server's schema has checked its form."""
    return sum(int(n) * _UNIT_SECONDS[unit] for n, unit in _DURATION_PART.findall(duration))


def _within_reason(duration: str) -> str:
    if seconds(duration) > MAX_DAYS * _UNIT_SECONDS["d"]:
        raise ValueError(f"{duration!r} is longer than {MAX_DAYS} days")
    return duration


Duration = Annotated[str, Field(pattern=DURATION, max_length=32), AfterValidator(_within_reason)]
"""A length of time as Kubernetes users write it: `90s`, `10m`, `1h30m`, `2d`."""


def _moment(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError(f"{text!r} does not say its time zone")
    return text


Timestamp = Annotated[str, Field(max_length=40), AfterValidator(_moment)]
"""A moment as programs of ours tell each other: RFC 3339, e.g. `2026-01-31T12:00:00Z`."""

_QUANTITY = re.compile(r"([0-9]+(\.[0-9]*)?|\.[0-9]+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,2})?")


def _quantity(value: int | str) -> int | str:
    if _QUANTITY.fullmatch(str(value)) is None:
        raise ValueError(f"{value!r} is not a quantity; write it like 500m, 2 or 4Gi")
    return value


Quantity = Annotated[
    int | str,
    Field(json_schema_extra={"x-kubernetes-int-or-string": True, "x-sandbox-quantity": True}),
    AfterValidator(_quantity),
]
"""An amount as Kubernetes writes it. The resource's schema can't hold its form, so the planner checks it."""

NAME = r"^[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?$"
Name = Annotated[str, Field(pattern=NAME, max_length=63)]
"""A name that references can hold: letters, digits, `-` and `_`, no dots (they part a reference)."""

OBJECT_NAME = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"
ObjectName = Annotated[str, Field(pattern=OBJECT_NAME, max_length=253)]
"""A name of a Kubernetes object."""

AnyObject = Annotated[dict[str, Any], Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})]
"""An object whose keys belong to somebody else (Kubernetes' affinity, a user's overrides)."""

TextOrObject = Annotated[
    Any, Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True, "x-sandbox-untyped": True})
]
"""Text (a path) or an object. The schema leaves it untyped, so its type is checked by the planner."""
