"""The journal's files: lines appended to numbered segments in a directory that one server owns at a time."""

from __future__ import annotations

import errno
import fcntl
import os
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from spinney.errors import Unavailable


class Segments:
    """Append-only files. ``append`` and ``trim`` are for one thread, ``release`` for one other."""

    def __init__(self, directory: Path, segment_bytes: int) -> None:
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._lock = self._file = -1
        self._path = directory
        self._number = 0
        self._closed: deque[tuple[Path, int]] = deque()
        self._size = segment_bytes  # no file yet: the first append begins one
        self.appended = 0
        """Lines appended since the start."""

    def lock(self) -> None:
        """Make the directory this server's own. Raises Unavailable when another has it."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise Unavailable("another server is using this data directory") from None

    def leftover(self) -> list[Path]:
        """What an earlier server left, oldest first."""
        paths = sorted(self._directory.glob("[0-9]" * 10 + ".journal"))
        if paths:
            self._number = int(paths[-1].stem)
        return paths

    def append(self, record: bytes) -> None:
        """One write of one line. Raises Unavailable, and then nothing of it stays."""
        if self._size >= self._segment_bytes:
            self._begin()
        line = record + b"\n"
        try:
            written = os.write(self._file, line)
        except OSError as error:
            self._undo()
            raise refusal(error) from error
        if written != len(line):  # the disk filled up in the middle
            self._undo()
            raise refusal(OSError(errno.ENOSPC, "short write"))
        self._size += written
        self.appended += 1

    def _undo(self) -> None:
        """Cut off a torn line; when even that fails, leave it as the segment's end, where replay skips it."""
        try:
            os.ftruncate(self._file, self._size)
        except OSError:
            self._size = self._segment_bytes

    def _begin(self) -> None:
        if self._lock < 0:
            raise Unavailable("the journal is closed")
        path = self._directory / f"{self._number + 1:010}.journal"
        try:
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        except OSError as error:
            raise refusal(error) from error
        if self._file >= 0:
            os.close(self._file)
            self._closed.append((self._path, self.appended))
        self._file, self._path, self._size = file, path, 0
        self._number += 1

    def release(self, committed: int) -> None:
        """Delete the segments whose lines are all among the first ``committed``. Not the one being written to."""
        while self._closed and self._closed[0][1] <= committed:
            with suppress(OSError):  # it stays for the next start, which writes the same again
                self._closed.popleft()[0].unlink()

    def trim(self) -> None:
        """Empty the segment being written to; every line must be committed."""
        if self._file >= 0 and self._size:
            with suppress(OSError):
                os.ftruncate(self._file, 0)
                self._size = 0

    def close(self, *, remove: bool = False) -> None:
        """Close the files and let another server have the directory; ``remove`` the segments, when every line is committed."""
        if remove:
            self.release(self.appended)
            if self._file >= 0:
                self._path.unlink(missing_ok=True)
        for file in (self._file, self._lock):
            if file >= 0:
                os.close(file)
        self._file = self._lock = -1
        self._size = self._segment_bytes


def read_lines(path: Path) -> Iterator[bytes]:
    """The lines of a segment, and what follows the last line feed when the write of a line was cut short."""
    return (line for line in path.read_bytes().split(b"\n") if line)


def refusal(error: OSError) -> Unavailable:
    """What to tell a caller about a disk that refused."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return Unavailable("the disk of the data directory is full")
    return Unavailable("the journal cannot be written")
