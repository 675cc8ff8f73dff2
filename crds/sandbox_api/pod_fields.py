# SPDX-License-Identifier: Apache-2.0
"""What Kubernetes has in a pod and our resource takes as it is: a profile's tolerations, its `affinity`, and the fields
of its `patch`.

The last two are no part of the resource's schema. The planner checks them with these models, so that a mistake in them
is told before the first Job, and not when a Job is made, or by a pod that is placed where nobody wanted it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from .base import SpecModel
from .forms import ClassName, LabelKey, LabelValue, TaintKey


class Toleration(SpecModel):
    key: TaintKey | None = None
    """Taint key; empty with operator Exists matches all."""
    operator: Literal["Exists", "Equal"] = "Equal"
    """Exists or Equal."""
    value: LabelValue | None = None
    """Taint value for Equal."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Taint effect; empty matches all."""
    toleration_seconds: int | None = None
    """How long NoExecute is tolerated."""

    @model_validator(mode="after")
    def _is_one(self) -> Toleration:
        if not self.key and self.operator == "Equal":
            raise ValueError("a toleration without key needs operator: Exists")
        if self.value and self.operator == "Exists":
            raise ValueError("operator Exists takes no value; leave it out, or write operator: Equal")
        if self.toleration_seconds is not None and self.effect != "NoExecute":
            raise ValueError("tolerationSeconds needs effect: NoExecute")
        return self


Weight = Annotated[int, Field(ge=1, le=100)]


class LabelRequirement(SpecModel):
    key: LabelKey
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: list[LabelValue] | None = None

    @model_validator(mode="after")
    def _fits_its_operator(self) -> LabelRequirement:
        operator: str = self.operator
        count = len(self.values or ())
        if operator in ("In", "NotIn") and not count:
            raise ValueError(f"operator {operator} needs values")
        if operator in ("Exists", "DoesNotExist") and count:
            raise ValueError(f"operator {operator} takes no values; leave them out")
        if operator in ("Gt", "Lt") and (count != 1 or not (self.values or [""])[0].isdecimal()):
            raise ValueError(f"operator {operator} needs one value, a whole number as text")
        return self


class NodeRequirement(LabelRequirement):
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]  # type: ignore[assignment]


class FieldRequirement(SpecModel):
    key: Literal["metadata.name"]
    operator: Literal["In", "NotIn"]
    values: Annotated[list[str], Field(min_length=1, max_length=1)]


class NodeTerm(SpecModel):
    match_expressions: list[NodeRequirement] | None = None
    match_fields: list[FieldRequirement] | None = None


class NodeTerms(SpecModel):
    node_selector_terms: Annotated[list[NodeTerm], Field(min_length=1)]


class PreferredNodes(SpecModel):
    weight: Weight
    preference: NodeTerm


class NodeAffinity(SpecModel):
    required_during_scheduling_ignored_during_execution: NodeTerms | None = None
    preferred_during_scheduling_ignored_during_execution: list[PreferredNodes] | None = None


class LabelSelector(SpecModel):
    match_labels: dict[LabelKey, LabelValue] | None = None
    match_expressions: list[LabelRequirement] | None = None


class PodTerm(SpecModel):
    topology_key: LabelKey
    label_selector: LabelSelector | None = None
    namespace_selector: LabelSelector | None = None
    namespaces: list[str] | None = None
    match_label_keys: list[LabelKey] | None = None
    mismatch_label_keys: list[LabelKey] | None = None


class PreferredPods(SpecModel):
    weight: Weight
    pod_affinity_term: PodTerm


class PodAffinity(SpecModel):
    required_during_scheduling_ignored_during_execution: list[PodTerm] | None = None
    preferred_during_scheduling_ignored_during_execution: list[PreferredPods] | None = None


class Affinity(SpecModel):
    node_affinity: NodeAffinity | None = None
    pod_affinity: PodAffinity | None = None
    pod_anti_affinity: PodAffinity | None = None


Part = dict[str, Any]


class PodPatch(SpecModel):
    """Fields of a pod's spec that a patch may set; null removes one. A newer Kubernetes may have more."""

    model_config = ConfigDict(extra="ignore")

    active_deadline_seconds: Annotated[int, Field(ge=1)] | None = None
    affinity: Affinity | None = None
    automount_service_account_token: bool | None = None
    dns_config: Part | None = None
    dns_policy: Literal["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"] | None = None
    enable_service_links: bool | None = None
    host_aliases: list[Part] | None = None
    host_ipc: Annotated[bool | None, Field(alias="hostIPC")] = None
    host_network: bool | None = None
    host_pid: Annotated[bool | None, Field(alias="hostPID")] = None
    host_users: bool | None = None
    hostname: str | None = None
    hostname_override: str | None = None
    image_pull_secrets: list[Part] | None = None
    init_containers: list[Part] | None = None
    node_name: str | None = None
    node_selector: dict[LabelKey, LabelValue | None] | None = None
    os: Part | None = None
    overhead: Part | None = None
    preemption_policy: Literal["Never", "PreemptLowerPriority"] | None = None
    priority: int | None = None
    priority_class_name: ClassName | None = None
    readiness_gates: list[Part] | None = None
    resource_claims: list[Part] | None = None
    resources: Part | None = None
    runtime_class_name: ClassName | None = None
    scheduler_name: str | None = None
    scheduling_gates: list[Part] | None = None
    security_context: Part | None = None
    service_account: str | None = None
    service_account_name: ClassName | None = None
    set_hostname_as_fqdn: Annotated[bool | None, Field(alias="setHostnameAsFQDN")] = None
    share_process_namespace: bool | None = None
    subdomain: str | None = None
    termination_grace_period_seconds: Annotated[int, Field(ge=0)] | None = None
    tolerations: list[Toleration] | None = None
    topology_spread_constraints: list[Part] | None = None
