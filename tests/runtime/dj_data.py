# SPDX-License-Identifier: Apache-2.0
"""Real text and a real environment for the tests of `sandbox_runtime.data_juicer`. Import it before anything
of Data-Juicer.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

from sandbox_runtime.data_juicer import environment

REPOSITORY = Path(__file__).parents[2]
CACHE = Path(
    os.environ.get("SANDBOX_CACHE")
    or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "sandbox-operator"
)
MODELS = CACHE / "models"

# Not HOME: other tests of the same process may look for it.
VARIABLES = {
    name: value
    for name, value in environment.variables(CACHE / "test-data-juicer", models=MODELS).items()
    if name not in ("HOME", "XDG_CACHE_HOME")
}
os.environ.update(VARIABLES)

Row = dict[str, Any]


def fetch_models() -> Path:
    """Return the folder with the models that the data image ships."""
    environ = {name: value for name, value in os.environ.items() if name not in ("UV_OFFLINE", "PIP_NO_INDEX")}
    script = REPOSITORY / "images" / "data" / "fetch_models.py"
    subprocess.run([sys.executable, str(script), str(MODELS)], check=True, env=environ, stdout=subprocess.DEVNULL)
    return MODELS


def rows(count: int = 320) -> list[Row]:
    """Return English prose, some Chinese, and among it: symbols every 20th, a repeated paragraph every 40th,
    a short line every 25th.
    """
    paragraphs = [text for topic in topics.values() for text in topic.split("\n\n") if len(text) > 60]
    made = []
    for number in range(count):
        text = paragraphs[number]
        if number % 7 == 3:
            text = "今天天气很好，我们去公园散步，看见了许多人。" * (1 + number % 3)
            text += str(number)
        if number % 20 == 0:
            text = "!!! $$ ## " * (3 + number % 11)
        if number % 40 == 5:
            text = paragraphs[5]
        if number % 25 == 9:
            text = "ok."
        made.append({"text": text, "meta": {"n": number, "source": "pydoc" if number % 2 else None}})
    return made


def write_jsonl(path: Path, content: Iterable[Row]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in content), encoding="utf-8")
    return path


def read_jsonl(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
