# SPDX-License-Identifier: Apache-2.0
"""Settings as classes of Data-Juicer's sandbox read them: by key and by attribute, at every depth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Config(dict[str, Any]):
    """A dictionary whose keys are attributes too, as those of the sandbox's namespaces."""

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        raise AttributeError(f"the settings have no {name!r}; they have: {', '.join(self) or 'none'}")

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value


def config_of(settings: Mapping[str, Any]) -> Config:
    """A copy of the settings."""
    return Config({key: _read(value) for key, value in settings.items()})


def _read(value: Any) -> Any:
    if isinstance(value, Mapping):
        return config_of(value)
    return [_read(item) for item in value] if isinstance(value, list) else value
