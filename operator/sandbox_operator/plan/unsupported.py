# SPDX-License-Identifier: Apache-2.0
"""Fields of the language that this version can't do yet: refused with a sentence when set, never ignored.

A field leaves this list in the change that makes it work.
"""

from __future__ import annotations

from collections.abc import Iterator

from sandbox_api.experiment import ExperimentSpec

SPEC_FIELDS = {
    "keep.videos": "leave it out",
    "queueName": "leave it out",
}


def unsupported_in_spec(spec: ExperimentSpec) -> Iterator[str]:
    """A sentence for each field of the experiment that can't be done yet."""
    if spec.keep is not None and spec.keep.videos is not None:
        yield _sentence("keep.videos")
    if spec.queue_name is not None:
        yield _sentence("queueName")
    if spec.hpo_config is not None:
        yield (
            "spec.hpoConfig: a search is a resource of its own; make a SandboxSweep of it, as `sandboxctl convert` does"
            " with a sandbox.yaml that names one"
        )


def _sentence(name: str) -> str:
    return f"spec.{name}: this version can't do it yet; {SPEC_FIELDS[name]}"
