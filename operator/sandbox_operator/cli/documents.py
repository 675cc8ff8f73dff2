# SPDX-License-Identifier: Apache-2.0
"""YAML documents as an API server would get them: what stands in them as JSON."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import yaml

from .experiments import Ended


class _Loader(yaml.CSafeLoader):
    """Plain words are what they are for kubectl, and a key stands once in its mapping."""

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


# Which plain words are no text, as kubectl has it (YAML 1.1 and 1.2 mixed): PyYAML takes 1e-3 and y for text, and
# 12:30 for a number.
_WORDS = (
    ("bool", r"y|Y|yes|Yes|YES|n|N|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF", "yYnNtTfFoO"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?(0b[01_]+|0x[0-9a-fA-F_]+|0o[0-7_]+|[0-9][0-9_]*)", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9][0-9_]*|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?", "-+0123456789."),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+."),
    ("merge", r"<<", "<"),
)
_Loader.yaml_implicit_resolvers = {}
for _kind, _pattern, _first in _WORDS:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(f"^(?:{_pattern})$"), [*_first])


def _int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node)).replace("_", "").lower()
    digits = text.lstrip("+-")
    octal = digits.startswith("0") and digits.isdigit() and not {"8", "9"} & {*digits}
    base = {"0b": 2, "0x": 16, "0o": 8}.get(digits[:2], 8 if octal else 10)
    return int(text, base)


def _float(loader: _Loader, node: yaml.ScalarNode) -> float | str:
    text = str(loader.construct_scalar(node))
    made = float(text.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text if math.isinf(made) and "inf" not in text.lower() else made  # too large for a number


def _bool(loader: _Loader, node: yaml.ScalarNode) -> bool:
    return str(loader.construct_scalar(node)).lower() in ("y", "yes", "true", "on")


_Loader.add_constructor("tag:yaml.org,2002:int", _int)
_Loader.add_constructor("tag:yaml.org,2002:float", _float)
_Loader.add_constructor("tag:yaml.org,2002:bool", _bool)


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
