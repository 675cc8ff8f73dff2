# SPDX-License-Identifier: Apache-2.0
"""Any order of events, lateness, crashes, commands and restarts ends in the same place.

A small model of a cluster (`kube_model.py`, `events.py`) is driven by Hypothesis (`machine.py`) while the planner looks at
it: late, twice, or after a crash between any two of its own calls; calls fail before or after they are carried out; nodes
fall silent; somebody deletes the claim; other experiments have done the same; people suspend, resume, stop and run again
as they please. What the model knows and the planner does not is which attempts live and what each hook returned;
`invariants.py` is about that.

500 examples in the sample; 20 000, of more steps, with SANDBOX_DEEP=1, resumable (`progress.py`). They are drawn by seed: a
failure names the seed, and SANDBOX_MODEL_SEED repeats that piece alone.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from tests.model.machine import COUNTS, TROUBLES, ExperimentMachine
from tests.progress import DEEP, HOURS, Say, in_pieces, told

EACH = 100
"""Examples in a piece."""
EXAMPLES = int(os.environ.get("SANDBOX_MODEL_EXAMPLES", 20_000 if DEEP else 500))
HAPPENED = (
    *TROUBLES.values(), "attempts given up with their node", "cached", "given up with the budget used up",
    "ends that are the undisturbed ones", "deletes answered with 404",
    "troubles at the fourth call of a round or later", "claims lost with the results on them",
)  # fmt: skip
"""What a proof that never saw it would not be worth much without."""
ONLY = os.environ.get("SANDBOX_MODEL_SEED")


def gone_through(number: int) -> Counter[str]:
    """The examples of one seed."""
    COUNTS.clear()
    run_state_machine_as_test(
        seed(number)(ExperimentMachine),
        settings=settings(
            max_examples=EACH,
            stateful_step_count=80 if DEEP else 50,
            deadline=None,
            database=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
    return Counter(COUNTS)


@pytest.mark.timeout(HOURS * 3600 if DEEP else 900)
async def test_any_order_of_events_ends_in_the_same_place(say: Say, counts: Say) -> None:
    async def piece(number: int) -> Counter[str]:
        return gone_through(number)

    seeds = range(-(-EXAMPLES // EACH)) if ONLY is None else [int(ONLY)]
    found = await in_pieces("model", seeds, piece, say=say, deep=DEEP and ONLY is None, at_once=1, tests="tests/model")
    counts(f"model of the planner: {told(found)}; no invariant was broken")
    assert found["examples"] >= len(seeds) * EACH
    if len(seeds) >= 5:
        assert [what for what in HAPPENED if not found[what]] == []
