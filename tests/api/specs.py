# SPDX-License-Identifier: Apache-2.0
"""Specs of experiments, drawn by number: as a user would write them, the same with more or with mistakes, and wild ones.

`Writer` writes the language as the guide does, with real hooks, recipes and references; what it leaves out (and what the
language gains) the others draw from the schema.
"""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import yaml
from tests.api.lab import REPOSITORY
from tests.api.wild import Schema, Wild

from sandbox_api.data_juicer import catalogue
from sandbox_api.hooks import HOOKS

Spec = dict[str, Any]
LISTS = {
    "probeJobConfigs": ("ProbeViaAnalyzerHook",),
    "refineRecipeJobConfigs": ("RefineRecipeViaKSigmaHook",),
    "executionJobConfigs": ("ProcessDataHook", "ProcessDataHook", "ProbeViaAnalyzerHook"),
    "evaluationJobConfigs": ("ProbeViaAnalyzerHook",),
}


@cache
def crd_schema(kind: str = "sandboxexperiments") -> Schema:
    """The schema of a resource, from its CustomResourceDefinition."""
    text = (REPOSITORY / f"crds/sandbox.datajuicer.io_{kind}.yaml").read_text()
    return dict(yaml.safe_load(text)["spec"]["versions"][0]["schema"]["openAPIV3Schema"])


def schema_of(kind: str = "sandboxexperiments") -> Schema:
    """The schema of a resource's spec."""
    return dict(crd_schema(kind)["properties"]["spec"])


def draw(number: int) -> tuple[str, Spec]:
    """The n-th spec, and of what sort it is."""
    chance = random.Random(f"spec {number}")
    sort = chance.choices(["plausible", "decorated", "mistaken", "wild"], [35, 25, 25, 15])[0]
    if sort == "wild":
        return sort, Wild(chance, wrong=chance.choice([0.0, 0.01, 0.1])).value(schema_of())
    spec = Writer(chance).spec()
    if sort == "decorated":
        spec = Wild(chance, wrong=0.0).decorated(spec, schema_of(), chance.choice([1, 1, 2, 3]))
    if sort == "mistaken":
        spec = Wild(chance).mistaken(spec, schema_of(), chance.choice([1, 1, 1, 2, 4]))
    return sort, spec


@dataclass
class Result:
    """Something that later jobs may refer to."""

    reference: str
    hook: str
    output: str
    is_fanned: bool


@dataclass
class Writer:
    """Writes one spec. `known` grows with each job."""

    chance: random.Random
    known: list[Result] = field(default_factory=list)
    jobs: list[str] = field(default_factory=list)
    """metaNames so far."""
    last: tuple[str, str, list[str]] | None = None
    """metaName, hook and outputs of the job before."""

    def maybe(self, probability: float) -> bool:
        return self.chance.random() < probability

    def spec(self) -> Spec:
        claim = {"claim": {"size": "1Gi"}} if self.maybe(0.5) else {"claimName": "shared"}
        spec: Spec = {"workspace": claim, "inputs": [{"name": "raw", "configMapName": "raw"}]}
        profiles = self._pods()
        if profiles:
            spec["pods"] = profiles
        if self.maybe(0.3):
            spec["pipelines"] = [self._pipeline(number) for number in range(self.chance.randint(1, 3))]
        else:
            spec |= self._lists("anonymous", None)
        return spec | self._settings()

    def _pods(self) -> Spec:
        profiles: Spec = {}
        if self.maybe(0.3):
            profiles["default"] = {"resources": {"requests": {"cpu": self.chance.choice(["1", "500m", 2])}}}
        if self.maybe(0.2):
            profiles["gpu8"] = {"resources": {"limits": {"nvidia.com/gpu": 8}}, "nodeSelector": {"pool": "gpu"},
                                "tolerations": [{"key": "gpu", "operator": "Exists"}]}  # fmt: skip
        return profiles

    def _pipeline(self, number: int) -> Spec:
        name = self.chance.choice(["clean", "exps", "train", "check"]) + (f"_{number}" if self.maybe(0.9) else "")
        fan = self._for_each(pipeline=True) if self.maybe(0.4) else None
        body = self._stages(name, fan) if self.maybe(0.25) else self._lists(name, fan)
        return {"name": name, **({"forEach": fan} if fan else {}), **body}

    def _for_each(self, *, pipeline: bool = False) -> Spec:
        name = self.chance.choice(["pool", "seed", "x"])
        literal = self.chance.choice([["a.jsonl", "b.jsonl"], [0.1, 0.5], [{"path": "a.jsonl", "k": 1}], [], ["one"]])
        lists = [result for result in self.known if result.is_fanned or self.maybe(0.05)]
        into = self.chance.choice(lists).reference if lists and self.maybe(0.5) else literal
        limit = {"maxParallel": self.chance.randint(1, 3)} if self.maybe(0.4) else {}
        return {"item": name, "in": into, **limit} if not pipeline or into else {"item": name, "in": ["one"], **limit}

    def _stages(self, pipeline: str, fan: Spec | None) -> Spec:
        names = self.chance.sample(["collect", "clean", "score"], self.chance.randint(1, 3))
        kinds = ("ProbeViaAnalyzerHook", "ProcessDataHook")
        return {"stages": [{"name": name, "jobConfigs": self._jobs(pipeline, kinds, fan, 2)} for name in names]}

    def _lists(self, pipeline: str, fan: Spec | None) -> Spec:
        lists: Spec = {}
        for name, kinds in LISTS.items():
            if self.maybe(0.6) and (name != "refineRecipeJobConfigs" or self._probes(pipeline)):
                lists[name] = self._jobs(pipeline, kinds, fan, 3)
        if not any(lists.values()):
            lists["probeJobConfigs"] = [self._job(pipeline, "ProbeViaAnalyzerHook", fan, [])]
        return lists

    def _jobs(self, pipeline: str, kinds: tuple[str, ...], fan: Spec | None, most: int) -> list[Spec]:
        names: list[str] = []
        return [self._job(pipeline, self.chance.choice(kinds), fan, names) for _ in range(self.chance.randint(0, most))]

    def _job(self, pipeline: str, hook: str, around: Spec | None, names: list[str]) -> Spec:
        """One job; `names` are those of its list so far."""
        name = f"{self.chance.choice(['probe', 'data', 'run'])}_{len(self.jobs)}"
        fan = self._for_each() if around is None and hook != "RefineRecipeViaKSigmaHook" and self.maybe(0.12) else None
        job: Spec = {"hook": hook, "metaName": name, **({"forEach": fan} if fan else {})}
        if hook == "RefineRecipeViaKSigmaHook":
            self._refine(job, pipeline)
        else:
            self._data(job, pipeline, fan or around, hook)
        if self.maybe(0.3):
            job["output"] = [f"out{number}" for number in range(self.chance.randint(1, len(HOOKS[hook].outputs)))]
        if names and self.maybe(0.25):
            job["dependsOn"] = self.chance.sample(names, self.chance.randint(0, min(2, len(names))))
        self._details(job)
        names.append(name)
        self.jobs.append(name)
        outputs = [*job.get("output", ()), *HOOKS[hook].outputs[len(job.get("output", ())) :]]
        dj = job.get("djConfigs")
        absent = set() if isinstance(dj, dict) and dj.get("export_original_dataset") else {"dataset"}
        for output, own in zip(outputs, HOOKS[hook].outputs, strict=True):
            if not (hook == "ProbeViaAnalyzerHook" and own in absent):
                self.known.append(Result(f"{pipeline}.{name}.{output}", hook, own, bool(fan or around)))
        self.last = (name, hook, outputs)
        return job

    def _probes(self, pipeline: str) -> list[str]:
        return [r.reference.split(".")[1] for r in self.known
                if r.hook == "ProbeViaAnalyzerHook" and r.reference.startswith(f"{pipeline}.")]  # fmt: skip

    def _refine(self, job: Spec, pipeline: str) -> None:
        job["probe"] = self.chance.choice(self._probes(pipeline))
        job["djConfigs"] = {"process": self._recipe()}
        if self.maybe(0.5):
            job["extraConfigs"] = {"path_k_sigma_recipe": f"outputs/refined_{len(self.jobs)}.yaml", "k": 2.5}

    def _data(self, job: Spec, pipeline: str, fan: Spec | None, hook: str) -> None:
        dj: Spec = {"dataset_path": "inputs/raw/demo.jsonl", "process": self._recipe()}
        inputs: dict[str, str] = {}
        datasets = [r for r in self.known if r.output == "dataset" and self._may_read(r, pipeline)]
        recipes = [r for r in self.known if r.output == "recipe" and self._may_read(r, pipeline)]
        if fan is not None and self.maybe(0.8):
            inputs["djConfigs.dataset_path"] = f"item.{fan['item']}"
        elif datasets and self.maybe(0.6):
            del dj["dataset_path"]
            inputs["djConfigs.dataset_path"] = self.chance.choice(datasets).reference
        if recipes and "djConfigs.dataset_path" not in inputs and self.maybe(0.5):
            inputs = {"djConfigs": self.chance.choice(recipes).reference}
        elif self.last and self.last[1] == "RefineRecipeViaKSigmaHook" and self.maybe(0.3):
            inputs = {"djConfigs": f"-1.{self.last[2][0]}"}
        elif self.maybe(0.1):
            dj = {"dataset_path": "inputs/raw/demo.jsonl"}
        if hook == "ProbeViaAnalyzerHook" and self.maybe(0.4):
            dj |= {"export_path": f"outputs/{job['metaName']}.jsonl", "export_original_dataset": True}
        elif self.maybe(0.3):
            dj["export_path"] = f"outputs/{job['metaName']}.jsonl"
        if "djConfigs" not in inputs:
            job["djConfigs"] = dj if self.maybe(0.93) or inputs else "inputs/raw/recipe.yaml"
        if inputs:
            job["input"] = inputs
        if self.maybe(0.15) and "djConfigs" not in inputs:
            job["local"] = {"djConfigs.np": self.chance.randint(1, 4)}

    def _may_read(self, result: Result, pipeline: str) -> bool:
        return not result.is_fanned or result.reference.startswith(f"{pipeline}.") or self.maybe(0.2)

    def _recipe(self) -> list[Any]:
        operators = catalogue()["operators"]
        names = [name for name in sorted(operators) if "default" in operators[name]["executors"]]
        return [
            {name: self._argument(operators[name])} if operators[name]["args"] and self.maybe(0.7) else {name: None}
            for name in self.chance.sample(names, self.chance.randint(0, 3))
        ]

    def _argument(self, operator: dict[str, Any]) -> dict[str, Any]:
        """One of an operator's, of the kind that it takes."""
        argument = self.chance.choice([*operator["args"]])
        kinds: dict[str, list[Any]] = {"whole": [1, 2], "numbers": [1, 0.5], "switches": [True, False]}
        values = next((kinds[kind] for kind in kinds if argument in operator.get(kind, ())), [1, 0.5, "en", True])
        return {argument: self.chance.choice(values)}

    def _details(self, job: Spec) -> None:
        if self.maybe(0.15):
            job["retry"] = {"user": self.chance.randint(0, 2), "infra": 1, "backoff": "1s"}
        if self.maybe(0.15):
            job["timeouts"] = {"active": "1h", "pending": self.chance.choice(["10m", "1h30m"])}
        if self.maybe(0.15):
            job["onFailure"] = self.chance.choice(["Fail", "Continue"])
        if self.maybe(0.1):
            job["resources"] = {"requests": {"memory": "1Gi"}, "limits": {"memory": "2Gi"}}
        if self.maybe(0.05):
            job["secrets"] = [{"env": "HF_TOKEN", "name": "hf", "key": "token"}]
        if self.maybe(0.1):
            job["resultsLost"] = "Fail"

    def _settings(self) -> Spec:
        singles = [r for r in self.known if not r.is_fanned]
        spec: Spec = {}
        for name, probability, value in (
            ("retry", 0.3, {"user": 1, "infra": 2, "preempted": 3, "backoff": "1s", "maxBackoff": "1m"}),
            ("timeouts", 0.2, {"pending": "10m", "result": "1m"}),
            ("cache", 0.3, self.chance.choice(["Auto", "Never"])),
            ("onFailure", 0.2, {"evaluation": "Continue"}),
            ("keepAttempts", 0.1, True),
            ("images", 0.1, {"data": "registry.example/other:2"}),
            ("ttlSecondsAfterFinished", 0.1, self.chance.choice([0, 60])),
            ("suspend", 0.1, True),
            ("suspendPolicy", 0.1, self.chance.choice(["Boundary", "Now"])),
            ("stop", 0.05, self.chance.choice(["Now", "AfterEvaluation"])),
            ("rerun", 0.1, {"token": "1"}),
            ("projectName", 0.2, "my project"),
        ):
            if self.maybe(probability):
                spec[name] = copy.deepcopy(value)
        figures = [r.reference.rsplit(".", 1)[0] for r in singles if r.hook == "ProbeViaAnalyzerHook"]
        if figures and self.maybe(0.25):
            spec["maxIterNum"] = self.chance.randint(2, 3)
            if self.maybe(0.7):
                spec["iterTargets"] = [f"{self.chance.choice(figures)}.rows >= {self.chance.choice([10, 1000])}"]
        if len(self.jobs) > 1 and self.maybe(0.1):
            spec["comparison"] = [{"before": self.jobs[0], "after": self.jobs[-1]}]
        return spec
