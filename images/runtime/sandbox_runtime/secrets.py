# SPDX-License-Identifier: Apache-2.0
"""Configurations without what may be secret, for files that many read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+")
SECRET = {"secret", "secrets", "password", "passwords", "passwd", "passphrase", "credential", "credentials"}
"""Words that make a name one of a secret, wherever they stand in it."""
JOINED = re.compile(r"(api|access|secret|private)key|(hf|hub|auth|access|api|bearer)token|authorization")
"""Last words likewise."""
LETS_IN = {
    "access", "account", "anthropic", "api", "auth", "aws", "azure", "dashscope", "deepseek", "encryption", "gemini",
    "google", "hf", "huggingface", "license", "master", "modelscope", "openai", "private", "sas", "shared", "signing",
    "ssh", "storage", "subscription", "wandb",
}  # fmt: skip
"""What stands before `key` in the name of a secret. Any other is a field of the data: `text_key`, `image_key`."""
OF_MODELS = {
    "additional", "audio", "begin", "bos", "cls", "end", "eoc", "eos", "eot", "fake", "first", "image", "img", "last",
    "mask", "max", "min", "new", "next", "num", "pad", "padding", "per", "prefix", "sep", "separator", "sot",
    "special", "start", "stop", "suffix", "text", "unk", "unknown", "video", "word",
}  # fmt: skip
"""What stands before `token` where it is a piece of text. Any other token is a key."""
ADDRESS = re.compile(
    r"""(?P<scheme>\b[a-z][a-z0-9+.-]*://)(?:[^\s/?#"'@]*@)?(?P<place>[^\s?#"']*)(?:[?#][^\s"']*)?""", re.IGNORECASE
)
"""An address and what may stand around its place: `user:password@`, a query, which may be a signature."""
HIDDEN = "(left out: may be secret)"


def without_secrets(key: str, value: Any) -> Any:
    """A value as others may see it: what is named like a secret is left out, and so is what an address carries."""
    if is_secret(key) and not isinstance(value, bool) and value not in (None, "", [], {}):
        return HIDDEN
    if isinstance(value, Mapping):
        return {name: without_secrets(str(name), inner) for name, inner in value.items()}
    if isinstance(value, str):
        return ADDRESS.sub(r"\g<scheme>\g<place>", value)
    return [without_secrets("", item) for item in value] if isinstance(value, (list, tuple)) else value


def is_secret(key: str) -> bool:
    """Whether the last part of a key (`a.b.c`) is named like a secret: api_key, apiKey or API-KEY."""
    words = [word.lower() for word in WORD.findall(key.rpartition(".")[2])]
    if words[-2:] == ["key", "id"]:  # the name that belongs to a secret key
        words.pop()
    if not words or SECRET.intersection(words):
        return bool(words)
    *before, last = words
    if last == "key":
        return any("".join(before[at:]) in LETS_IN for at in range(len(before)))
    if last == "token":
        return not before or before[-1] not in OF_MODELS
    return JOINED.fullmatch(last) is not None
