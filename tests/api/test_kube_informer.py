# SPDX-License-Identifier: Apache-2.0
"""The informer through all that happens to a watch in a cluster's life, against the fake API server."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

import pytest
from tests.api.fakeapi import FakeAPI
from tests.api.waiting import eventually

from sandbox_operator.kube.client import Client, Manifest
from sandbox_operator.kube.config import Connection
from sandbox_operator.kube.informer import Informer, Key
from sandbox_operator.kube.resources import Resource

PODS = Resource("", "v1", "pods", "Pod")


class Pod(NamedTuple):
    """The projection: what these tests care about in a pod."""

    name: str
    owner: str | None
    size: int


def project(body: Manifest) -> Pod | None:
    labels = body["metadata"].get("labels", {})
    if labels.get("ignored"):
        return None
    return Pod(body["metadata"]["name"], labels.get("owner"), body["spec"]["size"])


@pytest.fixture
async def api() -> AsyncIterator[FakeAPI]:
    async with FakeAPI() as server:
        yield server


@pytest.fixture
async def client(api: FakeAPI) -> AsyncIterator[Client]:
    async with Client(Connection(api.url), field_manager="tester") as opened:
        yield opened


class Watched(NamedTuple):
    informer: Informer[Pod]
    changes: list[tuple[str, int | None, int | None]]
    """(name, old size, new size) as `on_change` was told."""

    def sizes(self) -> dict[str, int]:
        return {name: pod.size for (_, name), pod in self.informer.store.items()}


@asynccontextmanager
async def watching(client: Client, **options: Any) -> AsyncIterator[Watched]:
    """An informer that runs, synced, and still runs at the end."""
    changes: list[tuple[str, int | None, int | None]] = []

    def on_change(key: Key, old: Pod | None, new: Pod | None) -> None:
        changes.append((key[1], old.size if old else None, new.size if new else None))

    options = {"idle_seconds": 0.5, **options}
    informer: Informer[Pod] = Informer(
        client, PODS, project=project, on_change=on_change, group_by=lambda pod: pod.owner, **options
    )
    task = asyncio.create_task(informer.run())
    try:
        await asyncio.wait_for(informer.synced.wait(), 20)
        yield Watched(informer, changes)
        assert not task.done(), task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def pod(name: str, size: int = 1, **labels: str) -> Manifest:
    return {"metadata": {"name": name, "namespace": "lab", "labels": labels}, "spec": {"size": size}}


def put(api: FakeAPI, *pods: Manifest) -> None:
    for body in pods:
        api.put("", "pods", body)


async def test_it_knows_what_is_there_page_by_page_and_follows_what_changes(client: Client, api: FakeAPI) -> None:
    put(api, *(pod(f"p{number}") for number in range(7)))
    async with watching(client, page_size=3) as seen:
        assert len(seen.informer.store) == 7
        assert client.counts["list", "pods"] == 3
        assert [change[0] for change in seen.changes] == [f"p{number}" for number in range(7)]
        seen.changes.clear()
        put(api, pod("p1", 5), pod("new"))
        api.remove("", "pods", "lab", "p2")
        await eventually(lambda: len(seen.changes) == 3)
        assert seen.changes == [("p1", 1, 5), ("new", None, 1), ("p2", 1, None)]
        assert "p2" not in seen.sizes()
        assert seen.sizes()["p1"] == 5


async def test_only_what_is_selected_is_kept_and_what_is_no_longer_selected_goes(client: Client, api: FakeAPI) -> None:
    put(api, pod("mine", team="a"), pod("other", team="b"), pod("odd", team="a", ignored="yes"))
    async with watching(client, namespace="lab", label_selector="team=a") as seen:
        assert seen.sizes() == {"mine": 1}
        put(api, pod("odd", team="a"))
        await eventually(lambda: seen.sizes() == {"mine": 1, "odd": 1})
        put(api, pod("odd", team="a", ignored="yes"), pod("mine", team="b"))
        await eventually(lambda: seen.sizes() == {})


async def test_an_event_that_changes_nothing_of_the_projection_calls_nobody(client: Client, api: FakeAPI) -> None:
    async with watching(client) as seen:
        put(api, pod("a"), pod("a", 1, unseen="1"), pod("a", 1, unseen="2"), pod("a", 2))
        await eventually(lambda: seen.sizes() == {"a": 2})
        assert seen.changes == [("a", None, 1), ("a", 1, 2)]


async def test_groups_follow_their_members(client: Client, api: FakeAPI) -> None:
    put(api, pod("a", owner="x"), pod("b", owner="x"), pod("c"))
    async with watching(client) as seen:
        assert sorted(member.name for member in seen.informer.group("x")) == ["a", "b"]
        put(api, pod("a", owner="y"))
        api.remove("", "pods", "lab", "b")
        await eventually(lambda: len(seen.changes) == 5)
        assert seen.informer.group("x") == []
        assert [member.name for member in seen.informer.group("y")] == ["a"]
        seen.informer.expect(("lab", "d"), Pod("d", "y", 1), str(api.version + 50))
        assert sorted(member.name for member in seen.informer.group("y")) == ["a", "d"]


async def test_what_vanished_while_history_was_lost_is_reported_as_deleted(client: Client, api: FakeAPI) -> None:
    put(api, pod("stays"), pod("goes"))
    async with watching(client) as seen:
        seen.changes.clear()
        api.vanish("", "pods", "lab", "goes")
        put(api, pod("comes"))
        await eventually(lambda: seen.sizes() == {"stays": 1, "comes": 1})
        assert sorted(seen.changes) == [("comes", None, 1), ("goes", 1, None)]
        assert client.counts["watch", "pods"] == 2, "one 410 was enough to list again"


async def test_a_silent_stream_is_left_for_one_that_speaks(client: Client, api: FakeAPI) -> None:
    async with watching(client) as seen:
        await eventually(lambda: api.watchers == 1)
        api.stall()
        put(api, pod("a"))
        watches = client.counts["watch", "pods"]
        await eventually(lambda: client.counts["watch", "pods"] > watches)
        assert seen.informer.last_error is not None
        assert "no answer" in seen.informer.last_error
        assert seen.sizes() == {}
        api.stall(False)
        await eventually(lambda: seen.sizes() == {"a": 1})
        assert seen.informer.last_error is None


async def test_streams_that_break_after_every_event_lose_none_and_repeat_none(client: Client, api: FakeAPI) -> None:
    async with watching(client) as seen:
        api.break_after(1)
        put(api, *(pod("a", size) for size in range(1, 6)))
        await eventually(lambda: seen.sizes() == {"a": 5})
        assert seen.changes == [("a", None, 1), ("a", 1, 2), ("a", 2, 3), ("a", 3, 4), ("a", 4, 5)]
        assert client.counts["list", "pods"] == 1, "a broken stream goes on where it broke"


async def test_a_server_that_refuses_watches_and_lists_for_a_while_is_waited_for(client: Client, api: FakeAPI) -> None:
    async with watching(client) as seen:
        api.fail("watch", 500, times=2)
        api.fail("watch", 403, times=1)
        api.fail("list", 404, times=1)
        api.break_after(1)
        put(api, pod("a"))
        await eventually(lambda: seen.sizes() == {"a": 1})
        api.break_after(None)
        put(api, pod("b"))
        await eventually(lambda: seen.sizes() == {"a": 1, "b": 1})


async def test_watches_that_keep_failing_lead_to_a_new_list(client: Client, api: FakeAPI) -> None:
    """A server restored from a backup refuses our version for ever; its list is right, its versions lower."""
    put(api, pod("a", 7))
    async with watching(client) as seen:
        api.version = 10
        api.oldest = 0
        api.history.clear()
        restored = pod("a", 3)
        restored["metadata"]["resourceVersion"] = "9"
        api.objects["", "pods"]["lab", "a"] = restored
        api.fail("watch", 504, times=3)
        api.break_after(1)
        put(api, pod("other"))
        await eventually(lambda: seen.sizes() == {"a": 3, "other": 1})


async def test_a_server_that_went_away_and_came_back_empty_leaves_no_ghosts() -> None:
    first = FakeAPI()
    await first.start()
    port = int(first.url.rpartition(":")[2])
    put(first, pod("ghost"), pod("kept"))
    async with Client(Connection(first.url), field_manager="tester") as client, watching(client) as seen:
        await first.__aexit__()
        second = FakeAPI()
        second.version = second.oldest = 5000
        put(second, pod("kept", 2))
        await second.start(port)
        await eventually(lambda: seen.sizes() == {"kept": 2})
        assert ("ghost", 1, None) in seen.changes
        await second.__aexit__()


async def test_what_was_just_written_is_known_at_once_and_older_echoes_do_not_take_it_back(
    client: Client, api: FakeAPI
) -> None:
    async with watching(client) as seen:
        api.delay_echoes(0.3)
        await client.create(PODS, pod("a", 1), "lab")
        written = await client.patch(PODS, "a", {"spec": {"size": 2}}, "lab")
        seen.informer.expect(("lab", "a"), Pod("a", None, 2), written["metadata"]["resourceVersion"])
        assert seen.sizes() == {"a": 2}
        await client.patch(PODS, "a", {"spec": {"size": 3}}, "lab")
        await eventually(lambda: seen.sizes() == {"a": 3})
        assert seen.changes == [("a", 2, 3)], "neither the old state nor our own write came as news"


async def test_a_late_deletion_does_not_take_away_the_successor_of_the_same_name(client: Client, api: FakeAPI) -> None:
    put(api, pod("a", 1))
    async with watching(client) as seen:
        seen.changes.clear()
        api.delay_echoes(0.3)
        await client.delete(PODS, "a", "lab")
        created = await client.create(PODS, pod("a", 2), "lab")
        seen.informer.expect(("lab", "a"), Pod("a", None, 2), created["metadata"]["resourceVersion"])
        put(api, pod("marker"))
        await eventually(lambda: "marker" in seen.sizes())
        assert seen.sizes()["a"] == 2
        assert seen.changes == [("marker", None, 1)]


async def test_what_has_gone_is_not_brought_back_by_an_answer_that_was_under_way(client: Client, api: FakeAPI) -> None:
    async with watching(client) as seen:
        put(api, pod("a"), pod("b"))
        version = str(api.version)
        await eventually(lambda: len(seen.sizes()) == 2)
        api.remove("", "pods", "lab", "a")
        await eventually(lambda: seen.sizes() == {"b": 1})
        seen.informer.expect(("lab", "a"), Pod("a", None, 1), version)
        assert seen.sizes() == {"b": 1}
        api.vanish("", "pods", "lab", "b")
        api.forget_history()
        await eventually(lambda: seen.sizes() == {})
        seen.informer.expect(("lab", "b"), Pod("b", None, 1), version)
        assert seen.sizes() == {}
        put(api, pod("a", 4))
        await eventually(lambda: seen.sizes() == {"a": 4})


async def test_what_is_written_while_the_list_is_made_survives_it(client: Client, api: FakeAPI) -> None:
    """Names sort so that the new object falls on a page that was already read."""
    put(api, *(pod(f"p{number}") for number in range(4)))
    seen_pages: list[str] = []
    informer: Informer[Pod]

    def project_and_write(body: Manifest) -> Pod | None:
        seen_pages.append(body["metadata"]["name"])
        if body["metadata"]["name"] == "p3" and "a" not in seen_pages:
            stored = api.put("", "pods", pod("a", 9))
            informer.expect(("lab", "a"), Pod("a", None, 9), stored["metadata"]["resourceVersion"])
        return project(body)

    informer = Informer(client, PODS, project=project_and_write, on_change=lambda *_: None, page_size=2)
    task = asyncio.create_task(informer.run())
    await asyncio.wait_for(informer.synced.wait(), 20)
    assert {name for _, name in informer.store} == {"a", "p0", "p1", "p2", "p3"}
    task.cancel()


async def test_an_object_that_cannot_be_read_blinds_us_to_nothing_else(
    client: Client, api: FakeAPI, caplog: pytest.LogCaptureFixture
) -> None:
    put(api, pod("good"), {"metadata": {"name": "broken-from-the-start", "namespace": "lab"}})
    async with watching(client) as seen:
        assert seen.sizes() == {"good": 1}
        assert "Pod lab/broken-from-the-start can't be read" in caplog.text
        put(api, {"metadata": {"name": "good", "namespace": "lab"}, "spec": {"nonsense": True}})
        put(api, pod("next"))
        await eventually(lambda: "next" in seen.sizes())
        assert seen.sizes() == {"good": 1, "next": 1}, "the last good view stays: it has not been deleted"
        api.forget_history()
        put(api, pod("later"))
        await eventually(lambda: "later" in seen.sizes())
        assert seen.sizes() == {"good": 1, "next": 1, "later": 1}


async def test_events_that_are_no_objects_are_skipped(
    client: Client, api: FakeAPI, caplog: pytest.LogCaptureFixture
) -> None:
    async with watching(client) as seen:
        bodiless = api.put("", "pods", pod("a"))
        api.history[-1].object["metadata"] = {
            "namespace": "lab",
            "resourceVersion": bodiless["metadata"]["resourceVersion"],
        }
        put(api, pod("b"))
        await eventually(lambda: "b" in seen.sizes())
        assert seen.sizes() == {"b": 1}
        assert "skipping what is no object" in caplog.text


async def test_an_error_in_on_change_is_not_hidden(client: Client, api: FakeAPI) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    put(api, pod("a"))
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(Informer(client, PODS, project=project, on_change=fail).run(), 20)


async def test_last_activity_moves_with_bookmarks_alone_and_stops_with_the_server(client: Client, api: FakeAPI) -> None:
    async with watching(client) as seen:
        first = seen.informer.last_activity
        assert first is not None
        await eventually(lambda: (seen.informer.last_activity or 0) > first)
        api.stall()
        watches = client.counts["watch", "pods"]
        await eventually(lambda: client.counts["watch", "pods"] == watches + 1)
        silent_since = seen.informer.last_activity
        await eventually(lambda: client.counts["watch", "pods"] == watches + 2)
        assert seen.informer.last_activity == silent_since


@pytest.mark.parametrize("seed", range(3))
async def test_after_any_mix_of_faults_the_store_is_what_the_server_holds(
    client: Client, api: FakeAPI, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    import random

    caplog.set_level(logging.ERROR)
    dice = random.Random(seed)
    faults: list[Callable[[], None]] = [
        api.forget_history,
        lambda: api.fail("watch", dice.choice([410, 429, 500, 503])),
        lambda: api.fail("list", dice.choice([410, 429, 500])),
        lambda: api.break_after(dice.choice([1, 2, None])),
        lambda: api.delay_echoes(dice.choice([0.0, 0.02])),
        lambda: api.stall(dice.random() < 0.3),
    ]
    state: dict[str, int] = {}
    async with watching(client, page_size=3, idle_seconds=0.3) as seen:
        for turn in range(300):
            name = f"p{dice.randrange(12)}"
            match dice.randrange(6):
                case 0 if name in state:
                    api.remove("", "pods", "lab", name)
                    del state[name]
                case 1 if state:
                    gone = dice.choice(sorted(state))
                    api.vanish("", "pods", "lab", gone)
                    del state[gone]
                case 2:
                    dice.choice(faults)()
                case _:
                    state[name] = turn
                    put(api, pod(name, turn))
            if dice.random() < 0.3:
                await asyncio.sleep(dice.random() * 0.02)
        api.stall(False)
        api.break_after(None)
        api.delay_echoes(0)
        api.faults.clear()
        put(api, pod("last"))
        state["last"] = 1
        await eventually(lambda: seen.sizes() == state, limit=30)
        told: dict[str, int | None] = {}
        for name, old, new in seen.changes:
            assert told.get(name) == old, f"{name} was told as {told.get(name)}, then as coming from {old}"
            told[name] = new
        assert {name: size for name, size in told.items() if size is not None} == state
