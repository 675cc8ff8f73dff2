# SPDX-License-Identifier: Apache-2.0
"""What the data hooks share: Data-Juicer's complaints told with the field's address in the job, how they count, and
refined recipes as files and figures.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sandbox_api.recipe import operator_names

from ..configs import DJ
from ..data_juicer.bounds import Moved
from ..data_juicer.errors import ConfigurationError, DatasetError, OperatorError
from ..errors import ConfigError, UserError
from ..files import write_atomic, write_json
from .base import HookContext


@contextlib.contextmanager
def addressed_errors(context: HookContext, root: str = DJ) -> Iterator[None]:
    """Turn errors of the Data-Juicer package into those of the contract; their fields lie in `root`."""
    try:
        yield
    except ConfigurationError as error:
        raise ConfigError("\n".join(f"{root}.{line}" for line in str(error).splitlines())) from error
    except DatasetError as error:
        source = context.inputs.get(f"{root}.dataset_path")
        whose = f" ({source.told})" if source else ""
        # what another job made has been verified: running that job again would make the same
        raise ConfigError(f"{root}.{error}{whose}") from error
    except OperatorError as error:
        raise UserError(f"{root}.{error}") from error


def data_juicer_job_id(context: HookContext) -> str:
    """The job's id as a name that Data-Juicer takes for a folder."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", context.contract.job.id).strip("_")


def counted(number: int, what: str) -> str:
    """`5 432 rows`, `1 operator`: a figure for people, with its noun."""
    noun = what if number == 1 else f"{what[:-1]}ies" if what.endswith("y") else f"{what}s"
    return f"{number:,} {noun}".replace(",", " ")


def write_recipe(recipe: Mapping[str, Any], out: Path, published: Path | None) -> Path:
    """Write the refined configuration in the format that the user's path asks for, YAML without one."""
    if published and published.suffix == ".json":
        path = out / "recipe.json"
        write_json(path, recipe)
        return path
    import yaml

    path = out / f"recipe{published.suffix if published else '.yaml'}"
    write_atomic(path, yaml.safe_dump(dict(recipe), sort_keys=False, allow_unicode=True).encode())
    return path


def bounds_set(bounds: Sequence[Moved], process: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The changed bounds as they stand in the recipe, by `<op>.<arg>`: what is not in the job's own configuration."""
    names = operator_names(process)
    return {f"{names[bound.index]}.{bound.arg}": bound.after for bound in bounds}


def bounds_before_and_after(bounds: Sequence[Moved], process: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Metrics of the changed bounds; a bound that is a text (a size, an aspect ratio) stands in the table only."""
    names = operator_names(process)
    return {
        f"refined.{names[bound.index]}.{bound.arg}.{when}": float(value)
        for bound in bounds
        for when, value in (("before", bound.before), ("after", bound.after))
        if isinstance(value, int | float)
    }
