# SPDX-License-Identifier: Apache-2.0
"""What the reference pages of the hooks are made of: each key of each component is described."""

from collections.abc import Iterator
from typing import Any

import pytest

from sandbox_api.hooks import HOOKS


def models() -> Iterator[Any]:
    for hook in HOOKS.values():
        yield pytest.param(hook.extra, id=hook.name)
        for name, component in hook.components.items():
            yield pytest.param(component.extra, id=f"{hook.name}-{name}")


@pytest.mark.parametrize("model", list(models()))
def test_every_key_is_described(model: Any) -> None:
    schema = model.model_json_schema(by_alias=True)
    for part in (schema, *schema.get("$defs", {}).values()):
        unsaid = [name for name, value in part.get("properties", {}).items() if not value.get("description")]
        assert unsaid == [], f"{part['title']}: keys without a docstring"


def test_every_component_says_what_it_is() -> None:
    for hook in HOOKS.values():
        for name, component in hook.components.items():
            assert vars(component.extra).get("__doc__"), f"{hook.name}, type {name}"
