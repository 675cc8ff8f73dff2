# SPDX-License-Identifier: Apache-2.0
"""What the models of `extraConfigs` are made of."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

SAID = "said"
"""Type of a validation error whose message is a whole sentence of ours."""


class ExtraConfig(BaseModel):
    """What stands in `extraConfigs`: Data-Juicer's spelling (snake_case), unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    NEEDED: ClassVar[Mapping[tuple[str, ...], str]] = {}
    """Keys of which one must have a value, written or filled by an input, and what to do where none has."""

    @classmethod
    def needed(cls, given: Mapping[str, Any]) -> Mapping[tuple[str, ...], str]:  # noqa: ARG003  # for models that look
        """The same, where it depends on the other settings."""
        return cls.NEEDED

    def misfits(self, gpus: int, nodes: int) -> Iterator[str]:  # noqa: ARG002  # for models that look
        """What does not go with the job's GPUs a pod (0: it asks for none) and its pods, a sentence each."""
        yield from ()


@dataclass(frozen=True)
class Settings:
    """Keys in this version's layout, and what to tell the user about how they came to be."""

    values: dict[str, Any]
    notes: tuple[str, ...] = ()


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
