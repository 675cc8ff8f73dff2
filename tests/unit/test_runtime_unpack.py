# SPDX-License-Identifier: Apache-2.0
"""Archives that mean harm, that are broken, and that are as they should be."""

import gzip
import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from sandbox_runtime.errors import ConfigError
from sandbox_runtime.fetch import unpack as module
from sandbox_runtime.fetch.unpack import stem_of, unpack

TARS = ["tar", "tar.gz", "tgz", "tar.bz2", "tar.xz"]


def a_zip(path: Path, entries: dict[str, bytes], links: dict[str, str] | None = None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
        for name, target in (links or {}).items():
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr = 3, 0o120777 << 16
            archive.writestr(info, target)
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, size
    return info


def a_tar(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    data = whole.getvalue()
    if path.name.endswith(("gz", "bz2", "xz")):
        with tarfile.open(fileobj=io.BytesIO(data)), _opened(path) as file:
            file.write(data)
    else:
        path.write_bytes(data)
    return path


def _opened(path: Path) -> io.BufferedIOBase:
    import bz2
    import lzma

    kinds = {".bz2": bz2.open, ".xz": lzma.open}
    return kinds.get(path.suffix, gzip.open)(path, "wb")  # type: ignore[operator, no-any-return]


def refused(archive: Path, folder: Path, **limits: int) -> str:
    """What is said of an archive; nothing of it may be left."""
    with pytest.raises(ConfigError) as caught:
        unpack(archive, archive.name, folder, "the archive", **limits)
    assert not folder.exists()
    return str(caught.value)


def test_only_names_of_archives_are_archives() -> None:
    assert stem_of("pool.zip") == "pool"
    assert stem_of("Pool.v2.TAR.GZ") == "Pool.v2"
    assert [stem_of(name) for name in ("rows.jsonl.gz", "model.pt", ".zip", "zip")] == [None] * 4


@pytest.mark.parametrize("suffix", TARS)
def test_tars_of_all_kinds_are_unpacked(tmp_path: Path, suffix: str) -> None:
    large = os.urandom(3_000_000)
    archive = a_tar(
        tmp_path / f"pool.{suffix}",
        (member("./", tarfile.DIRTYPE), b""),
        (member("./pool/rows.jsonl"), b"{}\n"),
        (member("pool/" + "long" * 40 + "/clip.mp4"), large),
        (member("pool/empty"), b""),
        (member("pool/same", tarfile.LNKTYPE, "pool/rows.jsonl"), b""),
        (member("pool/link", tarfile.SYMTYPE, "../pool/rows.jsonl"), b""),
    )

    assert unpack(archive, archive.name, tmp_path / "out", "the archive") == 4

    assert (tmp_path / "out/pool/rows.jsonl").read_bytes() == b"{}\n"
    assert (tmp_path / "out/pool" / ("long" * 40) / "clip.mp4").read_bytes() == large
    assert (tmp_path / "out/pool/same").read_bytes() == b"{}\n"
    assert (tmp_path / "out/pool/link").resolve() == (tmp_path / "out/pool/rows.jsonl").resolve()


def test_the_last_entry_of_a_name_counts(tmp_path: Path) -> None:
    archive = a_tar(tmp_path / "pool.tar", (member("rows"), b"old"), (member("rows"), b"new"))

    unpack(archive, archive.name, tmp_path / "out", "the archive")

    assert (tmp_path / "out/rows").read_bytes() == b"new"


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "a/../evil"])
@pytest.mark.parametrize("suffix", ["zip", "tar"])
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str, suffix: str) -> None:
    path = tmp_path / f"pool.{suffix}"
    archive = a_zip(path, {"good": b"1", name: b"2"}) if suffix == "zip" else a_tar(path, (member(name), b"2"))

    assert "leads out of the folder" in refused(archive, tmp_path / "out")
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "a/../../outside"])
@pytest.mark.parametrize("suffix", ["zip", "tar"])
def test_links_that_lead_out_are_refused(tmp_path: Path, target: str, suffix: str) -> None:
    path = tmp_path / f"pool.{suffix}"
    link = (member("link", tarfile.SYMTYPE, target), b"")
    archive = a_zip(path, {}, {"link": target}) if suffix == "zip" else a_tar(path, link)

    assert "its link 'link' leads out of the folder" in refused(archive, tmp_path / "out")


def test_a_file_can_not_be_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    archive = a_tar(
        tmp_path / "pool.tar",
        (member("door", tarfile.SYMTYPE, "."), b""),
        (member("door/evil"), b"evil"),
    )
    assert "door" in refused(archive, tmp_path / "out")

    archive = a_tar(tmp_path / "hard.tar", (member("same", tarfile.LNKTYPE, "../outside/file"), b""))
    (tmp_path / "outside/file").write_bytes(b"theirs")
    assert "leads out of the folder" in refused(archive, tmp_path / "out")


def test_links_that_lead_out_together_are_refused(tmp_path: Path) -> None:
    """Each alone, read as text, stays inside."""
    archive = a_tar(
        tmp_path / "pool.tar",
        (member("d/e/file"), b"1"),
        (member("d/e/up", tarfile.SYMTYPE, "../.."), b""),
        (member("out", tarfile.SYMTYPE, "d/e/up/../x"), b""),
    )
    assert "its link 'out' leads out of the folder" in refused(archive, tmp_path / "out")

    circle = a_tar(
        tmp_path / "circle.tar", (member("a", tarfile.SYMTYPE, "b"), b""), (member("b", tarfile.SYMTYPE, "a"), b"")
    )
    assert "leads out of the folder" in refused(circle, tmp_path / "out")


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices_and_pipes_are_refused(tmp_path: Path, kind: bytes) -> None:
    archive = a_tar(tmp_path / "pool.tar", (member("dev", kind), b""))

    assert "its entry 'dev' is neither a file, a folder nor a link" in refused(archive, tmp_path / "out")


@pytest.mark.parametrize("suffix", ["zip", "tar.gz"])
def test_a_bomb_is_refused_by_its_unpacked_size(tmp_path: Path, suffix: str) -> None:
    zeros = bytes(20_000_000)
    path = tmp_path / f"bomb.{suffix}"
    archive = a_zip(path, {"zeros": zeros}) if suffix == "zip" else a_tar(path, (member("zeros"), zeros))
    assert archive.stat().st_size < 100_000

    said = refused(archive, tmp_path / "out", max_bytes=10_000_000)

    assert said.startswith("extraConfigs.max_unpacked_bytes: the archive unpacks to more than 10.0 MB")
    unpack(archive, archive.name, tmp_path / "out", "the archive")  # an archive of this size may


def test_by_default_an_archive_may_grow_a_hundredfold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEAST_LIMIT", 1_000_000)
    archive = a_zip(tmp_path / "bomb.zip", {f"zeros{number}": bytes(5_000_000) for number in range(4)})

    assert "max_unpacked_bytes" in refused(archive, tmp_path / "out")


def test_many_empty_files_count_too(tmp_path: Path) -> None:
    archive = a_tar(tmp_path / "pool.tar.gz", *((member(f"empty{number}"), b"") for number in range(3000)))

    assert "max_unpacked_bytes" in refused(archive, tmp_path / "out", max_bytes=1_000_000)


@pytest.mark.parametrize("suffix", TARS)
@pytest.mark.parametrize("left", [0.3, 0.6, 0.93])
def test_a_tar_that_breaks_off_is_refused(tmp_path: Path, suffix: str, left: float) -> None:
    members = [(member(f"file{number}"), os.urandom(10_000 + number)) for number in range(20)]
    archive = a_tar(tmp_path / f"pool.{suffix}", *members)
    data = archive.read_bytes()
    archive.write_bytes(data[: int(len(data) * left)])

    assert "archive" in refused(archive, tmp_path / "out")


def test_a_damaged_header_in_the_middle_is_refused(tmp_path: Path) -> None:
    archive = a_tar(tmp_path / "pool.tar", *((member(f"file{number}"), b"x" * 512) for number in range(4)))
    data = bytearray(archive.read_bytes())
    data[2 * 1024 + 10] ^= 0xFF
    archive.write_bytes(data)

    assert "it breaks off in the middle" in refused(archive, tmp_path / "out")


def test_a_damaged_zip_is_refused(tmp_path: Path) -> None:
    archive = a_zip(tmp_path / "pool.zip", {"file": os.urandom(10_000)})
    data = bytearray(archive.read_bytes())
    data[5_000] ^= 0xFF
    archive.write_bytes(data)

    assert "is no whole archive" in refused(archive, tmp_path / "out")
    archive.write_bytes(data[:5_000])
    assert "is no whole archive" in refused(archive, tmp_path / "out")


def test_entries_that_want_one_place_are_refused(tmp_path: Path) -> None:
    archive = a_zip(tmp_path / "pool.zip", {"a": b"1", "a/b": b"2"})

    assert "two of its entries want the same place" in refused(archive, tmp_path / "out")


def test_an_encrypted_zip_says_so(tmp_path: Path) -> None:
    archive = a_zip(tmp_path / "pool.zip", {"file": b"1"})
    data = bytearray(archive.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(data)

    assert "it is encrypted" in refused(archive, tmp_path / "out")
