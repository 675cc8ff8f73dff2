# SPDX-License-Identifier: Apache-2.0
"""What the data hooks share: Data-Juicer's complaints told with the field's address in the job, and how they count."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from ..configs import DJ
from ..data_juicer.errors import ConfigurationError, DatasetError, OperatorError
from ..errors import ConfigError, UserError
from .base import HookContext


@contextlib.contextmanager
def addressed_errors(context: HookContext) -> Iterator[None]:
    """Turn errors of the Data-Juicer package into those of the contract; their fields lie in `djConfigs`."""
    try:
        yield
    except ConfigurationError as error:
        raise ConfigError("\n".join(f"{DJ}.{line}" for line in str(error).splitlines())) from error
    except DatasetError as error:
        source = context.inputs.get(f"{DJ}.dataset_path")
        whose = f" ({source.told})" if source else ""
        # what another job made has been verified: running that job again would make the same
        raise ConfigError(f"{DJ}.{error}{whose}") from error
    except OperatorError as error:
        raise UserError(f"{DJ}.{error}") from error


def data_juicer_job_id(context: HookContext) -> str:
    """The job's id as a name that Data-Juicer takes for a folder."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", context.contract.job.id).strip("_")


def counted(number: int, what: str) -> str:
    """`5 432 rows`, `1 operator`: a figure for people, with its noun."""
    noun = what if number == 1 else f"{what[:-1]}ies" if what.endswith("y") else f"{what}s"
    return f"{number:,} {noun}".replace(",", " ")
