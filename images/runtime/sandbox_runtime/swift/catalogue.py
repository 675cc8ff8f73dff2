# SPDX-License-Identifier: Apache-2.0
"""The names that ms-swift has for architectures and templates, as one small JSON document.

`python -m sandbox_runtime.swift.catalogue > crds/sandbox_api/swift.json` writes what the planner checks names with,
before a GPU is taken and without the library.
"""

import json


def describe() -> dict[str, list[str]]:
    """Return `{model_types, templates}`, sorted."""
    from swift.model import MODEL_MAPPING
    from swift.template import TEMPLATE_MAPPING

    return {"model_types": sorted(MODEL_MAPPING), "templates": sorted(TEMPLATE_MAPPING)}


if __name__ == "__main__":
    print(json.dumps(describe(), indent=1))
