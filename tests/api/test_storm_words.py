# SPDX-License-Identifier: Apache-2.0
"""Hooks that say anything at all: what stands in a pod's termination message is foreign, whoever wrote it.

With SANDBOX_DEEP=1 more of them, resumable: see `progress.py`.
"""

from __future__ import annotations

import base64
import json
import random
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

from tests.api.journeys import SHARED, Journey
from tests.api.lab import probes
from tests.api.played import Behaviour, Pod, Table
from tests.api.storm import storm
from tests.api.warm import Nursery
from tests.api.wild import Wild
from tests.progress import DEEP, Say, in_pieces, long, told

from sandbox_api.contract import contract_digest
from sandbox_api.result import MESSAGE_PREFIX

STRANGE: list[Any] = [
    2**63, 2**64, 2**70, -(2**63) - 1, 10**400, 1e308, -0.0, float("nan"), float("inf"), "\ud800", "\u0000", "\x1b[2J\x07", "x" * 5000,
    [[[[[[[[[[]]]]]]]]]], {"": {"": {"": None}}}, {"a.b/c": [None, {}]}, [1] * 1000, True, None, "2026-01-31", "-1.x",
]  # fmt: skip


def packed(body: Any) -> str:
    """Any JSON in the form that a message has."""
    return MESSAGE_PREFIX + base64.b64encode(zlib.compress(json.dumps(body).encode(), 9)).decode()


def says(seed: str) -> Behaviour:
    """A pod that says something strange of itself: nearly right, or nothing like it."""
    chance = random.Random(seed)
    wild = Wild(chance)

    async def behave(pod: Pod) -> None:
        contract = pod.contract
        body: dict[str, Any] = {
            "version": 1, "job": contract.job.id, "attempt": contract.attempt, "podUid": pod.uid,
            "contract": contract_digest(contract), "path": f"{pod.folder}/result.json", "sha256": "0" * 64, "bytes": 1,
            "outcome": chance.choice(["Succeeded", "Succeeded", "Failed"]), "startedAt": pod.began, "finishedAt": pod.began,
            "message": chance.choice(["fine", "\x1b[31m\x00" * 50, "ü" * 3000]),
            "outputs": {name: chance.choice(STRANGE) for name in contract.outputs if chance.random() < 0.2},
            "metrics": {f"{contract.job.meta_name}.m{n}": chance.choice([1.5, 1e308, 2**70, -0.0]) for n in range(chance.randint(0, 40))},
        }  # fmt: skip
        for _ in range(chance.choice([0, 0, 1, 1, 2])):
            body[chance.choice([*sorted(body), "error", "pieces", "externals", "content"])] = chance.choice(
                [*STRANGE, wild.anything()]
            )
        text = packed(body)
        match chance.randrange(8):
            case 0:
                text = text[: chance.randrange(len(text))]
            case 1:
                text = MESSAGE_PREFIX + base64.b64encode(chance.randbytes(200)).decode()
            case 2:
                text = packed(wild.anything())
            case 3:
                text = chance.choice(
                    [
                        "",
                        "\x1b[2J" * 500,
                        MESSAGE_PREFIX,
                        "last sampled memory peak: 1 MiB of the limit 2 MiB",
                        "ü" * 4000,
                    ]
                )
        await pod.runs()
        code = 0 if chance.random() < 0.7 else chance.choice([1, 2, 3, 4, 137, 143, 255, -1])
        await pod.ends(code, text.encode("utf-8", "replace").decode(), chance.choice(["", "", "OOMKilled", "Unknown"]))

    return behave


@long
async def test_whatever_hooks_say_the_process_makes_no_mistake(
    nursery: Nursery, tmp_path: Path, say: Say, counts: Say
) -> None:
    """What counts is taken, what does not is a failure with words; each experiment ends, and others are not held up."""

    async def piece(seed: int) -> Counter[str]:
        spec = probes("a", claim_name=SHARED, timeouts={"result": "1s"}, retry={"backoff": "1s", "infra": 1})
        async with storm(nursery, tmp_path) as it:
            it.witness.trusts_hooks = False
            it.operator.start()
            for number in range(60 if DEEP else 30):
                table: Table = {(hook,): says(f"{seed}/{number}/{hook}") for hook in "ab"}
                await it.feed(Journey(f"said-{number}", spec, table))
            await it.finished()
            return Counter(str(end["outcome"]) for end in it.ends().values())

    found = await in_pieces("strange words", range(50 if DEEP else 1), piece, say=say, deep=DEEP, at_once=2)
    counts(f"hooks that say strange things: {told(found)}")
    assert found["Succeeded"] > 0
    assert found["Failed"] > 0
