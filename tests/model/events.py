# SPDX-License-Identifier: Apache-2.0
"""What may happen in the cluster of the model, and to whom."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st
from tests.model.kube_model import CLAIM, Kube, job_name_in, keys_of, pod_uid
from tests.model.specs import Undisturbed

from sandbox_api.result import EXIT_CODES
from sandbox_operator.plan.facts import CacheEntry

CLASSES = sorted(EXIT_CODES)
USUAL = (
    "pod_is_made", "hook_starts", "hook_succeeds", "check_ends", "merge_ends", "job_says_how_it_ended",
    "neighbour_ends",
)  # fmt: skip


class Events:
    """Each is a method of a name out of `possible`; `data` draws how it goes."""

    kube: Kube
    undisturbed: Undisturbed
    may_delete_claim: bool
    """Somebody does so once in some examples: there is little to see after it."""

    @property
    def possible(self) -> dict[str, list[str]]:
        """What may happen next, and to which Jobs or pods (by their Job's name)."""
        kube = self.kube
        live = kube.live_pods
        hooks = [name for name in live if kube.task_of(name) == "run"]
        return {
            "pod_is_made": kube.podless,
            "hook_starts": [name for name in live if kube.pods[name].hook.running_since is None],
            "hook_succeeds": hooks,
            "hook_fails": hooks,
            "hook_ends_without_a_word": hooks,
            "hook_misses_an_input": hooks,
            "reader_ends": [name for name in live if kube.task_of(name) == "read"],
            "check_ends": [name for name in live if kube.task_of(name) == "check"],
            "merge_ends": [name for name in live if kube.task_of(name) == "merge"],
            "job_counts_its_pods": [name for name in kube.open_jobs if kube.jobs[name].size > 1],
            "job_says_how_it_ended": kube.to_be_told,
            "pod_is_deleted": sorted(kube.pods),
            "job_is_deleted": sorted(kube.jobs),
            "deadline_passes": kube.open_jobs,
            "node_is_lost": live,
            "neighbour_ends": sorted(kube.running_keys),
            "neighbour_loses_a_result": sorted(kube.cached),
            "claim_is_deleted": [CLAIM] if self.may_delete_claim and kube.can_begin else [],
            "claim_goes": [CLAIM] if kube.claim_may_go else [],
        }

    def pod_is_made(self, name: str, _: st.DataObject) -> None:
        self.kube.make_pod(name)

    def hook_starts(self, name: str, _: st.DataObject) -> None:
        self.kube.begin(name)

    def hook_succeeds(self, name: str, data: st.DataObject) -> None:
        content = data.draw(st.sampled_from(["as before", "as before", "another"]), label="content")
        more = {} if content == "as before" else {"content": f"content of {name}"}
        self.kube.succeed(name, **more)

    def hook_fails(self, name: str, data: st.DataObject) -> None:
        error = data.draw(st.sampled_from(CLASSES), label="class")
        said = data.draw(st.sampled_from(["", error, None]), label="said")  # None: killed after it wrote a success
        deleting = data.draw(st.booleans(), label="deleting")
        message = said if said == "" else self.kube.message(name, said)
        self.kube.end(name, EXIT_CODES[error], message, deleting=deleting)

    def hook_misses_an_input(self, name: str, data: st.DataObject) -> None:
        """A result that it reads has gone from the volume, or was changed."""
        others = sorted(job.id for job in self.kube.stored.status.jobs if job.result is not None) or ["nobody"]
        lost = data.draw(st.sampled_from([*others, "nobody"]), label="lost")
        self.kube.end(name, EXIT_CODES["Input"], self.kube.message(name, "Input", lost))

    def hook_ends_without_a_word(self, name: str, data: st.DataObject) -> None:
        """Or with the words of another pod. Its result may lie on the volume all the same."""
        words = data.draw(st.sampled_from(["", "another pod", "another attempt"]), label="words")
        if data.draw(st.booleans(), label="has succeeded"):
            self.kube.has_succeeded(name)
        attempt = self.kube.job_of(name).attempt
        about: dict[str, Any] = {"another pod": {"pod_uid": "other"}, "another attempt": {"attempt": attempt + 1}}.get(
            words, {}
        )
        self.kube.end(name, 0, self.kube.message(name, outputs={"of": "other"}, **about) if about else "")

    def reader_ends(self, name: str, data: st.DataObject) -> None:
        """It finds what the attempt has really left, or fails for a reason of its own."""
        job = self.kube.job_of(name)
        hook = name.removesuffix("-read")
        left = [[pod_uid(made, key) for key in keys_of(made)] for made in self.kube.made if made.name == hook]
        found = [uids[0] for uids in left if self.kube.on_volume.issuperset(uids)]
        if found and data.draw(st.sampled_from([True, True, False]), label="finds it"):
            outputs = self.kube.outputs_of(job, found[-1])
            self.kube.end(name, 0, self.kube.message(name, outputs=outputs, attempt=job.attempt))
        else:
            self.kube.end(name, 4, self.kube.message(name, "Infra"))

    def job_says_how_it_ended(self, name: str, _: st.DataObject) -> None:
        self.kube.tell_how_it_ended(name)

    def pod_is_deleted(self, name: str, data: st.DataObject) -> None:
        """A live one fails its Job, which says so at once or a moment later."""
        kube, job_name = self.kube, job_name_in(name)
        kube.count(job_name)
        was_over = kube.pods.pop(name).is_over
        job = kube.jobs.get(job_name)
        at_once = data.draw(st.booleans(), label="at once")
        if job is None or job.complete or not (was_over or at_once):
            return
        if job.size == 1:
            kube.jobs[job_name] = replace(job, failed=job.failed or "BackoffLimitExceeded")
        elif job_name in kube.to_be_told:
            kube.tell_how_it_ended(job_name)
        else:
            kube.count(job_name)

    def job_counts_its_pods(self, name: str, _: st.DataObject) -> None:
        """It does so now and then, its condition comes later."""
        self.kube.count(name)

    def merge_ends(self, name: str, data: st.DataObject) -> None:
        """It finds what there is on the volume, or fails for a reason of its own, or nobody hears of it."""
        if data.draw(st.sampled_from([True, True, False]), label="can look"):
            self.kube.merge(name)
        elif data.draw(st.booleans(), label="says nothing"):
            self.kube.end(name, 0)
        else:
            self.kube.end(name, 4, self.kube.message(name, "Infra"))

    def job_is_deleted(self, name: str, data: st.DataObject) -> None:
        self.kube.vanished.add(self.kube.jobs.pop(name).uid)
        self.kube.tell_to_go(name, stays=data.draw(st.booleans(), label="pod stays"))

    def deadline_passes(self, name: str, data: st.DataObject) -> None:
        self.kube.jobs[name] = replace(self.kube.jobs[name], failed="DeadlineExceeded")
        self.kube.tell_to_go(name, stays=data.draw(st.booleans(), label="pod stays"))

    def node_is_lost(self, name: str, data: st.DataObject) -> None:
        """Its pod is told to go and says nothing more; after `nodeLost` nothing of it can matter."""
        self.kube.lose_node(name)
        if data.draw(st.booleans(), label="for long"):
            self.kube.pass_time(130)

    def check_ends(self, name: str, data: st.DataObject) -> None:
        """What a cached result was made of is as it was, or has changed, or nobody can tell."""
        error = data.draw(st.sampled_from([None, None, "Input", "Infra"]), label="finds")
        if error is None:
            self.kube.confirm(name)
        else:
            self.kube.end(name, EXIT_CODES[error], self.kube.message(name, error))

    def neighbour_ends(self, key: str, data: st.DataObject) -> None:
        """The equal job of another experiment, for which one of ours may wait."""
        del self.kube.running_keys[key]
        if data.draw(st.booleans(), label="has a result"):
            self.cache_has(key, externals=data.draw(st.integers(0, 1), label="externals"))

    def neighbour_loses_a_result(self, key: str, _: st.DataObject) -> None:
        """It is run again, or deleted."""
        del self.kube.cached[key]

    def claim_is_deleted(self, _: str, __: st.DataObject) -> None:
        self.may_delete_claim = False
        self.kube.delete_claim()

    def claim_goes(self, _: str, __: st.DataObject) -> None:
        self.kube.lose_claim()

    # What other experiments have done

    def cache_has(self, key: str, externals: int) -> None:
        done = self.undisturbed.done[key]
        assert done.result is not None
        result = done.result.model_copy(update={"externals": externals})
        self.kube.cached[key] = CacheEntry("neighbour", done.model_copy(update={"result": result}))
