# SPDX-License-Identifier: Apache-2.0
"""What hooks share that run a component of a factory: how it gets its settings, how what it returns is recorded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, UserError
from .base import Artifact, HookContext, HookResult, data_set_name

if TYPE_CHECKING:
    from ..components import Config, Watcher


def component_settings(context: HookContext, factory_name: str) -> Config:
    """`extraConfigs` as a component gets them, with the `type` that the job names. Raises ConfigError without one."""
    from ..components import config_of, factory

    extra = context.extra
    config: Mapping[str, Any] = extra if isinstance(extra, Mapping) else extra.model_dump(by_alias=True)
    kind = context.contract.job.type or config.get("type")
    if not isinstance(kind, str):
        raise ConfigError(f"type: is missing; it has: {', '.join(factory(factory_name).types())}")
    return config_of({**config, "type": kind})


def result_of_component(
    returned: Any, kind: str, watcher: Watcher, made: Path, outputs: int, publish: Path | None = None
) -> HookResult:
    """What executors of Data-Juicer's sandbox return (nothing, a path, figures by name), or a whole result, as one.

    made: what it has made, where it returns no path. outputs: how many the hook has; it is the first. publish: the name
    its user gave that. Raises UserError where there is nothing.
    """
    if isinstance(returned, HookResult):
        return returned
    if isinstance(returned, list) and len(returned) == 1:
        (returned,) = returned
    path = Path(returned) if isinstance(returned, (str, Path)) else made
    if not path.exists():
        raise UserError(f"type: the component {kind} has made nothing: there is no {path}")
    figures = returned.items() if isinstance(returned, Mapping) else ()
    return HookResult(
        outputs=[Artifact(path.absolute(), publish=publish), *[None] * (outputs - 1)],
        metrics={**watcher.last, **{str(name): value for name, value in figures if isinstance(value, (int, float))}},
        message=f"{kind} has ended",
    )


def run_on_data(context: HookContext, factory_name: str, outputs: int) -> HookResult | None:
    """What a third party's component does on the job's data; None under the hook's own name, which has no kinds.

    It is made with `djConfigs`, in which `export_path` is where it may write, and `run` is called. `context` and
    `watcher` are set before.
    """
    if not isinstance(context.extra, Mapping):
        return None
    from ..components import Watcher, config_of, factory

    kind = component_settings(context, factory_name)["type"]
    publish = context.user_path("djConfigs.export_path")
    made = context.out / data_set_name(publish)
    component = factory(factory_name).load(kind)(config_of({**context.dj, "export_path": str(made)}))
    component.context, component.watcher = context, Watcher(context.metrics, context.watcher)
    return result_of_component(component.run(), kind, component.watcher, made, outputs, publish)
