# SPDX-License-Identifier: Apache-2.0
"""What is kept of a file that is on its way, when pods are killed and when they come too late."""

import hashlib
from pathlib import Path

from sandbox_runtime.fetch.partial import Partial

V1 = '"v1"'


def a_partial(folder: Path, *, attempt: int = 1, name: str = "pool/rows.jsonl") -> Partial:
    partial = Partial(folder, name, attempt, unique=f"pod {attempt}")
    partial.load()
    return partial


def begun(folder: Path, data: bytes, *, attempt: int = 1, version: str | None = V1) -> Partial:
    partial = a_partial(folder, attempt=attempt)
    partial.begin(version)
    partial.open()
    partial.write(data)
    return partial


def test_a_later_attempt_goes_on_after_what_was_saved(tmp_path: Path) -> None:
    begun(tmp_path, b"one ").save()

    later = a_partial(tmp_path, attempt=2)
    assert (later.version, later.length, later.sha256) == (V1, 4, None)
    later.open()
    later.write(b"two")

    assert later.finish() == hashlib.sha256(b"one two").hexdigest()
    assert later.path.read_bytes() == b"one two"
    assert later.moved == 3


def test_what_a_killed_pod_wrote_and_did_not_save_is_written_again(tmp_path: Path) -> None:
    killed = begun(tmp_path, b"one ")
    killed.save()
    killed.write(b"lost and more")

    later = a_partial(tmp_path, attempt=2)
    assert later.length == 4
    later.open()
    later.write(b"two")

    assert later.finish() == hashlib.sha256(b"one two").hexdigest()
    assert later.path.read_bytes() == b"one two"


def test_a_late_pod_of_an_earlier_attempt_changes_nothing(tmp_path: Path) -> None:
    """It goes on writing the same bytes to the same places, and its record does not count any more."""
    late = begun(tmp_path, b"one ")
    late.save()
    newer = a_partial(tmp_path, attempt=2)
    newer.open()
    newer.write(b"two three")
    digest = newer.finish()

    late.write(b"two")
    late.save()

    assert newer.path.read_bytes() == b"one two three"
    third = a_partial(tmp_path, attempt=3)
    assert (third.length, third.sha256) == (13, digest)


def test_another_version_is_another_file(tmp_path: Path) -> None:
    late = begun(tmp_path, b"old content")
    late.save()
    newer = begun(tmp_path, b"new", attempt=2, version='"v2"')
    newer.finish()

    late.write(b" goes on")

    assert newer.path.read_bytes() == b"new"
    assert a_partial(tmp_path, attempt=3).version == '"v2"'


def test_without_a_version_nothing_is_gone_on_with(tmp_path: Path) -> None:
    first = begun(tmp_path, b"one", version=None)
    first.save()

    later = a_partial(tmp_path, attempt=2)
    assert (later.version, later.length) == (None, 0)
    assert later.path != first.path


def test_a_record_whose_file_is_gone_or_short_does_not_count(tmp_path: Path) -> None:
    first = begun(tmp_path, b"one two")
    first.save()
    first.path.write_bytes(b"one")
    assert a_partial(tmp_path, attempt=2).length == 0

    first.path.unlink()
    assert a_partial(tmp_path, attempt=2).length == 0
