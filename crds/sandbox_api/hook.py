# SPDX-License-Identifier: Apache-2.0
"""What is known of a hook: what it is called by default, what it returns, where it runs, what it may be told."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from .extra import ComponentConfig, ExtraConfig, NoExtra, Settings, without_surroundings

STAGES = ("probe", "refine", "execution", "evaluation")
Kind = Literal["path", "list", "number"]


@dataclass(frozen=True)
class Component:
    """A kind of a hook, chosen by a job's `type`: a library, its settings, the image that has it."""

    extra: type[ComponentConfig]
    image: str
    figures: tuple[str, ...] = ()
    """As a hook's."""
    cacheable: bool = True
    """As a hook's."""
    settings: Callable[[Mapping[str, Any]], Settings] = without_surroundings
    """From the layout of Data-Juicer's sandbox to ours."""
    spans_pods: bool = False
    """As a hook's."""
    divisible: bool = False
    """As a hook's."""
    outputs: tuple[str, ...] = ()
    """In place of the hook's."""
    kinds: tuple[Kind, ...] = ()
    """Of these outputs."""
    keeps_newest: bool = False
    """As a hook's."""


@dataclass(frozen=True)
class Hook:
    """One hook of the catalogue."""

    name: str
    meta_name: str
    """Default metaName; the second one of a pipeline gets `_2`, and so on."""
    stages: tuple[str, ...]
    """Job lists it belongs to; in another list it is a warning."""
    outputs: tuple[str, ...]
    """Default names of what it returns, in order."""
    kinds: tuple[Kind, ...] = ()
    """What each of them is, as far as anybody knows before it has run: of a SandboxHook nobody does."""
    image: str = "data"
    extra: type[ExtraConfig] = NoExtra
    writes: dict[str, str] = field(default_factory=dict)
    """Configuration keys that name a file it writes, and the output that file is."""
    only_with: dict[str, str] = field(default_factory=dict)
    """Outputs that it makes only where a configuration key is true."""
    reads_probe: str | None = None
    """The output of a ProbeViaAnalyzerHook that it reads; which probe, `metaName` or `probe` says."""
    reads_dj: bool = False
    """Whether it runs on a Data-Juicer configuration."""
    reads_data: bool = False
    """Whether that configuration must name a data set."""
    figures: tuple[str, ...] = ()
    """Names of the figures that may be referred to besides outputs, without the metaName; `*` stands for any text."""
    components: Mapping[str, Component] = field(default_factory=dict)
    """Its kinds by `type`; without any there is only one."""
    settings: Callable[[Mapping[str, Any]], Settings] | None = None
    """A component's."""
    lacks: tuple[str, ...] = ()
    """Kinds that Data-Juicer's sandbox has and this version has not."""
    known: bool = True
    """Whether any catalogue has it; one that none has stands in for a misspelt name."""
    cacheable: bool = True
    """Whether equal inputs give results that are as good as equal."""
    pinned: Callable[[Mapping[str, Any]], bool] | None = None
    """Where that depends on `extraConfigs`: whether they settle what comes out."""
    spans_pods: bool = False
    """Whether several pods can work at it as one (`nodes`)."""
    spans_with: Mapping[str, str] = field(default_factory=dict)
    """Configuration keys that must have a value for that."""
    divisible: bool = False
    """Whether it can be divided into independent pieces (`shards`) and made one again."""
    draws: bool = False
    """Whether what comes out depends on a seed: it is repeated (`repeats`)."""
    keeps_newest: bool = False
    """Whether its second result is a list of checkpoints by their steps, of which the newest can be kept."""
    repeats_with_inputs: bool = True
    """Whether it is repeated with what it reads; else it reads the list of what all repeats made."""
    image_reference: str | None = None
    """A SandboxHook's own image, used as it stands instead of the image named `image`."""
    command: tuple[str, ...] = ()
    """A SandboxHook's own program (`contract: raw`) instead of the runtime's."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """A SandboxHook's `extraConfigs` where a job does not say otherwise."""
    schema: Mapping[str, Any] | None = None
    """A SandboxHook's JSON schema of `extraConfigs`; None: `extra` says what it may hold."""

    def of_type(self, type_: str) -> Hook:
        """The hook as one of its components makes it."""
        found = self.components[type_]
        return replace(
            self,
            image=found.image,
            extra=found.extra,
            figures=found.figures,
            cacheable=found.cacheable,
            settings=found.settings,
            spans_pods=found.spans_pods,
            divisible=found.divisible,
            keeps_newest=found.keeps_newest,
            outputs=found.outputs or self.outputs,
            kinds=found.kinds if found.outputs else self.kinds,
            components={},
        )

    def has_figure(self, name: str) -> bool:
        """Whether a metric of that name (without the metaName) comes out of this hook."""
        return any(re.fullmatch(".*".join(map(re.escape, figure.split("*"))), name) for figure in self.figures)
