# SPDX-License-Identifier: Apache-2.0
"""The client's verbs and its one retry rule, over real HTTP against the fake API server and its faults."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import aiohttp
import pytest
from tests.api.fakeapi import FakeAPI
from tests.api.waiting import eventually

from sandbox_operator.kube.client import Client, Manifest
from sandbox_operator.kube.config import Connection
from sandbox_operator.kube.errors import (
    AlreadyExists,
    Conflict,
    Gone,
    NotFound,
    ServerError,
    TooManyRequests,
    Unreachable,
)
from sandbox_operator.kube.resources import Resource

THINGS = Resource("example.com", "v1", "things", "Thing")
PODS = Resource("", "v1", "pods", "Pod")


class Pauses(list[float]):
    """Stands in for sleep: remembers how long the client would have waited, and doesn't."""

    async def __call__(self, seconds: float) -> None:
        self.append(seconds)


@pytest.fixture
async def api() -> AsyncIterator[FakeAPI]:
    async with FakeAPI() as server:
        yield server


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
async def client(api: FakeAPI, pauses: Pauses) -> AsyncIterator[Client]:
    async with Client(Connection(api.url), field_manager="tester", sleep=pauses) as opened:
        yield opened


def thing(name: str = "one", **more: Any) -> Manifest:
    return {
        "apiVersion": "example.com/v1",
        "kind": "Thing",
        "metadata": {"name": name},
        "spec": {"size": 1},
        **more,
    }


async def test_an_object_is_created_read_changed_and_deleted(client: Client) -> None:
    created = await client.create(THINGS, thing(), "lab")
    assert created["metadata"]["namespace"] == "lab"
    patched = await client.patch(THINGS, "one", {"spec": {"size": 2}}, "lab")
    assert (patched["spec"], patched["metadata"]["generation"]) == ({"size": 2}, 2)
    await client.patch(THINGS, "one", {"status": {"done": True}}, "lab", subresource="status")
    read = await client.get(THINGS, "one", "lab")
    assert (read["spec"], read["status"]) == ({"size": 2}, {"done": True})
    assert await client.delete(THINGS, "one", "lab") is True
    assert await client.delete(THINGS, "one", "lab") is False
    with pytest.raises(NotFound, match=r'GET /apis/example.com/v1/namespaces/lab/things/one: things "one" not found'):
        await client.get(THINGS, "one", "lab")
    assert client.counts == {
        ("create", "things"): 1,
        ("patch", "things"): 1,
        ("patch", "things/status"): 1,
        ("get", "things"): 2,
        ("delete", "things"): 2,
    }


async def test_a_patch_computed_from_an_old_version_is_a_conflict_and_is_not_sent_again(
    client: Client,
) -> None:
    created = await client.create(THINGS, thing(), "lab")
    await client.patch(THINGS, "one", {"spec": {"size": 2}}, "lab")
    stale = {"metadata": {"resourceVersion": created["metadata"]["resourceVersion"]}, "status": {"a": 1}}
    with pytest.raises(Conflict, match="has been modified"):
        await client.patch(THINGS, "one", stale, "lab", subresource="status")
    assert client.counts["patch", "things/status"] == 1


async def test_a_status_is_replaced_whole_and_only_the_status(client: Client, api: FakeAPI) -> None:
    created = await client.create(THINGS, thing(), "lab")
    await client.patch(THINGS, "one", {"status": {"done": True, "left": 3}}, "lab", subresource="status")
    body = {
        "apiVersion": THINGS.api_version,
        "kind": THINGS.kind,
        "metadata": {"name": "one", "namespace": "lab", "resourceVersion": str(api.version)},
        "spec": {"size": 9},
        "status": {"left": 2},
    }
    told = await client.update_status(THINGS, body, "lab")
    read = await client.get(THINGS, "one", "lab")
    assert (read["spec"], read["status"]) == (created["spec"], {"left": 2})
    assert told["metadata"]["resourceVersion"] == read["metadata"]["resourceVersion"]
    with pytest.raises(Conflict, match="has been modified"):
        await client.update_status(THINGS, body, "lab")
    assert client.counts["update", "things/status"] == 2


async def test_apply_creates_or_changes_with_the_field_manager_in_the_request(client: Client, api: FakeAPI) -> None:
    await client.patch(THINGS, "one", thing(), "lab", kind="apply", force=True)
    await client.patch(THINGS, "one", thing(spec={"size": 5}), "lab", kind="apply", force=True)
    assert api.objects["example.com", "things"]["lab", "one"]["spec"] == {"size": 5}
    assert client.counts["apply", "things"] == 2


async def test_a_list_comes_in_pages_of_one_version(client: Client, api: FakeAPI) -> None:
    for number in range(7):
        api.put("example.com", "things", {"metadata": {"name": f"t{number}", "namespace": "lab"}})
    pages = [page async for page in client.pages(THINGS, page_size=3)]
    assert [[item["metadata"]["name"] for item in page.items] for page in pages] == [
        ["t0", "t1", "t2"],
        ["t3", "t4", "t5"],
        ["t6"],
    ]
    assert {page.resource_version for page in pages} == {str(api.version)}
    whole = await client.list(THINGS, "lab", field_selector="metadata.name=t4")
    assert [item["metadata"]["name"] for item in whole.items] == ["t4"]


async def test_a_list_whose_version_was_forgotten_between_two_pages_is_gone(client: Client, api: FakeAPI) -> None:
    for number in range(4):
        api.put("example.com", "things", {"metadata": {"name": f"t{number}", "namespace": "lab"}})
    pages = client.pages(THINGS, page_size=2)
    await anext(pages)
    api.forget_history()
    with pytest.raises(Gone):
        await anext(pages)


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
async def test_a_busy_or_broken_server_is_asked_again(client: Client, api: FakeAPI, pauses: Pauses, code: int) -> None:
    api.put("example.com", "things", {"metadata": {"name": "one", "namespace": "lab"}})
    api.fail("get", code, times=3)
    assert (await client.get(THINGS, "one", "lab"))["metadata"]["name"] == "one"
    assert pauses == [0.1, 0.2, 0.4]
    assert client.counts["get", "things"] == 4


async def test_a_server_that_stays_broken_is_given_up_with_its_own_error(
    client: Client, api: FakeAPI, pauses: Pauses
) -> None:
    api.fail("get", 503, times=99)
    with pytest.raises(ServerError):
        await client.get(THINGS, "one", "lab")
    assert len(pauses) == 4


async def test_a_create_that_was_turned_away_is_sent_again_after_the_time_asked_for(
    client: Client, api: FakeAPI, pauses: Pauses
) -> None:
    api.fail("create", 429, retry_after=3)
    await client.create(THINGS, thing(), "lab")
    assert pauses == [3]


async def test_a_repeatable_create_whose_answer_was_lost_finds_its_own_object(client: Client, api: FakeAPI) -> None:
    api.cut("create")
    with pytest.raises(AlreadyExists):
        await client.create(THINGS, thing(), "lab", repeatable=True)
    assert list(api.objects["example.com", "things"]) == [("lab", "one")]


async def test_another_create_whose_answer_was_lost_is_not_sent_twice(client: Client, api: FakeAPI) -> None:
    api.cut("create")
    with pytest.raises(Unreachable, match="no answer from the API server for POST http://127"):
        await client.create(THINGS, {"metadata": {"generateName": "t-"}}, "lab")
    assert client.counts["create", "things"] == 1
    assert len(api.objects["example.com", "things"]) == 1
    api.fail("create", 503)
    with pytest.raises(ServerError):
        await client.create(THINGS, {"metadata": {"generateName": "t-"}}, "lab")


async def test_a_lost_answer_to_a_patch_or_delete_does_no_harm(client: Client, api: FakeAPI) -> None:
    await client.create(THINGS, thing(), "lab")
    api.cut("patch")
    assert (await client.patch(THINGS, "one", {"spec": {"size": 9}}, "lab"))["spec"] == {"size": 9}
    api.cut("delete")
    assert await client.delete(THINGS, "one", "lab") is False
    assert api.objects["example.com", "things"] == {}


async def test_no_server_at_all_is_unreachable_after_all_tries(client: Client, pauses: Pauses) -> None:
    async with Client(Connection("http://127.0.0.1:1"), field_manager="tester", sleep=pauses) as lost:
        with pytest.raises(Unreachable, match=r"GET http://127.0.0.1:1/version"):
            await lost.get_raw("/version")
    assert len(pauses) == 4
    assert (await client.get_raw("/version"))["gitVersion"] == "v1.34.0-fake"


async def test_something_that_is_no_api_server_is_told_so() -> None:
    async def page(_: aiohttp.web.Request) -> aiohttp.web.Response:
        return aiohttp.web.Response(text="<html>welcome</html>")

    app = aiohttp.web.Application()
    app.router.add_route("*", "/{path:.*}", page)
    runner = aiohttp.web.AppRunner(app)
    await runner.setup()
    await aiohttp.web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with Client(Connection(f"http://127.0.0.1:{runner.addresses[0][1]}"), field_manager="tester") as stranger:
            with pytest.raises(Unreachable, match=r"something else answered.*welcome"):
                await stranger.list(THINGS)
            assert await stranger.get_raw("/") == "<html>welcome</html>"
    finally:
        await runner.cleanup()


async def test_owned_objects_go_with_their_owner(client: Client, api: FakeAPI) -> None:
    owner = await client.create(THINGS, thing("a"), "lab")
    reference = [{"uid": owner["metadata"]["uid"], "kind": "Thing", "name": "a", "apiVersion": "example.com/v1"}]
    await client.create(PODS, {"metadata": {"name": "a", "ownerReferences": reference}}, "lab")
    await client.delete(THINGS, "a", "lab")
    assert api.objects["", "pods"] == {}


async def test_a_collection_is_deleted_by_selector_and_never_without_one(client: Client, api: FakeAPI) -> None:
    for name, color in [("a", "red"), ("b", "blue"), ("c", "red")]:
        await client.create(PODS, {"metadata": {"name": name, "labels": {"color": color}}}, "lab")
    with pytest.raises(ValueError, match="needs a selector"):
        await client.delete_collection(PODS, "lab", label_selector="")
    await client.delete_collection(PODS, "lab", label_selector="color in (red,green)")
    assert [name for _, name in api.objects["", "pods"]] == ["b"]


async def test_a_watch_tells_changes_and_what_stops_matching_as_deleted(client: Client, api: FakeAPI) -> None:
    start = str(api.version)
    api.put("", "pods", {"metadata": {"name": "a", "namespace": "lab", "labels": {"on": "yes"}}})
    api.put("", "pods", {"metadata": {"name": "b", "namespace": "lab"}})
    api.put("", "pods", {"metadata": {"name": "a", "namespace": "lab", "labels": {"on": "no"}}})
    api.put("", "pods", {"metadata": {"name": "c", "namespace": "lab", "labels": {"on": "yes"}}})
    events = client.watch(PODS, resource_version=start, label_selector="on=yes")
    async with aclosing(events):
        told = [await anext(events) for _ in range(4)]
    assert [(event.type, event.object["metadata"].get("name")) for event in told] == [
        ("ADDED", "a"),
        ("DELETED", "a"),
        ("ADDED", "c"),
        ("BOOKMARK", None),
    ]
    assert told[3].object["metadata"]["resourceVersion"] == str(api.version)


async def test_a_watch_from_a_forgotten_version_is_gone(client: Client, api: FakeAPI) -> None:
    start = str(api.version)
    api.forget_history()
    with pytest.raises(Gone, match="too old resource version"):
        await anext(client.watch(PODS, resource_version=start))


async def test_a_silent_watch_and_a_broken_one_are_noticed(client: Client, api: FakeAPI) -> None:
    api.stall()
    with pytest.raises(Unreachable):
        await anext(client.watch(PODS, resource_version=str(api.version), idle_seconds=0.3))
    api.stall(False)
    api.break_after(1)
    events = client.watch(PODS, resource_version=str(api.version))
    api.put("", "pods", {"metadata": {"name": "a", "namespace": "lab"}})
    assert (await anext(events)).object["metadata"]["name"] == "a"
    with pytest.raises(Unreachable):
        await anext(events)


async def test_a_watch_ends_by_itself_at_its_time_limit(client: Client) -> None:
    events = client.watch(PODS, resource_version="100", timeout_seconds=1)
    assert {event.type async for event in events} == {"BOOKMARK"}


async def test_an_object_larger_than_any_read_buffer_passes_through_a_watch(client: Client, api: FakeAPI) -> None:
    start = str(api.version)
    big = "x" * 3_000_000
    api.put("", "pods", {"metadata": {"name": "a", "namespace": "lab"}, "spec": {"big": big}})
    events = client.watch(PODS, resource_version=start)
    async with aclosing(events):
        assert (await anext(events)).object["spec"]["big"] == big


async def test_leaving_a_watch_closes_its_connection(client: Client, api: FakeAPI) -> None:
    events = client.watch(PODS, resource_version=str(api.version))
    async with aclosing(events):
        await anext(events)
        assert api.watchers == 1
    await eventually(lambda: api.watchers == 0)


async def test_a_closed_client_says_so(api: FakeAPI) -> None:
    client = Client(Connection(api.url), field_manager="tester")
    with pytest.raises(RuntimeError, match="async with"):
        await client.get_raw("/version")


async def test_the_fake_server_runs_as_a_process_of_its_own_and_takes_its_faults_over_http() -> None:
    import sys

    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.api.fakeapi", stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        url = (await asyncio.wait_for(process.stdout.readline(), 20)).decode().strip()
        async with Client(Connection(url), field_manager="tester", sleep=Pauses()) as client:
            async with aiohttp.ClientSession() as session:
                body = {
                    "group": "",
                    "plural": "pods",
                    "body": {"metadata": {"name": "a", "namespace": "lab"}},
                }
                async with session.post(f"{url}/call/put", json=body) as answer:
                    assert json.loads(await answer.text())["metadata"]["uid"]
                async with session.post(f"{url}/call/fail", json={"verb": "list", "code": 429, "times": 99}):
                    pass
            assert (await client.get(PODS, "a", "lab"))["metadata"]["name"] == "a"
            with pytest.raises(TooManyRequests):
                await client.list(PODS)
    finally:
        process.terminate()
        await process.wait()
