# SPDX-License-Identifier: Apache-2.0
"""How often statuses that decide nothing are written, on a clock that only moves when nobody has anything to do."""

import asyncio

from tests.unit.instant import now, on_clock

from sandbox_operator.kube.informer import Key
from sandbox_operator.reconcile.pace import AT_ONCE, LONGEST, WRITES_A_SECOND, Pace


class Tellers:
    """Experiments that all have something to tell, and tell it when they are woken."""

    def __init__(self) -> None:
        self.pace = Pace(self.look_at)
        self.told: dict[Key, float] = {}

    def look_at(self, key: Key) -> None:
        if self.pace.may_write(key):
            self.told[key] = now()


def keys(count: int, letter: str = "a") -> list[Key]:
    return [("lab", f"{letter}-{number:04d}") for number in range(count)]


@on_clock
async def test_a_few_are_told_at_once() -> None:
    tellers = Tellers()
    await asyncio.sleep(60)
    for key in keys(int(AT_ONCE)):
        tellers.look_at(key)
    assert set(tellers.told.values()) == {now()}
    assert len(tellers.told) == AT_ONCE


@on_clock
async def test_a_thousand_take_turns_in_the_order_in_which_they_came() -> None:
    tellers, begin = Tellers(), now()
    for key in keys(1000):
        tellers.look_at(key)
    await asyncio.sleep(1000)
    assert list(tellers.told) == keys(1000)
    for second in range(90):
        told = sum(begin + second <= time < begin + second + 1 for time in tellers.told.values())
        assert told <= WRITES_A_SECOND + (AT_ONCE if second == 0 else 0)
    assert max(tellers.told.values()) - begin <= 1000 / WRITES_A_SECOND


@on_clock
async def test_who_has_nothing_to_tell_any_more_takes_nobodys_turn() -> None:
    tellers, begin = Tellers(), now()
    crowd, late = keys(1000), keys(5, "late")
    for key in [*crowd, *late]:
        tellers.look_at(key)
    for key in crowd:
        tellers.pace.forget(key)
    await asyncio.sleep(5)
    assert set(late) <= set(tellers.told)
    assert max(tellers.told[key] for key in late) - begin <= 5 / WRITES_A_SECOND + 1


@on_clock
async def test_who_is_looked_at_before_its_turn_keeps_its_place() -> None:
    tellers = Tellers()
    for key in keys(100):
        tellers.look_at(key)
    for _ in range(50):
        tellers.look_at(keys(100)[99])
    await asyncio.sleep(100)
    assert list(tellers.told) == keys(100)


@on_clock
async def test_while_much_is_decided_only_who_has_waited_long_is_told() -> None:
    tellers, begin = Tellers(), now()
    tellers.pace.decided()
    for key in keys(100):
        tellers.look_at(key)
    for _ in range(2000):  # a hundred seconds of decisions
        tellers.pace.decided()
        await asyncio.sleep(0.05)
    at_first = [time for time in tellers.told.values() if time - begin < LONGEST]
    assert len(at_first) <= AT_ONCE
    assert len(tellers.told) - len(at_first) == 1
    await asyncio.sleep(100 / WRITES_A_SECOND)
    assert len(tellers.told) == 100


@on_clock
async def test_a_few_decisions_hold_nobody_up() -> None:
    tellers = Tellers()
    for key in keys(20):
        tellers.look_at(key)
    for _ in range(20):
        tellers.pace.decided()
        await asyncio.sleep(1)
    assert len(tellers.told) == 20
