# SPDX-License-Identifier: Apache-2.0
"""YAML documents as an API server would get them: what stands in them as JSON."""

from __future__ import annotations

import json
from typing import Any

import yaml

from .experiments import Ended


class _Loader(yaml.CSafeLoader):
    """Dates are text, as kubectl reads them, and a key stands once in its mapping."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                words = f"the key {key!r} stands here twice"
                raise yaml.constructor.ConstructorError(None, None, words, key_node.start_mark)
            seen.add(key)
        made: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return made


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def why_unreadable(error: Exception) -> str:
    """What is wrong with a file that was to be read, without its name and the system's number."""
    match error:
        case FileNotFoundError():
            return "there is no such file"
        case OSError() if error.strerror:
            return f"can't be read: {error.strerror[0].lower()}{error.strerror[1:]}"
        case UnicodeDecodeError():
            return f"is no UTF-8 text (byte {error.start})"
    return str(error)


def documents_in(text: str) -> list[Any]:
    """The documents of a text. Raises yaml.YAMLError, and Ended where JSON has no form for what they hold."""
    try:
        found = list(yaml.load_all(text, _Loader))
        return [json.loads(json.dumps(document, allow_nan=False)) for document in found]
    except RecursionError:
        raise Ended("it is nested too deep to be read") from None
    except (TypeError, ValueError) as error:
        words = str(error).replace("Circular reference detected", "an anchor in it holds itself")
        raise Ended(f"it holds what JSON has no form for: {words[0].lower()}{words[1:]}") from None
