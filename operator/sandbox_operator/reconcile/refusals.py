# SPDX-License-Identifier: Apache-2.0
"""What the API server will not have, so that the next plan can say it. Forgotten by a restart, then heard again."""

from __future__ import annotations

from ..plan.facts import Refusal, Snapshot
from ..plan.sweep_facts import SweepSnapshot

Whose = tuple[str, str, str]
"""Kind, namespace and name of an experiment or a sweep."""


class Refusals:
    def __init__(self) -> None:
        self._by: dict[Whose, tuple[tuple[str, int], dict[str, Refusal]]] = {}
        """By experiment or sweep, with the uid and generation that were refused: another spec is asked for anew."""

    def of(self, whose: Whose, what: tuple[str, int]) -> dict[str, Refusal]:
        """By name, what the API server will not have for this uid and generation."""
        known, refusals = self._by.get(whose, (None, {}))
        return dict(refusals) if known == what else {}

    def refused(self, snapshot: Snapshot | SweepSnapshot, name: str, refusal: Refusal) -> None:
        """Remember that the API server will not have an object of that name."""
        whose, what = _whose(snapshot), (snapshot.uid, snapshot.generation)
        self._by[whose] = what, {**self.of(whose, what), name: refusal}

    def made(self, snapshot: Snapshot | SweepSnapshot, name: str) -> None:
        """Forget a refusal: the object is there."""
        whose, what = _whose(snapshot), (snapshot.uid, snapshot.generation)
        left = {other: refusal for other, refusal in self.of(whose, what).items() if other != name}
        if left:
            self._by[whose] = what, left
        else:
            self._by.pop(whose, None)

    def forget(self, whose: Whose) -> None:
        """It has gone."""
        self._by.pop(whose, None)


def _whose(snapshot: Snapshot | SweepSnapshot) -> Whose:
    return snapshot.kind, snapshot.namespace, snapshot.name
