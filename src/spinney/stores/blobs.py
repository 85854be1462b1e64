"""Blobs as files: ``<directory>/<first two characters>/<name>``, each complete or not there at all."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import tempfile
import time
from collections.abc import Collection
from pathlib import Path

from spinney.errors import Invalid, Unavailable

NAME = re.compile(r"[0-9a-f]{64}")
PARTIAL = ".partial-"


class FileBlobs:
    """Implements ports.Blobs. A file's modification time is when it was last put or read."""

    def __init__(self, directory: Path) -> None:
        """The directory is made at first use, for its owner only."""
        self._directory = directory

    async def put(self, data: bytes, name: str = "") -> str:
        """Keep ``data``; durable when it returns. Raises Unavailable (a full disk), Invalid for a name that is no SHA-256."""
        name = name or hashlib.sha256(data).hexdigest()
        await asyncio.to_thread(self._put, self._path(name), data)
        return name

    async def get(self, name: str) -> bytes | None:
        """None when there is no such blob. Raises Unavailable, Invalid."""
        return await asyncio.to_thread(self._get, self._path(name))

    async def sweep(self, keep: Collection[str], idle_s: float) -> int:
        """Remove those not in ``keep`` that were neither put nor read for ``idle_s`` seconds, and what killed writers left."""
        return await asyncio.to_thread(self._sweep, frozenset(keep), time.time() - idle_s)

    def _path(self, name: str) -> Path:
        if not NAME.fullmatch(name):
            raise Invalid("a blob's name is a SHA-256 in hex")
        return self._directory / name[:2] / name

    def _put(self, path: Path, data: bytes) -> None:
        try:
            self._make_directory(path.parent)
            fd, partial = tempfile.mkstemp(prefix=PARTIAL, dir=path.parent)
            try:
                with os.fdopen(fd, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(fd)
                os.replace(partial, path)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(partial)
                raise
            _sync(path.parent)
        except OSError as error:
            raise Unavailable(f"the artifact could not be kept: {error.strerror}") from error

    def _make_directory(self, directory: Path) -> None:
        for place in (self._directory, directory):
            with contextlib.suppress(FileExistsError):
                place.mkdir(mode=0o700)
                _sync(place.parent)

    def _get(self, path: Path) -> bytes | None:
        try:
            data = path.read_bytes()
            os.utime(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Unavailable(f"the artifact could not be read: {error.strerror}") from error
        return data

    def _sweep(self, keep: frozenset[str], before: float) -> int:
        removed = 0
        for path in self._directory.glob("*/*"):
            with contextlib.suppress(FileNotFoundError):
                if path.name not in keep and path.stat().st_mtime < before:
                    path.unlink()
                    removed += not path.name.startswith(PARTIAL)
        return removed


def _sync(directory: Path) -> None:
    """Make the names in a directory durable."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
