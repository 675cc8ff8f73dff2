# SPDX-License-Identifier: Apache-2.0
"""Digests of files and folders: what they tell, what is remembered of them, and what they are not led astray by."""

import hashlib
import json
import os
import tempfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.progress import DEEP

from sandbox_api.digest import sha256_of
from sandbox_runtime import digests
from sandbox_runtime.digests import Look, Manifest, digest_of, files_of, walk


def folder(root: Path, content: dict[str, str]) -> Path:
    for name, text in content.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_a_folders_digest_tells_names_contents_and_empty_files(tmp_path: Path) -> None:
    found = {
        digest_of(folder(tmp_path / str(number), content), durable=True)
        for number, content in enumerate(
            [{"a": "1", "b": "2"}, {"a": "2", "b": "1"}, {"a": "1", "c": "2"}, {"a": "1", "b": "2", "c": ""}]
        )
    }
    assert len(found) == 4
    assert digest_of(folder(tmp_path / "same", {"b": "2", "a": "1"})) == digest_of(tmp_path / "0")


def test_a_folders_digest_is_that_of_its_manifest_as_the_contract_says(tmp_path: Path) -> None:
    """Programs in other languages compute it: entries sorted by the parts of their path."""
    folder(tmp_path, {"a.txt": "1", "a/z": "22", "a/b/c": "", "b": "1"})
    one, two, none = (sha256_of_text(text) for text in ("1", "22", ""))

    manifest = [["a/b/c", 0, none], ["a/z", 2, two], ["a.txt", 1, one], ["b", 1, one]]

    assert digest_of(tmp_path).sha256 == sha256_of(manifest)
    assert digest_of(tmp_path).bytes == 4


def sha256_of_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


parts = st.text(st.sampled_from("aAb.-_é 0"), min_size=1, max_size=3).filter(lambda part: part not in (".", ".."))
trees = st.dictionaries(st.lists(parts, min_size=1, max_size=3).map(tuple), st.text("xy", max_size=2), max_size=8)


@settings(max_examples=500 if DEEP else 40, deadline=None)
@given(trees, trees)
def test_any_tree_has_the_digest_of_its_manifest_remembered_or_not(
    before: dict[tuple[str, ...], str], after: dict[tuple[str, ...], str]
) -> None:
    """The second tree is laid over the first, with a memory that was filled by the first."""
    with tempfile.TemporaryDirectory() as base, pytest.MonkeyPatch.context() as patch:
        patch.setattr(digests, "SETTLED", -60)
        patch.setattr(digests, "REMEMBER_BYTES", 0)
        root, memory = Path(base, "root"), Path(base, "memory")
        root.mkdir()
        for tree in (before, after):
            for path, text in tree.items():
                file = root.joinpath(*path)
                if not file.is_dir() and not any(parent.is_file() for parent in file.parents):
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.unlink(missing_ok=True)
                    file.write_text(text)
            files = [path.relative_to(root).parts for path in root.rglob("*") if path.is_file()]
            manifest = [
                ["/".join(path), len(text), sha256_of_text(text)]
                for path in sorted(files)
                for text in [root.joinpath(*path).read_text()]
            ]
            assert digest_of(root, memory=memory).sha256 == digest_of(root, memory=memory).sha256 == sha256_of(manifest)


@pytest.mark.parametrize("entries", [[], [1], [["é", 2, None], ["b", 3, "x"]]])
def test_a_manifest_that_grows_has_the_digest_of_the_whole(entries: list[object]) -> None:
    manifest = Manifest()
    for entry in entries:
        manifest.add(entry)

    assert manifest.digest() == sha256_of(entries)


def test_large_files_are_told_by_size_and_their_contents_by_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "DIGEST_LIMIT", 10)
    for name, text in {"short": "x" * 9, "long": "x" * 10, "other": "y" * 10, "longer": "x" * 11}.items():
        (tmp_path / name).write_text(text)
    short, long, other, longer = (digest_of(tmp_path / name) for name in ("short", "long", "other", "longer"))

    assert short.sha256 == short.content
    assert (long.sha256, long.bytes) == (other.sha256, other.bytes) == (None, 10)
    assert len({long.content, other.content, longer.content}) == 3
    one, two = folder(tmp_path / "one", {"model": "x" * 10}), folder(tmp_path / "two", {"model": "y" * 10})
    assert digest_of(one).sha256 == digest_of(two).sha256
    assert digest_of(one).content != digest_of(two).content


def test_samples_of_a_large_file_reach_its_beginning_and_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "DIGEST_LIMIT", 1000)
    monkeypatch.setattr(digests, "SAMPLE_BYTES", 4)
    path = tmp_path / "model"
    found = set()
    for place in (None, 0, 9996, 9999):
        content = bytearray(10_000)
        if place is not None:
            content[place] = 1
        path.write_bytes(content)
        found.add(digest_of(path).content)

    assert len(found) == 4


def test_odd_things_in_a_folder_do_no_harm(tmp_path: Path) -> None:
    root = folder(tmp_path / "root", {"a": "1"})
    plain = digest_of(root)
    os.mkfifo(root / "pipe")
    (root / "nowhere").symlink_to("gone")
    (root / "loop").symlink_to(".")
    (root / b"caf\xe9".decode("utf-8", "surrogateescape")).write_text("2")

    odd = digest_of(root)
    assert odd != plain
    assert odd.bytes == 2
    assert sorted(name for name, _ in walk(root)) == ["a", "caf\udce9", "nowhere", "pipe"]


def test_links_to_folders_are_followed_where_that_is_asked_and_each_loop_once(tmp_path: Path) -> None:
    outside = folder(tmp_path / "outside", {"x": "1"})
    root = folder(tmp_path / "root", {"inner/a": "1"})
    (root / "linked").symlink_to(outside)
    (root / "inner" / "up").symlink_to("..")

    assert [name for name, _ in walk(root)] == ["inner/a"]
    assert [name for name, _ in walk(root, follow=True)] == ["inner/a", "linked/x"]


# What is remembered


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A memory that keeps small and fresh files too."""
    monkeypatch.setattr(digests, "SETTLED", -60)
    monkeypatch.setattr(digests, "REMEMBER_BYTES", 0)
    return tmp_path / "memory"


def forge(memory: Path, name: str, sha256: str) -> None:
    """Make what is remembered of a file tell that it was asked."""
    for path in memory.glob("*.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        forged = [[*line[:2], sha256, sha256, line[4]] if line[0] == name else line for line in lines]
        path.write_text("".join(json.dumps(line) + "\n" for line in forged))


def test_what_has_not_changed_is_not_read_twice(tmp_path: Path, memory: Path) -> None:
    root = folder(tmp_path / "root", {"a": "1", "b/c": "2", "d": "3"})
    plain = digest_of(root)

    assert digest_of(root, memory=memory) == digest_of(root, memory=memory) == plain
    forge(memory, "b/c", "f" * 64)
    found = {file.name: file.sha256 for file in files_of(root, memory=memory)}
    assert found["b/c"] == "f" * 64
    assert found["d"] == sha256_of_text("3")


@pytest.mark.parametrize("change", ["content", "same size", "moved over", "gone", "another before it"])
def test_what_has_changed_is_read_again(tmp_path: Path, memory: Path, change: str) -> None:
    root = folder(tmp_path / "root", {"a": "1", "b": "2", "c": "3"})
    digest_of(root, memory=memory)
    forge(memory, "b", "f" * 64)
    if change == "content":
        (root / "b").write_text("22")
    elif change == "same size":
        times = (root / "b").stat()
        (root / "b").write_text("4")
        os.utime(root / "b", ns=(times.st_atime_ns, times.st_mtime_ns))
    elif change == "moved over":
        folder(tmp_path / "other", {"b": "2"})
        (tmp_path / "other" / "b").replace(root / "b")
    elif change == "gone":
        (root / "b").unlink()
    else:
        (root / "aa").write_text("new")
        forge(memory, "b", sha256_of_text("2"))

    assert digest_of(root, memory=memory) == digest_of(root)


def test_what_was_written_a_moment_ago_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "REMEMBER_BYTES", 0)
    monkeypatch.setattr(digests, "SETTLED", 3600)
    root = folder(tmp_path / "root", {"a": "1"})

    digest_of(root, memory=tmp_path / "memory")

    assert not (tmp_path / "memory").exists()


def test_small_things_are_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "SETTLED", -60)
    root = folder(tmp_path / "root", {"a": "1"})

    digest_of(root, memory=tmp_path / "memory")

    assert not (tmp_path / "memory").exists()


@pytest.mark.parametrize("damage", ["torn", "garbage", "a folder", "read-only"])
def test_a_broken_memory_costs_time_and_nothing_else(tmp_path: Path, memory: Path, damage: str) -> None:
    root = folder(tmp_path / "root", {"a": "1", "b": "2"})
    plain = digest_of(root, memory=memory)
    (file,) = memory.glob("*.jsonl")
    if damage == "torn":
        file.write_text(file.read_text()[:-20])
    elif damage == "garbage":
        file.write_bytes(b"\xff\xfe[1]\n")
    elif damage == "a folder":
        file.unlink()
        file.mkdir()
    else:
        file.unlink()
        memory.rmdir()
        memory.write_text("no folder")

    assert digest_of(root, memory=memory) == plain


def test_a_question_about_a_file_is_answered_once(tmp_path: Path, memory: Path) -> None:
    root = folder(tmp_path / "root", {"a": "1", "b": "2"})
    asked: list[str] = []

    def answer(path: Path, _size: int) -> bool:
        asked.append(path.name)
        return path.name == "b"

    digest_of(root, memory=memory)  # what is remembered without the question is no answer
    for _ in range(2):
        found = {file.name: file.look for file in files_of(root, memory=memory, look=Look("b?", answer))}
        assert found == {"a": False, "b": True}
    assert asked == ["a", "b"]
    list(files_of(root, memory=memory, look=Look("other?", answer)))
    assert asked == ["a", "b", "a", "b"]


def test_a_folder_of_many_files_needs_no_more_memory_than_one_of_few(
    tmp_path: Path, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "REMEMBER_FILES", 20)
    peaks = []
    for number, count in enumerate((20, 400)):
        root = folder(tmp_path / str(number), {f"{n % 20}/{n}": str(n) for n in range(count)})
        digest_of(root, memory=memory)
        tracemalloc.start()
        digest_of(root, memory=memory)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()

    assert peaks[1] < 2 * peaks[0]
