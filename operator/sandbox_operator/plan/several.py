# SPDX-License-Identifier: Apache-2.0
"""Which jobs may have several pods: `nodes` that work as one, or `shards` that are independent pieces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sandbox_api.experiment import ExperimentSpec, JobConfig
from sandbox_api.hook import Hook

from .configs import effective, value_at


def pod_problems(spec: ExperimentSpec, config: JobConfig, hook: Hook, where: str) -> Iterator[str]:
    """A sentence for each wish that the hook, or the volume, can't fulfil."""
    name = f"{hook.name} of type {config.type}" if config.type is not None else hook.name
    if config.nodes > 1 and config.shards > 1:
        yield f"{where}.shards: give either nodes (pods that work as one) or shards (independent pieces), not both"
    elif config.nodes > 1 and not hook.spans_pods:
        yield f"{where}.nodes: the work of {name} can't span several pods; leave nodes at 1"
    elif config.nodes > 1:
        yield from _settings_problems(config, hook, where)
    elif config.shards > 1 and hook.command:
        yield f"{where}.shards: {name} is a program of its own (contract: raw), which can't be divided; leave it at 1"
    elif config.shards > 1 and not hook.divisible:
        yield f"{where}.shards: {name} can't be divided into independent pieces; leave shards at 1"
    modes = spec.workspace.claim.access_modes if spec.workspace.claim is not None else ()
    if max(config.nodes, config.shards) > 1 and "ReadWriteOncePod" in modes:
        field = "nodes" if config.nodes > 1 else "shards"
        yield f"{where}.{field}: the claim is ReadWriteOncePod, which one pod at a time can use; take ReadWriteMany"


def _settings_problems(config: JobConfig, hook: Hook, where: str) -> Iterator[str]:
    """Settings without which the work is one pod's alone; those that a file or an input brings only the pod can see."""
    configs = effective(config)
    for target, wanted in hook.spans_with.items():
        is_known = isinstance(configs[target.split(".")[0]], Mapping) or target in (config.local or {})
        if is_known and value_at(config, configs, target) != wanted:
            yield f"{where}.nodes: {hook.name} spans several pods only with {target}: {wanted}; set it, or nodes to 1"
