# SPDX-License-Identifier: Apache-2.0
"""`SandboxHook`: a user's own hook. Its name, its image, and what `extraConfigs` of jobs that use it may hold.

A job names it by the resource's own name (`hook: exact-dedup`), in the experiment's namespace. `hook_of` turns the
resource into an entry of the catalogue, so that the planner knows built-in hooks and users' ones by the same words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal, get_args

from pydantic import ConfigDict, Field, ValidationError

from .base import API_VERSION, AnyObject, ContractModel, Name, SpecModel
from .experiment import rules
from .extra import ExtraConfig
from .extra_schema import LATER, inlined, properties_of, schema_problems, value_problems
from .forms import ImageReference
from .hook import Hook
from .hooks import HOOKS
from .status import Condition

KIND = "SandboxHook"
HOOK_NAME = "^[a-z]([a-z0-9-]*[a-z0-9])?$"
MAX_HOOK_NAME = 63
StageName = Literal["probe", "refine", "execution", "evaluation"]
CHARACTERS = "[A-Za-z0-9_.%/-]"
_IMAGES = frozenset(hook.image for hook in HOOKS.values())
"""A SandboxHook's own image goes by the hook's name, and must not stand in for one of these."""
IMAGE_RULE = "give either image (a reference) or imageName (one of the operator's images), not both"
RAW_RULE = "contract: raw needs an image of its own"
COMMAND_RULE = "contract: raw needs a command; contract: runtime has none, the runtime is started"


class HookSpec(SpecModel):
    """One hook: where it runs, what it returns, and what it may be told."""

    model_config = rules(
        {
            "rule": "has(self.image) != has(self.imageName)",
            "message": IMAGE_RULE,
            "fieldPath": ".image",
        },
        {
            "rule": "self.contract != 'raw' || has(self.image)",
            "message": RAW_RULE,
            "fieldPath": ".image",
        },
        {
            "rule": "has(self.command) == (self.contract == 'raw')",
            "message": COMMAND_RULE,
            "fieldPath": ".command",
        },
    )

    description: Annotated[str, Field(max_length=1024)] | None = None
    """What it does, for people."""
    image: Annotated[ImageReference, Field(min_length=1)] | None = None
    """Reference of its image; pin it by digest."""
    image_name: Name | None = None
    """One of the operator's images instead, e.g. data, where that holds the hook's code."""
    contract: Literal["runtime", "raw"] = "runtime"
    """runtime: the image has sandbox-runtime, the hook is an entry point in sandbox.hooks; raw: any program."""
    command: (
        Annotated[list[Annotated[str, Field(min_length=1, max_length=1024)]], Field(min_length=1, max_length=32)] | None
    ) = None
    """With contract raw: the program and its arguments."""
    meta_name: Name | None = None
    """Default metaName of its jobs; default: the resource's name."""
    stages: Annotated[list[StageName], Field(min_length=1, max_length=4)] = list(get_args(StageName))
    """Job lists it belongs to; in another list it is a warning."""
    outputs: Annotated[list[Name], Field(max_length=32)] = []
    """Names of its results, in the order in which it returns them."""
    writes: Annotated[
        dict[Annotated[str, Field(pattern=r"^(djConfigs|extraConfigs)(\.[^.]+)+$", max_length=256)], Name],
        Field(max_length=16),
    ] = {}
    """Configuration keys that name where a result is published, and that result, e.g. extraConfigs.export_path."""
    figures: Annotated[
        list[Annotated[str, Field(pattern=rf"^{CHARACTERS}*(\*{CHARACTERS}*){{0,2}}$", min_length=1, max_length=128)]],
        Field(max_length=64),
    ] = []
    """Metrics that other jobs may refer to, without the metaName; * stands for any text, e.g. share.*.after."""
    reads_data_juicer: bool = False
    """Whether its jobs have djConfigs, a Data-Juicer configuration."""
    cacheable: bool = False
    """Whether equal inputs give equal results, so that an earlier result may stand for a run."""
    defaults: AnyObject | None = None
    """extraConfigs where a job does not say otherwise."""
    schema_: Annotated[AnyObject | None, Field(alias="schema")] = None
    """JSON schema (2020-12) of extraConfigs with the defaults in; none: anything goes."""


class HookReason(StrEnum):
    """The closed list of reasons in a SandboxHook's conditions."""

    VALID = "Valid"
    INVALID_SPEC = "InvalidSpec"


class HookStatus(ContractModel):
    """Whether jobs can use it."""

    observed_generation: int | None = None
    """Newest generation of spec that was seen."""
    conditions: Annotated[
        list[Condition],
        Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}),
    ] = []
    """Ready, and Stalled where something is wrong (kstatus)."""


class AnyExtra(ExtraConfig):
    """Settings that a schema describes, not a model."""

    model_config = ConfigDict(extra="allow", frozen=True)


def hook_of(resource: Mapping[str, Any]) -> Hook | tuple[str, ...]:
    """The catalogue entry of a SandboxHook, or every problem with it as sentences that begin with the field's path."""
    name = (resource.get("metadata") or {}).get("name")
    problems = [*_name_problems(name)]
    try:
        spec = HookSpec.model_validate(resource.get("spec") or {})
    except ValidationError as error:
        return (*problems, *dict.fromkeys(map(_told, error.errors())))
    problems += _form_problems(spec)
    schema = None
    if spec.schema_ is not None:
        wrong = [f"spec.schema{problem}" for problem in schema_problems(spec.schema_)]
        problems += wrong
        schema = None if wrong else inlined(spec.schema_)
    found = value_problems(schema or {}, spec.defaults or {}, str(name), complete=False)
    problems += [f"spec.defaults{problem}" for problem in found]
    if problems:
        return tuple(problems)
    return Hook(
        name=str(name),
        meta_name=spec.meta_name or str(name),
        stages=tuple(spec.stages),
        outputs=tuple(spec.outputs),
        image=spec.image_name or str(name),
        extra=AnyExtra,
        writes=dict(spec.writes),
        reads_dj=spec.reads_data_juicer,
        figures=tuple(spec.figures),
        cacheable=spec.cacheable,
        spans_pods=True,
        divisible=spec.contract == "runtime",  # another program has no part that makes one result of many
        image_reference=spec.image,
        command=tuple(spec.command or ()),
        defaults=spec.defaults or {},
        schema=schema,
    )


def hooks_in(
    documents: Collection[Any], namespace: str | None = None
) -> tuple[dict[str, Hook | tuple[str, ...]], tuple[str, ...]]:
    """The hooks among the documents of a YAML file by name (in place of a faulty one what is wrong with it), and all
    that is wrong, in sentences that name the resource.

    With a namespace: only those of it, and those that name none.
    """
    hooks: dict[str, Hook | tuple[str, ...]] = {}
    problems: list[str] = []
    for document in documents:
        if not isinstance(document, Mapping) or document.get("kind") != KIND:
            continue
        resource = json.loads(json.dumps(document, default=str))  # as the API server has it: keys are text
        metadata = resource.get("metadata") if isinstance(resource.get("metadata"), Mapping) else {}
        if namespace is not None and metadata.get("namespace", namespace) != namespace:
            continue
        told = f"{KIND} {metadata.get('name', '(without a name)')}"
        found = hook_of({**resource, "metadata": metadata})
        if resource.get("apiVersion") != API_VERSION:
            found = (f"apiVersion: write {API_VERSION}, not {resource.get('apiVersion')!r}",)
        elif isinstance(found, Hook) and found.name in hooks:
            found = ("metadata.name: there are two hooks of this name; rename one",)
        if metadata.get("name"):
            hooks.setdefault(str(metadata["name"]), found)
        if isinstance(found, tuple):
            problems += [f"{told}: {problem}" for problem in found]
    return hooks, tuple(problems)


def merged_extra(hook: Hook, extra: Any) -> Any:
    """`extraConfigs` over the hook's defaults: objects merged key by key, everything else replaced.

    What is no object is returned as it is; `extra_problems` refuses it where there are defaults or a schema.
    """
    if extra is None:
        return dict(hook.defaults) if hook.defaults else None
    return _over(hook.defaults, extra) if isinstance(extra, Mapping) else extra


def extra_problems(hook: Hook, extra: Any, filled: Collection[str] = ()) -> list[str]:
    """A text `.extraConfigs<.path>: <sentence>` for each mistake in a job's `extraConfigs`, `local` applied.

    `filled` are the targets (`extraConfigs.<key>...`) that inputs will bring: they count as there, of any kind.
    """
    if hook.schema is None and not hook.defaults:
        return []
    said = "write the settings inline, so that they are checked and its defaults filled in before anything starts"
    if "extraConfigs" in filled or not (extra is None or isinstance(extra, Mapping)):
        return [f".extraConfigs: {hook.name} has {_what(hook)}; {said}"]
    value = merged_extra(hook, extra) or {}
    for target in filled:
        root, *keys = target.split(".")
        if root == "extraConfigs":
            value = _filled(value, keys)
    return [f".extraConfigs{problem}" for problem in value_problems(hook.schema or {}, value, hook.name)]


def _what(hook: Hook) -> str:
    return " and ".join(
        word for word, there in (("defaults", hook.defaults), ("a schema", hook.schema is not None)) if there
    )


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        both = isinstance(under, Mapping) and isinstance(value, Mapping)
        merged[key] = _over(under, value) if both else value  # type: ignore[arg-type]
    return merged


def _filled(tree: Any, keys: list[str]) -> Any:
    """The settings with one place filled; a place that can't be is somebody else's to tell."""
    if not keys:
        return LATER
    key, *rest = keys
    if isinstance(tree, list):
        if not key.isdigit() or int(key) >= len(tree):
            return tree
        return [_filled(item, rest) if number == int(key) else item for number, item in enumerate(tree)]
    if tree is not None and not isinstance(tree, Mapping):
        return tree
    return {**(tree or {}), key: _filled((tree or {}).get(key), rest)}


def _name_problems(name: Any) -> Iterator[str]:
    if not isinstance(name, str) or not name:
        yield "metadata.name: is missing; jobs name the hook by it"
    elif not re.fullmatch(HOOK_NAME, name) or len(name) > MAX_HOOK_NAME:
        yield (
            f"metadata.name: {name!r} is not a hook's name: at most {MAX_HOOK_NAME} lower-case letters, digits and"
            " '-', a letter first"
        )
    elif name in HOOKS:
        yield f"metadata.name: {name!r} is a hook that comes with the operator; take another name"
    elif name in _IMAGES:
        yield f"metadata.name: {name!r} is the name of an image that the operator's own hooks run on; take another name"


def _form_problems(spec: HookSpec) -> Iterator[str]:
    """What the API server's own rules refuse too, and what they can't see."""
    if (spec.image is None) == (spec.image_name is None):
        yield f"spec.image: {IMAGE_RULE}"
    elif spec.contract == "raw" and spec.image is None:
        yield f"spec.image: {RAW_RULE}"
    if (spec.command is not None) != (spec.contract == "raw"):
        yield f"spec.command: {COMMAND_RULE}"
    for field, values in (("outputs", spec.outputs), ("stages", spec.stages)):
        double = next((value for value in values if list(values).count(value) > 1), None)
        if double is not None:
            yield f"spec.{field}: {double!r} stands there twice"
    for target, output in spec.writes.items():
        known = ", ".join(spec.outputs) or "none"
        if output not in spec.outputs:
            yield f'spec.writes["{target}"]: there is no result {output!r}; spec.outputs has: {known}'
        if target.startswith("djConfigs.") and not spec.reads_data_juicer:
            yield f'spec.writes["{target}"]: its jobs have no djConfigs; set readsDataJuicer: true'
    key = {target.split(".")[1] for target in spec.writes if target.startswith("extraConfigs.")}
    names = set(properties_of(spec.schema_))
    if spec.schema_ is not None and spec.schema_.get("additionalProperties") is False:
        yield from (f"spec.writes: the schema has no setting {name!r}" for name in sorted(key - names))


def _told(entry: Any) -> str:
    """One mistake of form as a sentence; the API server has refused most of them before."""
    path = "spec"
    for part in entry["loc"][:-1] if entry["loc"] and entry["loc"][-1] == "[key]" else entry["loc"]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    plainly = {"missing": "is missing", "extra_forbidden": "there is no such field; see kubectl explain sbh.spec"}
    said = str(plainly.get(entry["type"], entry["msg"]))
    return f"{path}: {said[0].lower()}{said[1:]}"
