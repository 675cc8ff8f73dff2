# SPDX-License-Identifier: Apache-2.0
"""What the models of `extraConfigs` are made of."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticCustomError

SAID = "said"
"""Type of a validation error whose message is a whole sentence of ours."""
NEEDED = "needed"
"""The same of a field that is missing, where the sentence says why it must be there."""


def said_by(problem: Mapping[str, Any]) -> str:
    """What one of a ValidationError's problems says, without pydantic's own words before ours."""
    return str(problem["msg"]).removeprefix("Value error, ")


def one_of(known: Collection[str], whose: str) -> Callable[[str], str]:
    """A check that a name is known; what is wrong is told with the nearest ones. `whose`: e.g. optimizer of torch."""
    by_letters = {name.lower(): name for name in known}

    def check(name: str) -> str:
        if name in known:
            return name
        close = [by_letters[found] for found in get_close_matches(name.lower(), by_letters, 3, 0.6)]
        meant = f"did you mean {' or '.join(map(repr, close))}?" if close else f"e.g. {', '.join(sorted(known)[:5])}"
        raise PydanticCustomError(SAID, f"there is no {whose} named {name!r}; {meant}")

    return check


def too_many(processes: int | None, gpus: int) -> Iterator[str]:
    """A sentence where there are more processes than GPUs in a pod that has any."""
    if processes is not None and 0 < gpus < processes:
        yield f"processes: {processes} are more than the {gpus} GPUs of a pod; leave it out to have one a GPU"


class ExtraConfig(BaseModel):
    """What stands in `extraConfigs`: Data-Juicer's spelling (snake_case), unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    NEEDED: ClassVar[Mapping[tuple[str, ...], str]] = {}
    """Keys of which one must have a value, written or filled by an input, and what to do where none has."""

    @classmethod
    def needed(cls, given: Mapping[str, Any]) -> Mapping[tuple[str, ...], str]:  # noqa: ARG003  # for models that look
        """The same, where it depends on the other settings."""
        return cls.NEEDED

    @classmethod
    def lacking(cls, given: Mapping[str, Any], has: Callable[[str], object]) -> Iterator[str]:
        """A sentence for each of what is needed of which no key has a value, as `has` says of a key."""
        yield from (f"{keys[0]}: {advice}" for keys, advice in cls.needed(given).items() if not any(map(has, keys)))

    def misfits(self, gpus: int, nodes: int) -> Iterator[str]:  # noqa: ARG002  # for models that look
        """What does not go with the job's GPUs a pod (0: it asks for none) and its pods, a sentence each."""
        yield from ()


@dataclass(frozen=True)
class Settings:
    """Keys in this version's layout, and what to tell the user about how they came to be."""

    values: dict[str, Any]
    notes: tuple[str, ...] = ()
    layout: tuple[str, ...] = ()
    """Keys (dotted) of the older layout that the settings are written in; a key that is none was meant to be one."""


class NoExtra(ExtraConfig):
    """A hook without settings of its own."""


class ComponentConfig(ExtraConfig):
    """Settings of a component."""

    type: str | None = None
    """The component, where the job does not name it beside its hook."""


_SURROUNDINGS = {
    r"env_(name|manager|params)": "the image is the environment",
    r"(model|trainer|infer)_name": "the type says it all",
}
"""Keys that served the sandbox's surroundings, and why they are not needed."""


def without_surroundings(given: Mapping[str, Any], known: frozenset[str] = frozenset()) -> Settings:
    """Settings without keys that served the sandbox's surroundings, each with a note. `known`: keys that stay."""
    values, notes = {}, []
    for key, value in given.items():
        why = next((why for pattern, why in _SURROUNDINGS.items() if re.fullmatch(pattern, key)), None)
        if why is None or key in known:
            values[key] = value
        else:
            notes.append(f"{key} is not used: {why}")
    return Settings(values, tuple(notes))
