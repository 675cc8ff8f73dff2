# SPDX-License-Identifier: Apache-2.0
"""What makes Data-Juicer, Hugging Face datasets, Ray and matplotlib behave in a pod.

A pod has a read-only root, no network to rely on and CPU limits that the libraries don't see. The variables
must be in the process's environment before the first import of any of these libraries; nothing here imports
one.
"""

import os
import sys
from pathlib import Path

IMAGE_MODELS = Path("/opt/sandbox/models")


def variables(cache: Path, *, models: Path = IMAGE_MODELS, scratch: Path = Path("/tmp")) -> dict[str, str]:
    """Return the environment for a run: nothing is installed or downloaded, what is cached lies under
    `cache`.

    `models` is a read-only folder of models that the image ships; Data-Juicer looks there before its cache.
    `scratch` is a writable folder with a short path for what need not outlive the process (Ray's sockets have
    a limit of 107 characters).
    """
    huggingface = cache / "huggingface"
    return {
        "HOME": str(scratch / "home"),
        "XDG_CACHE_HOME": str(scratch / "cache"),
        "MPLCONFIGDIR": str(scratch / "matplotlib"),
        "NUMBA_CACHE_DIR": str(scratch / "numba"),
        "RAY_TMPDIR": str(scratch),
        "CACHE_HOME": str(cache),
        "DATA_JUICER_CACHE_HOME": str(cache / "data_juicer"),
        "DATA_JUICER_MODELS_CACHE": str(cache / "data_juicer" / "models"),
        "DATA_JUICER_ASSETS_CACHE": str(cache / "data_juicer" / "assets"),
        "DATA_JUICER_EXTERNAL_MODELS_HOME": str(models),
        "HF_HOME": str(huggingface),
        "HF_DATASETS_CACHE": str(huggingface / "datasets"),
        "NLTK_DATA": str(cache / "nltk_data"),
        "MODELSCOPE_CACHE": str(cache / "modelscope"),
        "TIKTOKEN_CACHE_DIR": str(cache / "tiktoken"),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "UV_OFFLINE": "1",
        "PIP_NO_INDEX": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "TQDM_DISABLE": "1",
        # one worker process a CPU: threads inside each would only fight over it
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "MPLBACKEND": "Agg",
        "ANALYZER_FONT": "DejaVu Sans",
        # gitpython fails at import where there is no git, and Data-Juicer imports it
        "GIT_PYTHON_REFRESH": "quiet",
    }


def forbid_installs() -> None:
    """Make Data-Juicer name a missing package at once, where it would call uv and pip and fail with their
    messages.
    """
    from data_juicer.utils.lazy_loader import LazyLoader

    def refuse(_: type, package_spec: str, *_pip_args: object) -> None:
        raise ImportError(f"Data-Juicer needs the Python package {package_spec}, which this image does not hold")

    LazyLoader._install_package = classmethod(refuse)


def log_plainly() -> None:
    """Log one line an event to stderr; Data-Juicer's own log shows the values of variables, users' rows among
    them, in tracebacks.
    """
    import data_juicer
    from loguru import logger

    assert data_juicer  # its import sets the log up, and would undo this
    logger.remove()
    form = "{time:YYYY-MM-DD HH:mm:ss.SSS} {level: <7} {message}"
    logger.add(lambda line: sys.stderr.write(line), level="INFO", format=form, backtrace=False, diagnose=False)
    # with its event log off, the library warns of every event that it doesn't log
    logger.disable("data_juicer.core.executor.event_logging_mixin")


def keep_temporary_files_in(folder: Path) -> None:
    """Make datasets write its uncached files, one an operator and as large as the data, into `folder` instead
    of /tmp.

    Not by `temp_dir` or a lasting TMPDIR: they would move the sockets of worker pools there too, and the path
    of a volume is too long for one.
    """
    from datasets import disable_caching, fingerprint

    folder.mkdir(parents=True, exist_ok=True)
    disable_caching()
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = str(folder)
    try:
        fingerprint._TEMP_DIR_FOR_TEMP_CACHE_FILES = fingerprint._TempCacheDir()
    finally:
        if before is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = before
