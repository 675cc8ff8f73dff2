# SPDX-License-Identifier: Apache-2.0
"""What an analysis and a processing run share: loading the prepared rows, and telling an operator's error
from the library's own.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

from .dataset import PreparedDataset
from .errors import ConfigurationError, DataJuicerError, DatasetError, OperatorError, root_message


def load(builder: Any, prepared: PreparedDataset) -> Any:
    """Load the prepared rows through Data-Juicer. Raises DatasetError when it can't, or when it leaves rows
    out.
    """
    # Data-Juicer imports it after the first operator; before the workers fork, they need not import it each again
    import torch

    assert torch
    try:
        dataset = builder.load_dataset()
    except Exception as error:  # the loaders share no error class; the rows are known to be well-formed
        raise DatasetError(f"Data-Juicer can't load the rows: {root_message(error)}", "dataset_path") from error
    if dataset.count() != prepared.rows:
        raise DatasetError(f"Data-Juicer loaded {dataset.count()} of {prepared.rows} rows", "dataset_path")
    return dataset


@contextlib.contextmanager
def operator_errors(process: Sequence[Mapping[str, Any]]) -> Iterator[None]:
    """Turn what a run raises into our errors: OperatorError with the operator's name, or ConfigurationError
    for the recipe.

    A stop by a signal handler passes as it was raised.
    """
    try:
        yield
    except DataJuicerError:
        raise
    except BaseException as error:
        stop = _interruption(error)
        if stop is error:
            raise
        if stop is not None:
            raise stop from None
        _refuse_or_blame(error, process)


def _refuse_or_blame(error: BaseException, process: Sequence[Mapping[str, Any]]) -> NoReturn:
    from data_juicer.core.preflight import PipelineConfigError, PipelineRuntimeError

    if isinstance(error, PipelineConfigError | PipelineRuntimeError):
        found = "; ".join(f"{item.op_name}: {item.message}" for item in error.errors)
        raise ConfigurationError(found, "process") from error
    operator, index = _raised_in(error, process)
    if operator is None:
        raise error
    raise OperatorError(operator, index, error) from error


def _interruption(error: BaseException) -> BaseException | None:
    """Find the stop that a signal handler raised: datasets' clean-up of its workers replaces it with an error
    of its own.
    """
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        if not isinstance(found, Exception):
            return found
        seen.add(id(found))
        found = found.__context__
    return None


def _raised_in(error: BaseException, process: Sequence[Mapping[str, Any]]) -> tuple[str | None, int]:
    """Find the operator of `process` whose module stands deepest in the tracebacks, those of worker processes
    included.
    """
    import traceback

    names = {name: index for index, entry in reversed(list(enumerate(process))) for name in entry}
    text = "".join(traceback.format_exception(error))
    positions = {name: text.rfind(f'/{name}.py"') for name in names}
    name = max(positions, key=lambda item: positions[item], default=None)
    if name is None or positions[name] < 0:
        return None, -1
    return name, names[name]
