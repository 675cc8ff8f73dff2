# SPDX-License-Identifier: Apache-2.0
"""The memory that a hook uses, told so that it outlives a kill."""

import json
from pathlib import Path

import pytest
from tests.hook_pod import HookPod, job_contract

from sandbox_api.peak import is_peak_text, peak_text
from sandbox_api.result import decode_message
from sandbox_runtime.cgroup import Memory
from sandbox_runtime.logs import Events, last_peak
from sandbox_runtime.sampling import PeakSampler

MIB = 2**20


class Kernel:
    """A memory cgroup as the kernel shows it, of either version."""

    def __init__(self, base: Path, version: str) -> None:
        self.version = version
        self.root = base / "cgroup"
        self.membership = base / "membership"
        if version == "v2":
            self.own = self.root
            self.root.mkdir()
            (self.root / "cgroup.controllers").write_text("cpu memory\n")
            (self.root / "memory.events").write_text("oom_kill 0\n")
            self.membership.write_text("0::/\n")
        else:
            self.own = self.root / "memory"
            self.own.mkdir(parents=True)
            (self.own / "memory.oom_control").write_text("oom_kill 0\n")
            self.membership.write_text("4:memory:/\n")

    def set(self, used: int, *, cached: int = 0, limit: int | None = 512 * MIB) -> None:
        names = ("memory.current", "memory.max", "inactive_file", "max")
        if self.version == "v1":
            names = ("memory.usage_in_bytes", "memory.limit_in_bytes", "total_inactive_file", "9223372036854771712")
        (self.own / names[0]).write_text(f"{used}\n")
        (self.own / names[1]).write_text(f"{limit or names[3]}\n")
        (self.own / "memory.stat").write_text(f"anon 1\n{names[2]} {cached}\nactive_file 5\n")

    def memory(self) -> Memory:
        return Memory(self.root, self.membership)


@pytest.fixture(params=["v1", "v2"])
def kernel(request: pytest.FixtureRequest, tmp_path: Path) -> Kernel:
    return Kernel(tmp_path, request.param)


def sampler(kernel: Kernel, base: Path) -> PeakSampler:
    return PeakSampler(kernel.memory(), Events(base / "events.jsonl"), base / "termination-log")


def test_a_peak_near_the_limit_stands_in_the_termination_message(kernel: Kernel, tmp_path: Path) -> None:
    kernel.set(100 * MIB)
    found = sampler(kernel, tmp_path)
    found.sample()
    assert not (tmp_path / "termination-log").exists()

    kernel.set(600 * MIB, cached=100 * MIB)
    found.sample()
    kernel.set(200 * MIB)
    found.sample()

    text = (tmp_path / "termination-log").read_text()
    assert text == "last sampled memory peak: 500 MiB of the limit 512 MiB"
    assert is_peak_text(text)
    assert decode_message(text) is None
    assert found.peak == 500 * MIB
    assert last_peak(tmp_path / "events.jsonl") == text


def test_a_peak_is_told_again_only_when_it_has_grown(kernel: Kernel, tmp_path: Path) -> None:
    kernel.set(0)
    found = sampler(kernel, tmp_path)
    for used in range(0, 513, 2):
        kernel.set(used * MIB)
        found.sample()

    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert len(events) == 16
    assert events[-1]["peak"] == found.peak == 512 * MIB


def test_without_a_limit_of_its_own_nothing_is_sampled(kernel: Kernel, tmp_path: Path) -> None:
    kernel.set(100 * MIB, limit=None)
    found = sampler(kernel, tmp_path)
    found.sample()

    assert found.peak is None
    assert not (tmp_path / "events.jsonl").exists()


@pytest.mark.parametrize("text", ["", "last sampled memory peak: much", "sandbox1:abc", "x " + peak_text(1, 2)])
def test_other_words_are_no_sample(text: str) -> None:
    assert not is_peak_text(text)


def test_the_next_attempt_says_what_the_killed_one_had_used(tmp_path: Path) -> None:
    pod = HookPod(tmp_path)
    killed = pod.run(job_contract(extra={"do": "kill"}))
    Events(killed.folder / "events.jsonl").add("memory", words=peak_text(511 * MIB, 512 * MIB))

    ended = pod.run(job_contract(extra={"do": "write"}, attempt=2))

    assert ended.code == 0
    assert "an attempt before this one has left no result: " in ended.log
    assert "(last sampled memory peak: 511 MiB of the limit 512 MiB)" in ended.log
