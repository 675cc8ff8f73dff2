# SPDX-License-Identifier: Apache-2.0
"""FetchHook over http in its real process, against a server with the faults of real ones."""

import hashlib
import os
import random
import signal
import tarfile
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import zstandard
from tests.file_server import FileServer
from tests.hook_pod import Ended, HookPod, job_contract

CONTENT = random.Random(1).randbytes(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
SECRET = "s3cr3t-token-value"


@pytest.fixture
def pod(tmp_path: Path) -> HookPod:
    return HookPod(tmp_path)


def fetch(source: str, *, attempt: int = 1, **extra: Any) -> Any:
    extra = {"source": source, **extra}
    return job_contract("FetchHook", stage="execution", meta_name="fetch", extra=extra, attempt=attempt)


def error_of(ended: Ended) -> str:
    assert ended.message.error is not None, ended.log
    return ended.message.error.message


def kept(pod: HookPod) -> list[Path]:
    """What attempts left for later ones."""
    return sorted(pod.root.rglob("state/**/*.part"))


def test_a_file_is_fetched_published_and_its_digest_told(pod: HookPod, server: FileServer) -> None:
    ended = pod.run(fetch(server.serve("/data/pool one.jsonl", CONTENT), export_path="outputs/pool.jsonl"))

    assert ended.code == 0, ended.log
    assert ended.output("path").name == "pool one.jsonl"
    assert (pod.experiment / "outputs/pool.jsonl").read_bytes() == CONTENT
    assert SHA256 in ended.message.message
    metrics = ended.result.metrics
    assert metrics["fetch.bytes"] == metrics["fetch.transferred_bytes"] == len(CONTENT)
    assert metrics["fetch.files"] == 1
    assert kept(pod) == []


def test_a_cut_connection_goes_on_where_it_was(pod: HookPod, server: FileServer) -> None:
    url = server.serve("/pool.jsonl", CONTENT, cuts=[1_000_000, 700_000])

    ended = pod.run(fetch(url, sha256=SHA256))

    assert ended.code == 0, ended.log
    assert ended.output("path").read_bytes() == CONTENT
    assert server.sent["/pool.jsonl"] == len(CONTENT)
    assert server.ranges("/pool.jsonl") == [None, "bytes=1000000-", "bytes=1700000-"]


def test_after_sigterm_the_next_attempt_asks_for_what_is_missing_only(pod: HookPod, server: FileServer) -> None:
    url = server.serve("/pool.jsonl", CONTENT, holds=[1_300_000])
    running = pod.start(fetch(url))
    assert server.held.wait(60)
    while not kept(pod) or kept(pod)[0].stat().st_size < 1_300_000:
        assert running.process.poll() is None
    running.process.send_signal(signal.SIGTERM)
    stopped = running.end()

    assert stopped.code == 143, stopped.log
    assert stopped.message.error is not None
    assert stopped.message.error.class_ == "Preempted"

    ended = pod.run(fetch(url, attempt=2))

    assert ended.code == 0, ended.log
    assert ended.output("path").read_bytes() == CONTENT
    assert server.ranges("/pool.jsonl") == [None, "bytes=1300000-"]
    assert server.sent["/pool.jsonl"] == len(CONTENT)
    assert ended.result.metrics["fetch.transferred_bytes"] == len(CONTENT) - 1_300_000
    assert "1.3 MB of it by an earlier attempt" in ended.message.message
    assert kept(pod) == []


def test_what_an_earlier_attempt_had_whole_is_not_fetched_again(pod: HookPod, server: FileServer) -> None:
    """The archive was there, unpacking it failed; only whether it is still the same is asked."""
    url = server.serve("/pool.zip", CONTENT)
    failed = pod.run(fetch(url))
    assert failed.code == 2
    assert "pool.zip is no whole archive" in error_of(failed)

    again = pod.run(fetch(url, attempt=2))

    assert again.code == 2
    assert server.ranges("/pool.zip") == [None, f"bytes={len(CONTENT)}-"]
    assert server.sent["/pool.zip"] == len(CONTENT)


def test_a_file_that_changed_between_attempts_is_fetched_anew(pod: HookPod, server: FileServer) -> None:
    url = server.serve("/pool.jsonl", CONTENT, holds=[1_000_000])
    running = pod.start(fetch(url))
    assert server.held.wait(60)
    running.process.send_signal(signal.SIGTERM)
    assert running.end().code == 143
    new = CONTENT[::-1]
    server.serve("/pool.jsonl", new, etag='"v2"')

    ended = pod.run(fetch(url, attempt=2))

    assert ended.code == 0, ended.log
    assert ended.output("path").read_bytes() == new


@pytest.mark.parametrize(
    "server_is",
    [{"ranges": False}, {"etag": None}, {"etag": 'W/"weak"', "modified": "Mon, 02 Nov 2026 10:00:00 GMT"}],
    ids=["without ranges", "without versions", "with weak versions"],
)
def test_other_servers_are_asked_as_they_can_answer(
    pod: HookPod, server: FileServer, server_is: dict[str, Any]
) -> None:
    ended = pod.run(fetch(server.serve("/pool.jsonl", CONTENT, cuts=[1_000_000], **server_is)))

    assert ended.code == 0, ended.log
    assert ended.output("path").read_bytes() == CONTENT


def test_without_a_length_only_the_digest_tells_a_cut(pod: HookPod, server: FileServer) -> None:
    url = server.serve("/pool.jsonl", CONTENT, tells_length=False, cuts=[1_000_000])

    ended = pod.run(fetch(url, sha256=SHA256))

    assert ended.code == 0, ended.log
    assert ended.output("path").read_bytes() == CONTENT


def test_a_wrong_digest_is_a_config_error_that_names_both(pod: HookPod, server: FileServer) -> None:
    ended = pod.run(fetch(server.serve("/pool.jsonl", CONTENT), sha256="0" * 64))

    assert ended.code == 2
    assert error_of(ended).startswith("extraConfigs.sha256: ")
    assert SHA256 in error_of(ended)
    assert ended.result.outputs == {}
    assert server.sent["/pool.jsonl"] == len(CONTENT)
    assert kept(pod) == []


def test_pieces_of_different_files_are_found_out(pod: HookPod, server: FileServer) -> None:
    """The server says that nothing has changed, and it has."""
    url = server.serve("/pool.jsonl", b"x" * 1_000_000 + CONTENT[1_000_000:], holds=[1_000_000])
    running = pod.start(fetch(url, sha256=SHA256))
    assert server.held.wait(60)
    running.process.send_signal(signal.SIGTERM)
    assert running.end().code == 143
    server.serve("/pool.jsonl", CONTENT)

    ended = pod.run(fetch(url, sha256=SHA256, attempt=2))

    assert ended.code == 0, ended.log
    assert ended.output("path").read_bytes() == CONTENT


def test_a_server_that_is_busy_is_asked_again(pod: HookPod, server: FileServer) -> None:
    ended = pod.run(fetch(server.serve("/pool.jsonl", CONTENT, statuses=[503, 429])))

    assert ended.code == 0, ended.log
    assert "the server answers 503; asking again in 0.5 s" in ended.log


def test_a_server_that_stays_broken_is_infra(pod: HookPod, server: FileServer) -> None:
    url = server.serve("/pool.jsonl", CONTENT, statuses=[500] * 5)

    ended = pod.run(fetch(url))

    assert ended.code == 4
    assert error_of(ended) == f"{url}: the server answers 500; 5 tries in a row"


def test_a_server_that_is_not_there_is_infra(pod: HookPod, server: FileServer) -> None:
    server.close()

    ended = pod.run(fetch(f"{server.url}/pool.jsonl?signature={SECRET}"))

    assert ended.code == 4
    assert "the connection failed: connection refused" in error_of(ended)
    assert_untold(pod, ended)


@pytest.mark.parametrize(
    ("served", "said"),
    [
        (None, "there is nothing at this address (404)"),
        ({"statuses": [403]}, "the server refuses it (403); it wants to know who asks"),
        ({"token": "Bearer x"}, "the server refuses it (401); it wants to know who asks: give a token (`token_env`)"),
        ({"location": "ftp://example.invalid/x"}, "can't be asked for"),
    ],
)
def test_what_asking_again_does_not_help_is_config(
    pod: HookPod, server: FileServer, served: dict[str, Any] | None, said: str
) -> None:
    url = f"{server.url}/pool.jsonl"
    if served is not None:
        server.serve("/pool.jsonl", CONTENT, **served)

    ended = pod.run(fetch(f"{url}?signature={SECRET}"))

    assert ended.code == 2, ended.log
    assert error_of(ended).startswith(f"extraConfigs.source: {url}: ")
    assert said in error_of(ended)
    assert_untold(pod, ended)


@pytest.mark.parametrize(("value", "sent"), [(SECRET, f"Bearer {SECRET}"), (f"Basic {SECRET}", f"Basic {SECRET}")])
def test_a_token_comes_from_a_secret_and_goes_nowhere_else(
    pod: HookPod, server: FileServer, value: str, sent: str
) -> None:
    other = FileServer()
    other.serve("/real.jsonl", CONTENT)
    server.serve("/pool.jsonl", b"", location=f"http://localhost:{other.port}/real.jsonl", token=sent)

    ended = pod.run(fetch(f"{server.url}/pool.jsonl", token_env="POOL_TOKEN"), POOL_TOKEN=value)

    other.close()
    assert ended.code == 0, ended.log
    assert ended.output("path").read_bytes() == CONTENT
    assert [asked.headers.get("authorization") for asked in server.asked] == [sent]
    assert [asked.headers.get("authorization") for asked in other.asked] == [None]
    assert_untold(pod, ended)


def test_a_token_that_is_not_there_says_how_to_give_it(pod: HookPod, server: FileServer) -> None:
    ended = pod.run(fetch(f"{server.url}/pool.jsonl", token_env="POOL_TOKEN"))

    assert ended.code == 2
    assert error_of(ended).startswith("extraConfigs.token_env: the pod has no environment variable POOL_TOKEN; ")
    assert "{env: POOL_TOKEN, name: <Secret>, key: <key>}" in error_of(ended)
    assert server.asked == []


def test_a_password_in_the_address_is_refused_and_not_repeated(pod: HookPod) -> None:
    ended = pod.run(fetch(f"https://me:{SECRET}@example.invalid/pool.jsonl"))

    assert ended.code == 2
    assert error_of(ended).startswith("extraConfigs.source: a user name or password stands in it")
    assert_untold(pod, ended)


def test_what_the_volume_has_no_room_for_is_not_begun(pod: HookPod, server: FileServer) -> None:
    ended = pod.run(fetch(server.serve("/pool.jsonl", CONTENT, length=1 << 60)))

    assert ended.code == 4
    assert "needs 1152921.5 TB, and the volume has " in error_of(ended)
    assert kept(pod) == []


@pytest.mark.parametrize("tells_length", [True, False])
def test_more_than_is_allowed_is_refused(pod: HookPod, server: FileServer, tells_length: bool) -> None:
    ended = pod.run(fetch(server.serve("/pool.jsonl", CONTENT, tells_length=tells_length), max_bytes=2_000_000))

    assert ended.code == 2
    assert error_of(ended).startswith("extraConfigs.max_bytes: ")


def test_an_archive_becomes_a_folder(pod: HookPod, server: FileServer) -> None:
    content = zipped({"rows.jsonl": b'{"videos": ["clips/a.mp4"]}\n', "clips/a.mp4": CONTENT})

    ended = pod.run(fetch(server.serve("/pool.zip", content), export_path="outputs/pool"))

    assert ended.code == 0, ended.log
    assert ended.output("path").name == "pool"
    assert (pod.experiment / "outputs/pool/clips/a.mp4").read_bytes() == CONTENT
    assert ended.result.metrics["fetch.bytes"] == len(content)


def test_an_archive_that_leads_out_is_refused_whole(pod: HookPod, server: FileServer) -> None:
    content = zipped({"rows.jsonl": b"{}\n", "../../../../../evil.txt": b"evil"})

    ended = pod.run(fetch(server.serve("/pool.zip", content)))

    assert ended.code == 2
    assert "pool.zip is not unpacked: its entry '../../../../../evil.txt' leads out of the folder" in error_of(ended)
    assert list(pod.base.rglob("evil.txt")) == []
    assert list(pod.root.rglob("rows.jsonl")) == []


def test_a_zstandard_archive_becomes_a_folder_and_a_torn_one_does_not(pod: HookPod, server: FileServer) -> None:
    whole = BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as archive:
        info = tarfile.TarInfo("clips/a.mp4")
        info.size = len(CONTENT)
        archive.addfile(info, BytesIO(CONTENT))
    content = zstandard.compress(whole.getvalue())

    ended = pod.run(fetch(server.serve("/pool.tar.zst", content)))
    torn = pod.run(fetch(server.serve("/torn.tar.zst", content[: len(content) // 2])))

    assert ended.code == 0, ended.log
    assert (ended.output("path") / "clips/a.mp4").read_bytes() == CONTENT
    assert torn.code == 2
    assert "torn.tar.zst is no whole archive" in error_of(torn)


def test_an_archive_can_stay_one(pod: HookPod, server: FileServer) -> None:
    content = zipped({"rows.jsonl": b"{}\n"})

    ended = pod.run(fetch(server.serve("/pool.zip", content), unpack="never"))

    assert ended.code == 0, ended.log
    assert ended.output("path").read_bytes() == content


def zipped(entries: dict[str, bytes]) -> bytes:
    file = BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return file.getvalue()


def assert_untold(pod: HookPod, ended: Ended) -> None:
    """The secret is in no file on the volume, and nothing was printed of it."""
    assert SECRET not in ended.log
    assert SECRET not in ended.termination
    files = [Path(folder, name) for folder, _, names in os.walk(pod.root) for name in names]
    assert files
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
