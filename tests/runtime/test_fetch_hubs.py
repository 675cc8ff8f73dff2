# SPDX-License-Identifier: Apache-2.0
"""FetchHook with the hubs' and stores' own clients, against their routes on this machine."""

import hashlib
import random
import signal
from pathlib import Path
from typing import Any

import pytest
from tests.file_server import FileServer, serve_huggingface, serve_modelscope
from tests.hook_pod import HookPod
from tests.runtime.test_fetch_web import assert_untold, error_of, fetch, zipped

LARGE = random.Random(2).randbytes(2_000_000)
REPOSITORY = {"README.md": b"# pool\n", "data/rows.jsonl": b"{}\n", "data/clips/a.mp4": LARGE, "data/b c.mp4": b"b"}
COMMIT = "c" * 40
TOKEN = "s3cr3t-token-value"


@pytest.fixture
def pod(tmp_path: Path) -> HookPod:
    return HookPod(tmp_path, environ={"AWS_EC2_METADATA_DISABLED": "true"})


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_repository_of_hugging_face_is_fetched_at_the_commit_of_its_branch(pod: HookPod, server: FileServer) -> None:
    serve_huggingface(server, "acme/pool", REPOSITORY, kind="datasets")

    ended = pod.run(fetch("hf://datasets/acme/pool", endpoint=server.url, export_path="outputs/pool"))

    assert ended.code == 0, ended.log
    assert tree(ended.output("path")) == REPOSITORY
    assert ended.output("path").name == "pool"
    assert f"from hf://datasets/acme/pool@{COMMIT}" in ended.message.message
    assert (pod.experiment / "outputs/pool/data/rows.jsonl").read_bytes() == b"{}\n"
    assert ended.result.metrics["fetch.files"] == 4


@pytest.mark.parametrize(
    ("source", "narrowed", "expected"),
    [
        ("hf://acme/pool/data", {}, {"rows.jsonl": b"{}\n", "clips/a.mp4": LARGE, "b c.mp4": b"b"}),
        (f"hf://acme/pool@{COMMIT}", {"include": ["*.mp4"]}, {"data/clips/a.mp4": LARGE, "data/b c.mp4": b"b"}),
        (
            "hf://acme/pool@main",
            {"exclude": ["data/clips/", "*.md"]},
            {"data/rows.jsonl": b"{}\n", "data/b c.mp4": b"b"},
        ),
    ],
)
def test_a_part_of_a_repository_can_be_asked_for(
    pod: HookPod, server: FileServer, source: str, narrowed: dict[str, Any], expected: dict[str, bytes]
) -> None:
    serve_huggingface(server, "acme/pool", REPOSITORY)

    ended = pod.run(fetch(source, endpoint=server.url, **narrowed))

    assert ended.code == 0, ended.log
    assert tree(ended.output("path")) == expected


def test_one_file_of_a_repository_is_a_file_with_its_digest_known_before(pod: HookPod, server: FileServer) -> None:
    serve_huggingface(server, "acme/pool", REPOSITORY)
    source = "hf://acme/pool/data/clips/a.mp4"

    ended = pod.run(fetch(source, endpoint=server.url, sha256=hashlib.sha256(LARGE).hexdigest()))
    assert ended.code == 0, ended.log
    assert ended.output("path").read_bytes() == LARGE
    assert ended.output("path").name == "a.mp4"

    sent = server.sent.total()
    wrong = pod.run(fetch(source, endpoint=server.url, sha256="0" * 64))
    assert wrong.code == 2
    assert error_of(wrong).startswith("extraConfigs.sha256: hf://acme/pool/data/clips/a.mp4 has the digest ")
    assert server.sent[f"/acme/pool/resolve/{COMMIT}/data/clips/a.mp4"] == len(LARGE)
    assert server.sent.total() - sent < 2000  # what the repository holds was asked, nothing more


def test_a_private_repository_wants_the_token_of_a_secret(pod: HookPod, server: FileServer) -> None:
    serve_huggingface(server, "acme/pool", REPOSITORY, token=TOKEN)

    without = pod.run(fetch("hf://acme/pool", endpoint=server.url))
    wrong = pod.run(fetch("hf://acme/pool", endpoint=server.url), HF_TOKEN="another")
    right = pod.run(fetch("hf://acme/pool", endpoint=server.url, attempt=2), HF_TOKEN=TOKEN)
    named = pod.run(fetch("hf://acme/pool/README.md", endpoint=server.url, token_env="MINE"), MINE=TOKEN)

    assert without.code == wrong.code == 2
    assert "it is private and wants a token" in error_of(without)
    assert "the account of the token may not see it" in error_of(wrong)
    assert (right.code, named.code) == (0, 0), right.log + named.log
    assert_untold(pod, right)


def test_a_repository_is_gone_on_with_file_by_file(pod: HookPod, server: FileServer) -> None:
    files = {f"clip{number}.mp4": random.Random(number).randbytes(400_000) for number in range(8)}
    serve_huggingface(server, "acme/pool", files)
    server.files[f"/acme/pool/resolve/{COMMIT}/clip7.mp4"].holds = [100_000]
    running = pod.start(fetch("hf://acme/pool", endpoint=server.url))
    assert server.held.wait(60)
    state = next(iter(pod.root.rglob("state/*/fetch")))
    while sum(path.stat().st_size for path in state.glob("*.part")) < 2_900_000:
        assert running.process.poll() is None
    running.process.send_signal(signal.SIGTERM)
    assert running.end().code == 143

    ended = pod.run(fetch("hf://acme/pool", endpoint=server.url, attempt=2))

    assert ended.code == 0, ended.log
    assert tree(ended.output("path")) == files
    for name, content in files.items():
        assert server.sent[f"/acme/pool/resolve/{COMMIT}/{name}"] == len(content)
    assert ended.result.metrics["fetch.transferred_bytes"] == 300_000


def test_what_is_not_what_the_hub_lists_is_infra(pod: HookPod, server: FileServer) -> None:
    serve_huggingface(server, "acme/pool", REPOSITORY)
    server.serve(f"/acme/pool/resolve/{COMMIT}/data/clips/a.mp4", LARGE[::-1])

    ended = pod.run(fetch("hf://acme/pool", endpoint=server.url))

    assert ended.code == 4
    assert "hf://acme/pool/data/clips/a.mp4: what came has the digest" in error_of(ended)


@pytest.mark.parametrize(
    ("source", "extra", "said"),
    [
        ("hf://acme/nothing", {}, "extraConfigs.source: hf://acme/nothing: there is no such repository, or"),
        ("hf://acme/pool@v9", {}, "extraConfigs.source: hf://acme/pool: there is no revision 'v9' of it, or"),
        ("hf://acme/pool/none", {}, f"extraConfigs.source: there is no file at hf://acme/pool@{COMMIT}/none"),
        ("hf://acme/pool", {"include": ["*.avi"]}, "extraConfigs.include: none of the 4 files"),
        ("hf://acme/pool", {"sha256": "0" * 64}, "extraConfigs.sha256: hf://acme/pool@"),
        ("hf://acme/pool", {"max_bytes": 1000}, "extraConfigs.max_bytes: 4 files: 2000011 bytes"),
    ],
)
def test_what_a_hub_has_not_is_config(
    pod: HookPod, server: FileServer, source: str, extra: dict[str, Any], said: str
) -> None:
    serve_huggingface(server, "acme/pool", REPOSITORY)

    ended = pod.run(fetch(source, endpoint=server.url, **extra))

    assert ended.code == 2, ended.log
    assert error_of(ended).startswith(said)


def test_a_hub_whose_names_lead_out_is_refused(pod: HookPod, server: FileServer) -> None:
    serve_huggingface(server, "acme/pool", {"../../evil": b"evil"})

    ended = pod.run(fetch("hf://acme/pool", endpoint=server.url))

    assert ended.code == 2
    assert "its entry '../../evil' leads out of the folder" in error_of(ended)


def serve_bucket(server: FileServer) -> None:
    for number, (name, content) in enumerate(REPOSITORY.items()):
        server.serve(f"/lab/pool/{name}", content, etag=f'"e{number}"')
    server.serve("/lab/pool/data/", b"", etag='"folder"')
    server.serve("/lab/other.jsonl", b"{}\n")


@pytest.mark.parametrize("scheme", ["s3", "oss"])
def test_all_below_a_key_of_a_bucket_is_fetched(pod: HookPod, server: FileServer, scheme: str) -> None:
    serve_bucket(server)

    ended = pod.run(fetch(f"{scheme}://lab/pool/", endpoint=server.url))

    assert ended.code == 0, ended.log
    assert tree(ended.output("path")) == REPOSITORY
    assert {asked.headers.get("authorization") for asked in server.asked} == {None}


@pytest.mark.parametrize(
    ("scheme", "keys", "begins"),
    [
        ("s3", {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": TOKEN}, "AWS4-HMAC-SHA256 Credential=AKID/"),
        ("oss", {"OSS_ACCESS_KEY_ID": "AKID", "OSS_ACCESS_KEY_SECRET": TOKEN}, "AWS AKID:"),
    ],
)
def test_a_bucket_is_asked_with_the_keys_of_a_secret(
    pod: HookPod, server: FileServer, scheme: str, keys: dict[str, str], begins: str
) -> None:
    serve_bucket(server)

    ended = pod.run(fetch(f"{scheme}://lab/pool/data/clips/a.mp4", endpoint=server.url), **keys)

    assert ended.code == 0, ended.log
    assert ended.output("path").read_bytes() == LARGE
    assert all(asked.headers["authorization"].startswith(begins) for asked in server.asked)
    assert_untold(pod, ended)


def test_an_object_goes_on_where_it_was_cut(pod: HookPod, server: FileServer) -> None:
    serve_bucket(server)
    server.files["/lab/pool/data/clips/a.mp4"].cuts = [0, 500_000]  # the first answer is to HEAD

    ended = pod.run(fetch("s3://lab/pool/data/clips/a.mp4", endpoint=server.url))

    assert ended.code == 0, ended.log
    assert ended.output("path").read_bytes() == LARGE
    assert server.sent["/lab/pool/data/clips/a.mp4"] <= len(LARGE) + (1 << 18)


def test_archives_below_a_key_are_unpacked_on_demand(pod: HookPod, server: FileServer) -> None:
    server.serve("/lab/pool/part-0.zip", zipped({"rows.jsonl": b"{}\n"}))
    server.serve("/lab/pool/README.md", b"# pool\n")

    ended = pod.run(fetch("s3://lab/pool/", endpoint=server.url, unpack="all"))

    assert ended.code == 0, ended.log
    assert tree(ended.output("path")) == {"README.md": b"# pool\n", "part-0/rows.jsonl": b"{}\n"}


@pytest.mark.parametrize(
    ("source", "statuses", "code", "said"),
    [
        ("s3://lab/none", [], 2, "extraConfigs.source: s3://lab/none: there is no such bucket or key"),
        ("s3://lab/none/", [], 2, "extraConfigs.source: there is no file at s3://lab/none/"),
        ("s3://lab/other.jsonl", [403], 2, "extraConfigs.source: s3://lab/other.jsonl: the store refuses it"),
        ("s3://lab/other.jsonl", [503] * 5, 4, "what there is to fetch: the store answers 503; 5 tries in a row"),
    ],
)
def test_what_a_store_does_not_give_is_told(
    pod: HookPod, server: FileServer, source: str, statuses: list[int], code: int, said: str
) -> None:
    serve_bucket(server)
    server.files["/lab/other.jsonl"].statuses = statuses

    ended = pod.run(fetch(source, endpoint=server.url))

    assert ended.code == code, ended.log
    assert error_of(ended).startswith(said)


@pytest.mark.parametrize(("kind", "prefix"), [("models", ""), ("datasets", "datasets/")])
def test_a_repository_of_modelscope_is_fetched(pod: HookPod, server: FileServer, kind: str, prefix: str) -> None:
    serve_modelscope(server, "acme/pool", REPOSITORY, kind=kind, token=TOKEN)
    server.files[f"/api/v1/{kind}/acme/pool/repo/data/clips/a.mp4"].cuts = [500_000]
    source = f"modelscope://{prefix}acme/pool"

    without = pod.run(fetch(source, endpoint=server.url))
    ended = pod.run(fetch(source, endpoint=server.url, attempt=2), MODELSCOPE_API_TOKEN=TOKEN)

    assert without.code == 2
    assert "it is private and wants a token" in error_of(without)
    assert ended.code == 0, ended.log
    assert tree(ended.output("path")) == REPOSITORY
    assert f"from modelscope://{prefix}acme/pool@master" in ended.message.message
    assert server.sent[f"/api/v1/{kind}/acme/pool/repo/data/clips/a.mp4"] == len(LARGE)
    assert_untold(pod, ended)


def test_what_modelscope_does_not_hold_is_told(pod: HookPod, server: FileServer) -> None:
    serve_modelscope(server, "acme/pool", REPOSITORY)

    nothing = pod.run(fetch("modelscope://acme/nothing", endpoint=server.url))
    no_file = pod.run(fetch("modelscope://acme/pool@v1/none", endpoint=server.url))

    assert (nothing.code, no_file.code) == (2, 2)
    assert "modelscope://acme/nothing: there is no such repository, or" in error_of(nothing)
    assert error_of(no_file) == "extraConfigs.source: there is no file at modelscope://acme/pool@v1/none"
