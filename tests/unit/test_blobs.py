"""Blobs as files: whole or not there, for the owner's eyes, and gone when nobody needs them."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from spinney.errors import Invalid, Unavailable
from spinney.stores import blobs as module
from spinney.stores.blobs import FileBlobs

pytestmark = pytest.mark.anyio

OWN = "ab" * 32
DAY = 86400.0


@pytest.fixture
def blobs(tmp_path: Path) -> FileBlobs:
    return FileBlobs(tmp_path / "blobs")


async def test_a_blob_goes_by_its_hash(blobs: FileBlobs, tmp_path: Path) -> None:
    name = await blobs.put(b"content")
    assert name == hashlib.sha256(b"content").hexdigest() == await blobs.put(b"content")
    assert await FileBlobs(tmp_path / "blobs").get(name) == b"content"
    assert await blobs.get(OWN) is None


async def test_a_blob_may_have_a_name_of_the_callers(blobs: FileBlobs) -> None:
    assert await blobs.put(b"first", OWN) == OWN
    await blobs.put(b"second", OWN)
    assert await blobs.get(OWN) == b"second"


@pytest.mark.parametrize("name", ["../../etc/passwd", "ab", OWN.upper(), OWN + "\n"])
async def test_names_are_hashes(blobs: FileBlobs, name: str) -> None:
    with pytest.raises(Invalid):
        await blobs.get(name)
    with pytest.raises(Invalid):
        await blobs.put(b"", name)


async def test_only_the_owner_reads_them(blobs: FileBlobs, tmp_path: Path) -> None:
    await blobs.put(b"content")
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "blobs").rglob("*")}
    assert modes == {0o700, 0o600}
    assert (tmp_path / "blobs").stat().st_mode & 0o777 == 0o700


async def test_a_sweep_takes_what_is_old_and_not_needed(blobs: FileBlobs, tmp_path: Path) -> None:
    kept, used, old, new = [await blobs.put(text) for text in (b"kept", b"used", b"old", b"new")]
    for name in (kept, used, old):
        os.utime(tmp_path / "blobs" / name[:2] / name, (1.0, time.time() - 2 * DAY))
    await blobs.get(used)
    assert await blobs.sweep({kept}, DAY) == 1
    assert [await blobs.get(name) is not None for name in (kept, used, old, new)] == [True, True, False, True]
    assert await blobs.sweep({kept}, DAY) == 0


async def test_a_sweep_of_nothing(blobs: FileBlobs) -> None:
    assert await blobs.sweep((), 0.0) == 0


async def test_a_writer_that_was_killed_leaves_no_blob(tmp_path: Path) -> None:
    program = f"""
import asyncio, os, signal
from spinney.stores import blobs
blobs.os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(blobs.FileBlobs(blobs.Path({str(tmp_path / "blobs")!r})).put(b"content"))
"""
    process = subprocess.run([sys.executable, "-c", program], check=False)  # noqa: ASYNC221  it ends at once
    assert process.returncode == -9
    blobs = FileBlobs(tmp_path / "blobs")
    assert await blobs.get(hashlib.sha256(b"content").hexdigest()) is None
    assert len(list((tmp_path / "blobs").glob("*/.partial-*"))) == 1
    await blobs.sweep((), -DAY)
    assert list((tmp_path / "blobs").glob("*/*")) == []


async def test_a_disk_that_is_full(blobs: FileBlobs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(Unavailable, match=r"^the artifact could not be kept: No space left on device$"):
        await blobs.put(b"content")
    monkeypatch.undo()
    assert [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()] == []
    await blobs.put(b"content")
