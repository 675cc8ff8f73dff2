# SPDX-License-Identifier: Apache-2.0
"""Writes the CustomResourceDefinitions from the models: `python -m sandbox_api.crd FOLDER` (`make generate`).

JSON schema as pydantic gives it has references, titles and unions that a structural schema may not have; here they are
inlined and dropped. CEL rules stand on the models, but for those about transitions, which need the whole object.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .base import GROUP, VERSION, ContractModel, SpecModel
from .experiment import ExperimentSpec
from .hook_resource import HOOK_NAME, MAX_HOOK_NAME, HookSpec, HookStatus
from .status import ExperimentStatus
from .sweep import IGNORED, SweepSpec, SweepStatus

Schema = dict[str, Any]
Column = tuple[str, str, str, int]
"""Heading, JSONPath, description, and 1 where it is for the wide view only."""
MAX_NAME = 52
MAX_SWEEP_NAME = 46
"""So that the trial's number still fits into the name of an experiment."""
SWEEP_MUTABLE = (
    "suspend", "maxTrials", "maxFailedTrials", "parallelism", "runCap", "run_cap", "sweep_max_count", "metric", "keep",
)  # fmt: skip
"""Fields of a sweep's spec that may change while it runs, beside those without effect; of `metric` only the target."""
ALWAYS_MUTABLE = ("suspend", "suspendPolicy", "stop", "rerun", "ttlSecondsAfterFinished")
"""Fields of spec that may change while the experiment runs; `workspace.retention` is the other one."""
KEPT = (
    "description", "type", "enum", "pattern", "minLength", "maxLength", "minItems", "maxItems", "minProperties",
    "maxProperties", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "required", "default",
)  # fmt: skip
EXPERIMENT_COLUMNS: tuple[Column, ...] = (
    ("Outcome", ".status.outcome", "Pending, Running, Succeeded, Failed or Stopped", 0),
    ("Reason", '.status.conditions[?(@.type=="Ready")].reason', "Why it is not ready, or what it waits for", 0),
    ("Stage", ".status.stage", "Stage of the current job", 0),
    ("Progress", ".status.progress", "Jobs done / all jobs", 0),
    ("Age", ".metadata.creationTimestamp", "Since when it exists", 0),
    ("Hook", ".status.hook", "Hook of the current job", 1),
    ("Live", ".status.live", "How far the running hook is", 1),
    ("Retries", ".status.retries", "Attempts beyond the first", 1),
    ("Queue", ".spec.queueName", "Kueue queue", 1),
    ("Message", '.status.conditions[?(@.type=="Ready")].message', "In words", 1),
)
HOOK_COLUMNS: tuple[Column, ...] = (
    ("Ready", '.status.conditions[?(@.type=="Ready")].status', "Whether jobs can use it", 0),
    ("Contract", ".spec.contract", "runtime, or raw: any program", 0),
    ("Image", ".spec.image", "Its own image", 0),
    ("Image Name", ".spec.imageName", "One of the operator's images", 0),
    ("Age", ".metadata.creationTimestamp", "Since when it exists", 0),
    ("Outputs", ".spec.outputs", "What it returns", 1),
    ("Message", '.status.conditions[?(@.type=="Ready")].message', "In words", 1),
)
SWEEP_COLUMNS: tuple[Column, ...] = (
    ("Outcome", ".status.outcome", "Pending, Running, Succeeded or Failed", 0),
    ("Trials", ".status.progress", "Trials ended / trials in all", 0),
    ("Best", ".status.best.value", "Best value of the metric so far", 0),
    ("Trial", ".status.best.trial", "The trial that has it", 0),
    ("Reason", '.status.conditions[?(@.type=="Ready")].reason', "Why it is not ready, or what it waits for", 0),
    ("Age", ".metadata.creationTimestamp", "Since when it exists", 0),
    ("Method", ".spec.method", "How it searches", 1),
    ("Metric", ".status.objective", "What is searched for", 1),
    ("Failed", ".status.counts.failed", "Trials that failed", 1),
    ("Pruned", ".status.counts.pruned", "Trials that were ended early", 1),
    ("Message", '.status.conditions[?(@.type=="Ready")].message', "In words", 1),
)
_COLUMN_TYPES = {"Age": "date", "Retries": "integer", "Trial": "integer", "Failed": "integer", "Pruned": "integer"}


def structural(schema: Schema, definitions: dict[str, Schema]) -> Schema:
    """A structural schema with the same meaning: references inlined, null and titles dropped, extensions kept."""
    if "$ref" in schema:
        target = definitions[schema["$ref"].rsplit("/", 1)[1]]
        return structural({**target, **{k: v for k, v in schema.items() if k != "$ref"}}, definitions)
    if schema.get("x-sandbox-untyped"):
        untyped = {"x-kubernetes-preserve-unknown-fields": True}
        return {"description": schema["description"], **untyped} if "description" in schema else untyped
    if schema.get("x-sandbox-quantity"):
        return {
            **({"description": schema["description"]} if "description" in schema else {}),
            **({"default": schema["default"]} if schema.get("default") is not None else {}),
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "x-kubernetes-int-or-string": True,
        }
    if "anyOf" in schema:  # X | None: the field may be left out
        (only,) = [option for option in schema["anyOf"] if option.get("type") != "null"]
        return structural({**only, **{k: v for k, v in schema.items() if k != "anyOf"}}, definitions)
    if not set(schema) & {"type", "enum", "const"}:
        return {**_kept(schema), "x-kubernetes-preserve-unknown-fields": True}
    out = _kept(schema)
    if "const" in schema:
        out["enum"] = [schema["const"]]
    if "properties" in schema:
        out["properties"] = {name: structural(value, definitions) for name, value in schema["properties"].items()}
    elif isinstance(of := _values(schema), dict):
        values = structural(of, definitions)
        if values == {"x-kubernetes-preserve-unknown-fields": True}:
            out["x-kubernetes-preserve-unknown-fields"] = True
        else:
            out["additionalProperties"] = values
    elif schema.get("additionalProperties") is True:
        out["x-kubernetes-preserve-unknown-fields"] = True
    if "items" in schema:
        out["items"] = structural(schema["items"], definitions)
        out.setdefault("x-kubernetes-list-type", schema.get("x-kubernetes-list-type", "atomic"))
    return out


def _values(schema: Schema) -> Any:
    """The schema of a map's values; keys with a form of their own are patternProperties, which CRDs don't have."""
    (only,) = schema.get("patternProperties", {}).values() or (schema.get("additionalProperties"),)
    return only


def _kept(schema: Schema) -> Schema:
    kept = {key: schema[key] for key in KEPT if key in schema and schema[key] is not None}
    kept |= {key: value for key, value in schema.items() if key.startswith("x-kubernetes-")}
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if exclusive in kept:  # OpenAPI 3.0, which structural schemas are in, has it as a word about the bound
            kept[bound], kept[exclusive] = kept[exclusive], True
    if "description" in kept:
        kept["description"] = " ".join(kept["description"].split())
    return kept


def frozen_rule() -> dict[str, str]:
    """Once started, only the always mutable fields of spec may change; with a new rerun token, jobs may too.

    The API server evaluates the rule at every write of the status too, where spec can't change, and comparing it is the
    dearest part of such a write. What tells the two apart is that a write of spec can't touch the status: `revision`
    rises with each status, and stands still otherwise.
    """
    spec = [
        _unchanged("spec", field.alias or name)
        for name, field in ExperimentSpec.model_fields.items()
        if (field.alias or name) not in (*ALWAYS_MUTABLE, "workspace")
    ]
    volume = " && ".join(_unchanged("spec.workspace", name) for name in ("claimName", "claim"))
    started = "has(oldSelf.status) && has(oldSelf.status.startTime)"
    new_token = f"has(self.spec.rerun) && !({_unchanged('spec', 'rerun')})"
    old, new = "oldSelf.status.revision", "self.status.revision"
    of_status = f"has({new}) && (!has({old}) || {new} != {old})"
    over = "has(oldSelf.status.completionTime) || oldSelf.spec.suspend"
    return {
        "rule": f"!({started}) || ({of_status}) || (({' && '.join(spec)}) || ({new_token} && ({over}))) && ({volume})",
        "message": "the experiment has started: only suspend, suspendPolicy, stop, rerun, ttlSecondsAfterFinished and"
        " workspace.retention may change; for more, set a new rerun.token in the same edit once it has finished or is"
        " suspended, or apply a changed experiment under a new name",
        "fieldPath": ".spec",
    }


def sweep_frozen_rule() -> dict[str, str]:
    """Once a trial was decided on, what is searched for and how stays; how much, and when it ends, may change."""
    spec = [
        _unchanged("spec", field.alias or name)
        for name, field in SweepSpec.model_fields.items()
        if (field.alias or name) not in (*SWEEP_MUTABLE, *IGNORED)
    ]
    metric = [_unchanged("spec.metric", name) for name in ("name", "goal")]
    started = "has(oldSelf.status) && has(oldSelf.status.startTime)"
    old, new = "oldSelf.status.revision", "self.status.revision"
    of_status = f"has({new}) && (!has({old}) || {new} != {old})"
    return {
        "rule": f"!({started}) || ({of_status}) || ({' && '.join([*spec, *metric])})",
        "message": "the sweep has begun: only suspend, maxTrials, run_cap, maxFailedTrials, parallelism, keep and"
        " metric.target may change; for another search, apply one under a new name",
        "fieldPath": ".spec",
    }


def _unchanged(where: str, name: str) -> str:
    # Comparing optionals (`.?name`) has no known size and breaks the cost budget; with has() it has.
    new, old = f"self.{where}.{name}", f"oldSelf.{where}.{name}"
    return f"has({new}) == has({old}) && (!has({new}) || {new} == {old})"


@dataclass(frozen=True)
class Kind:
    """What differs between the resources."""

    name: str
    short: str
    description: str
    spec: type[SpecModel]
    status: type[ContractModel]
    columns: tuple[Column, ...]
    rules: tuple[dict[str, str], ...]
    """About the whole object: its name, and transitions."""
    selectable: tuple[str, ...] = ()


def experiment_crd() -> Schema:
    """The CustomResourceDefinition of SandboxExperiment."""
    name_rule = {
        "rule": f"size(self.metadata.name) <= {MAX_NAME}",
        "message": f"the name may have at most {MAX_NAME} characters: the names of its Jobs begin with it",
        "fieldPath": ".metadata",
    }
    return _definition(
        Kind(
            name="SandboxExperiment",
            short="sbx",
            description="One experiment of the data sandbox: probe, refine the recipe, execute, evaluate.",
            spec=ExperimentSpec,
            status=ExperimentStatus,
            columns=EXPERIMENT_COLUMNS,
            rules=(name_rule, frozen_rule()),
            selectable=(".status.outcome", ".spec.queueName", ".spec.suspend"),
        )
    )


def hook_crd() -> Schema:
    """The CustomResourceDefinition of SandboxHook."""
    name_rule = {
        "rule": f"self.metadata.name.matches('{HOOK_NAME}') && size(self.metadata.name) <= {MAX_HOOK_NAME}",
        "message": f"jobs name the hook by it: at most {MAX_HOOK_NAME} lower-case letters, digits and '-', a letter"
        " first",
        "fieldPath": ".metadata",
    }
    return _definition(
        Kind(
            name="SandboxHook",
            short="sbh",
            description="A user's own hook: jobs of its namespace name it by the resource's name.",
            spec=HookSpec,
            status=HookStatus,
            columns=HOOK_COLUMNS,
            rules=(name_rule,),
        )
    )


def sweep_crd() -> Schema:
    """The CustomResourceDefinition of SandboxSweep."""
    name_rule = {
        "rule": f"size(self.metadata.name) <= {MAX_SWEEP_NAME}",
        "message": f"the name may have at most {MAX_SWEEP_NAME} characters: the names of its trials begin with it",
        "fieldPath": ".metadata",
    }
    return _definition(
        Kind(
            name="SandboxSweep",
            short="sbsw",
            description="A hyper-parameter search: trials are experiments made from one template.",
            spec=SweepSpec,
            status=SweepStatus,
            columns=SWEEP_COLUMNS,
            rules=(name_rule, sweep_frozen_rule()),
            selectable=(".status.outcome", ".spec.suspend"),
        )
    )


def _definition(kind: Kind) -> Schema:
    schema = {
        "type": "object",
        "description": kind.description,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": _schema_of(kind.spec),
            "status": _schema_of(kind.status),
        },
        "x-kubernetes-validations": list(kind.rules),
    }
    singular = kind.name.lower()
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{singular}s.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": f"{singular}s",
                "singular": singular,
                "shortNames": [kind.short],
                "categories": ["sandbox"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [
                        {
                            "name": name,
                            "jsonPath": path,
                            "description": text,
                            "priority": priority,
                            "type": _COLUMN_TYPES.get(name, "string"),
                        }
                        for name, path, text, priority in kind.columns
                    ],
                    **(
                        {"selectableFields": [{"jsonPath": path} for path in kind.selectable]}
                        if kind.selectable
                        else {}
                    ),
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }


def _schema_of(model: type[SpecModel] | type[ContractModel]) -> Schema:
    schema = model.model_json_schema(by_alias=True)
    return structural(schema, schema.get("$defs", {}))


class _Dumper(yaml.SafeDumper):
    """YAML without anchors, which a reader would have to follow; a field that holds no others stands in one line."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True

    def represent_mapping(self, tag: str, mapping: Any, flow_style: bool | None = None) -> yaml.MappingNode:
        node = super().represent_mapping(tag, mapping, flow_style)
        node.flow_style = all(_is_flat(value) for _, value in node.value)
        return node

    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> yaml.SequenceNode:
        node = super().represent_sequence(tag, sequence, flow_style)
        node.flow_style = all(isinstance(value, yaml.ScalarNode) for value in node.value)
        return node


def _is_flat(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) or (isinstance(node, yaml.CollectionNode) and bool(node.flow_style))


def crd_yaml(crd: Schema) -> str:
    """The YAML that is kept in the repository."""
    header = "# Generated from crds/sandbox_api by `make generate`; do not edit.\n"
    return header + yaml.dump(crd, Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True)


def write_crds(folder: Path) -> list[Path]:
    """Write every CRD into `folder`; the files written."""
    written = []
    for crd in (experiment_crd(), hook_crd(), sweep_crd()):
        written.append(folder / f"{GROUP}_{crd['spec']['names']['plural']}.yaml")
        written[-1].write_text(crd_yaml(crd))
    return written


if __name__ == "__main__":
    print(*write_crds(Path(sys.argv[1])), sep="\n")
