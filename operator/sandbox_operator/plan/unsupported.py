# SPDX-License-Identifier: Apache-2.0
"""Fields of the language that this version can't do yet: refused with a sentence when set, never ignored.

A field leaves this list in the change that makes it work.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel

from sandbox_api.experiment import ExperimentSpec, Keep

SPEC_FIELDS = {
    "keep": "leave it out",
    "trial": "sweeps are not there yet",
    "queue_name": "leave it out",
}
_HARMLESS: tuple[object, ...] = (None, [], {}, Keep())
"""Values that ask for nothing but what happens anyhow."""


def unsupported_in_spec(spec: ExperimentSpec) -> Iterator[str]:
    """A sentence for each field of the experiment that can't be done yet."""
    yield from _sentences(spec, SPEC_FIELDS, "spec")
    if spec.hpo_config is not None:
        yield "spec.hpoConfig: a search is a SandboxSweep, which this version does not have yet; leave it out"


def _sentences(model: BaseModel, table: dict[str, str], where: str) -> Iterator[str]:
    for name, advice in table.items():
        field = type(model).model_fields[name]
        value = getattr(model, name)
        if value != field.default and value not in _HARMLESS:
            yield f"{where}.{field.alias}: this version can't do it yet; {advice}"
