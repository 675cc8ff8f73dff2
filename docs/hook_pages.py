# SPDX-License-Identifier: Apache-2.0
"""The pages of `reference/hooks/`: every key of every hook and of every `type`, from the models that check them."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Any

from sandbox_api.extra import ExtraConfig
from sandbox_api.hook import Component, Hook
from sandbox_api.hooks import HOOKS

Schema = Mapping[str, Any]
LIMITS = (
    ("minimum", "at least"),
    ("exclusiveMinimum", "more than"),
    ("maximum", "at most"),
    ("exclusiveMaximum", "less than"),
    ("multipleOf", "a multiple of"),
)


def hook_pages() -> Iterator[tuple[str, str]]:
    """Name and text of each page: one a hook that this version has, and a list of them."""
    hooks = list(HOOKS.values())
    yield "README", _index(hooks)
    for hook in hooks:
        yield hook.name, _page(hook)


def _index(hooks: list[Hook]) -> str:
    lines = [
        "# Hooks, key by key\n",
        "What hooks do, and how jobs name each other's results: [hooks.md](../hooks.md).\n",
        "| hook | types | image |",
        "| --- | --- | --- |",
    ]
    for hook in hooks:
        types = ", ".join(f"`{name}`" for name in hook.components)
        images = sorted({found.image for found in hook.components.values()} or {hook.image})
        lines.append(f"| [{hook.name}]({hook.name}.md) | {types} | {', '.join(images)} |".replace("|  |", "| |"))
    return "\n".join([*lines, ""])


def _page(hook: Hook) -> str:
    lines = [
        f"# {hook.name}\n",
        "| | |",
        "| --- | --- |",
        f"| job lists | {', '.join(hook.stages)} |",
        f"| `metaName` by default | `{hook.meta_name}` |",
        f"| results, in order | {_outputs(hook)} |",
        f"| `djConfigs` | {'a Data-Juicer configuration' if hook.reads_dj else 'none'} |",
    ]
    if not hook.components:
        lines += [f"| image | {hook.image} |", "", *_settings(hook.extra)]
    for name, component in hook.components.items():
        lines += [f"\n## type: {name}\n", *_component(component)]
    return "\n".join([*lines, ""])


def _outputs(made_by: Hook | Component) -> str:
    kinds = zip_longest(made_by.outputs, made_by.kinds)
    return ", ".join(f"`{name}` ({kind})" if kind else f"`{name}`" for name, kind in kinds)


def _component(component: Component) -> Iterator[str]:
    yield f"{inspect.getdoc(component.extra)} Image: `{component.image}`.\n"
    if component.outputs:
        yield f"Results of this type: {_outputs(component)}.\n"
    yield from _settings(component.extra)


def _settings(model: type[ExtraConfig]) -> Iterator[str]:
    schema = model.model_json_schema(by_alias=True)
    keys = list(_keys(schema, schema.get("$defs", {}), ""))
    if not keys:
        yield "No `extraConfigs`."
        return
    yield "| key of `extraConfigs` | type | default | |"
    yield "| --- | --- | --- | --- |"
    yield from keys


def _keys(schema: Schema, definitions: Schema, prefix: str) -> Iterator[str]:
    required = schema.get("required", ())
    for name, value in schema["properties"].items():
        default = "required" if name in required else _default(value)
        words = " ".join(str(value.get("description", "")).split()).replace("|", "\\|")
        found = _resolved(value, definitions)
        row = f"| `{prefix}{name}` | {_type(found, definitions)} | {default} | {words} |"
        yield row.replace("|  |", "| |").replace("|  |", "| |")
        inner = _resolved(found.get("items", found), definitions)
        if "properties" in inner:
            yield from _keys(inner, definitions, f"{prefix}{name}{'[]' if 'items' in found else ''}.")


def _default(schema: Schema) -> str:
    value = schema.get("default")
    return "" if value in (None, [], {}, "") else f"`{json.dumps(value)}`"


def _resolved(schema: Schema, definitions: Schema) -> Schema:
    """Without references, and without the null that only says that a key may be left out."""
    if "$ref" in schema:
        return _resolved(definitions[schema["$ref"].rsplit("/", 1)[1]], definitions)
    options = [option for option in schema.get("anyOf", ()) if option.get("type") != "null"]
    return _resolved(options[0], definitions) if len(options) == 1 else schema


def _type(schema: Schema, definitions: Schema) -> str:
    schema = _resolved(schema, definitions)
    if "anyOf" in schema:
        options = (_type(option, definitions) for option in schema["anyOf"] if option.get("type") != "null")
        return " or ".join(options)
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return " \\| ".join(f"`{value}`" for value in schema["enum"])
    if "items" in schema:
        return f"list of {_type(schema['items'], definitions)}"
    if isinstance(values := schema.get("additionalProperties"), dict):
        return f"map of {_type(values, definitions)}"
    limits = [f"{words} {schema[key]}" for key, words in LIMITS if key in schema]
    return ", ".join([str(schema.get("type", "any")), *limits])
