# SPDX-License-Identifier: Apache-2.0
"""At which rungs early stopping looks at a trial, and what is wrong with a definition that has none."""

from __future__ import annotations

from .sweep import EarlyTerminate

MAX_RUNGS = 64
_LAST = 2**53


def rungs_of(early: EarlyTerminate) -> tuple[int, ...]:
    """The rungs, rising, at most 64; empty where `stopping_problems` has something to say.

    As W&B's library takes the keys: with max_iter and s they are max_iter/eta, max_iter/eta^2, ... (s of them, those
    from 1), cut to integers; else min_iter, min_iter*eta, ..., here below max_iter where that is given.
    """
    if early.max_iter is not None and early.s is not None:
        bands: list[int] = []
        band = float(early.max_iter)
        for _ in range(early.s):
            band /= early.eta
            if band < 1:
                break
            bands.append(int(band))
        return tuple(sorted(set(bands)))
    if early.min_iter is None:
        return ()
    rungs: list[int] = []
    at = float(early.min_iter)
    end = early.max_iter or _LAST
    while at < end and len(rungs) < MAX_RUNGS:
        if not rungs or int(at) > rungs[-1]:
            rungs.append(int(at))
        at *= early.eta
    return tuple(rungs)


def stopping_problems(early: EarlyTerminate, where: str) -> tuple[str, ...]:
    """A sentence where no rung comes of it."""
    if rungs_of(early):
        return ()
    if early.max_iter is not None and early.s is not None:
        return (
            f"{where}: no rung lies between 1 and max_iter {early.max_iter}; raise max_iter or lower eta {early.eta:g}",
        )
    if early.min_iter is not None:
        return (f"{where}.max_iter: must be more than min_iter {early.min_iter}, which is the first rung",)
    return (f"{where}: does not say where the rungs are; give min_iter, or max_iter and s",)
