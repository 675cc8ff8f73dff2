# SPDX-License-Identifier: Apache-2.0
"""From a user's Data-Juicer configuration to the namespace that its Analyzer and executors take.

All keys of Data-Juicer are accepted. What is wrong is told as sentences with an address before the library
sees it; then the library's own parser has the last word. What the runtime must decide itself (paths,
parallelism, caches, error handling) is fixed here.
"""

import contextlib
import io
import json
import logging
import tempfile
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from . import catalogue, operators
from .environment import log_plainly
from .errors import ConfigurationError

log = logging.getLogger(__name__)

# Settled before the run: where data comes from (`dataset.prepare` has read it), and what only an older way of
# resuming needs.
SETTLED = (
    "dataset",
    "generated_dataset_config",
    "load_jsonl_lenient",
    "suffixes",
    "decrypt_after_reading",
    "resume",
    "event_log_dir",
    "checkpoint_dir",
    "partition_dir",
    "ds_cache_dir",
    "temp_dir",
    "hpo_config",
    "custom_operator_paths",  # `preflight` has loaded them; the library refuses to load a module twice
)


def problems(raw: Mapping[str, Any]) -> list[ConfigurationError]:
    """Return everything that is wrong with the names, arguments and executor of a configuration, each with
    its address.
    """
    return [*_key_problems(raw), *_process_problems(raw)]


def preflight(raw: Mapping[str, Any]) -> None:
    """Raise ConfigurationError with all problems of a configuration, one a line. Needs no data and runs
    nothing.
    """
    found = problems(raw)
    if len(found) == 1:
        raise found[0]
    if found:
        raise ConfigurationError("\n".join(str(problem) for problem in found))


def _key_problems(raw: Mapping[str, Any]) -> Iterator[ConfigurationError]:
    known = catalogue.top_level_keys()
    for key, value in raw.items():
        name = str(key).replace("-", "_")
        if name not in known:
            yield ConfigurationError(f"Data-Juicer has no such key{_hint(str(key), known)}", str(key))
        elif known[name] and isinstance(value, dict):
            for setting in value:
                if setting not in known[name]:
                    hint = _hint(str(setting), known[name])
                    yield ConfigurationError(f"Data-Juicer has no such setting{hint}", f"{key}.{setting}")
    if raw.get("executor_type") == "ray_partitioned":
        yield ConfigurationError("this runtime runs the executors default and ray", "executor_type")


def _process_problems(raw: Mapping[str, Any]) -> Iterator[ConfigurationError]:
    process = raw.get("process") or []
    if not isinstance(process, list):
        yield ConfigurationError(f"must be a list of operators, not {type(process).__name__}", "process")
        return
    _load_custom_operators(raw)
    known = operators.registry()
    for index, entry in enumerate(process):
        if not isinstance(entry, dict) or len(entry) != 1:
            yield ConfigurationError(
                "must be one operator with its arguments, as `- name: {argument: value}`", f"process[{index}]"
            )
            continue
        ((name, arguments),) = entry.items()
        field = f"process[{index}].{name}"
        if name not in known:
            yield ConfigurationError(f"Data-Juicer has no such operator{_hint(str(name), known)}", field)
            continue
        if arguments is not None and not isinstance(arguments, dict):
            yield ConfigurationError(f"its arguments must be a mapping, not {type(arguments).__name__}", field)
            continue
        yield from _argument_problems(field, name, arguments)
        executor = raw.get("executor_type") or "default"
        if executor not in operators.executors(known[name]):
            twin = f"ray_{name}" if executor == "ray" else str(name).removeprefix("ray_")
            use = f"; use {twin}" if twin != name and twin in known else ""
            yield ConfigurationError(f"the operator does not run with executor_type {executor}{use}", field)


def _argument_problems(field: str, name: str, arguments: Mapping[str, Any] | None) -> Iterator[ConfigurationError]:
    """Ask the library's own preflight, one operator at a time so that each error keeps its address."""
    from data_juicer.core.preflight import PipelineConfigError, pre_instantiation_check

    try:
        pre_instantiation_check([{name: arguments}])
    except PipelineConfigError as error:
        for found in error.errors:
            hint = f"; did you mean {' or '.join(found.suggestions)}?" if found.suggestions else ""
            yield ConfigurationError(found.message[0].lower() + found.message[1:] + hint, field)


def _load_custom_operators(raw: Mapping[str, Any]) -> None:
    paths = raw.get("custom_operator_paths") or raw.get("custom-operator-paths")
    if paths:
        from data_juicer.config.config import load_custom_operators

        try:
            load_custom_operators([paths] if isinstance(paths, str) else paths)
        except RuntimeError as error:
            if "already loaded from" not in str(error):
                raise ConfigurationError(str(error), "custom_operator_paths") from error
        except ValueError as error:
            raise ConfigurationError(str(error), "custom_operator_paths") from error


def _hint(name: str, known: Mapping[str, Any] | list[str]) -> str:
    close = get_close_matches(name, list(known), n=2, cutoff=0.6)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def build_config(
    raw: Mapping[str, Any],
    *,
    job_id: str,
    work_dir: Path,
    export_path: Path,
    dataset_path: Path,
    np: int,
    settings: Mapping[str, Any] | None = None,
) -> Any:
    """Return the namespace for Data-Juicer's Analyzer or executors, parsed by its own parser.

    `job_id` must not hold `/`; Data-Juicer works in `work_dir/job_id`. `np` is the number of CPUs of the pod:
    a smaller one in `raw` stays. `settings` override what `raw` says. Raises ConfigurationError.
    """
    preflight(raw)
    asked = raw.get("np")
    fixed = {
        "job_id": job_id,
        "work_dir": str(work_dir),
        "export_path": str(export_path),
        "dataset_path": str(dataset_path),
        "ds_cache_dir": str(work_dir / "datasets"),
        "np": np if asked is None else min(np, asked) if isinstance(asked, int) and asked > 0 else asked,
        # an operator that fails on rows fails the run, and is never counted as rows filtered out
        "skip_op_error": False,
        # the library would count the node's CPUs, not the pod's
        "auto_op_parallelism": False,
        # caches are keyed by the input's path, which differs in every attempt: they would only fill the
        # volume
        "use_cache": False,
        # the runtime keeps its own state after operators (`resume`), which survives a change of folder
        "use_checkpoint": False,
        # its workers would open files that the library has unlinked already
        "export_in_parallel": False,
        "event_logging": {"enabled": False},
        "strict_preflight": True,
        **(settings or {}),
    }
    for key in ("skip_op_error", "strict_preflight"):
        if key in raw and raw[key] != fixed[key]:
            log.warning("%s: %s is not supported here and has no effect; the run uses %s", key, raw[key], fixed[key])
    kept = {str(key).replace("-", "_"): value for key, value in raw.items() if value is not None}
    for key in SETTLED:
        kept.pop(key, None)
    log_plainly()
    config = _parse({**kept, **fixed})
    Path(config.work_dir).mkdir(parents=True, exist_ok=True)
    return config


def _parse(config: Mapping[str, Any]) -> Any:
    from data_juicer.config import init_configs

    with tempfile.NamedTemporaryFile("w", suffix=".json", prefix="data-juicer-") as file:
        json.dump(config, file)
        file.flush()
        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said):
                return init_configs(["--config", file.name], load_configs_only=True)
        except SystemExit:
            # the command line parser prints what is wrong and ends the process
            lines = [line.strip() for line in said.getvalue().splitlines() if line.strip()]
            start = next((i for i, line in enumerate(lines) if "error:" in line), 0)
            problem = " ".join(lines[start:]).replace(file.name, "the configuration")
            raise ConfigurationError(f"Data-Juicer refuses it: {problem.removeprefix('error: ')}") from None
        except (ValueError, TypeError, NotImplementedError) as error:
            raise ConfigurationError(f"Data-Juicer refuses it: {error}") from error
