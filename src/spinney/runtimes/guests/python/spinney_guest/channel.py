"""The guest's end of the channel (docs/guest-channel.md): blocking reads, whole frames in one write each."""

from __future__ import annotations

import os
import struct
import threading

READY, LOAD, INVOKE, RESULT, LOG, WARM = 1, 2, 3, 4, 5, 10
LOST_CHANNEL = 70  # exit code: the channel was closed or broken from the inside

_HEADER = struct.Struct("<IIB")
_RESULT_HEADER = struct.Struct("<IIBBI")
_LOG_HEADER = struct.Struct("<IIBB")
_INVOKE_HEADER = struct.Struct("<III")
_CHUNK_BYTES = 1 << 20


def split_invoke(payload: bytes) -> tuple[int, str, bytes]:
    """The time limit in milliseconds, the id and the body of an invoke frame."""
    timeout_ms, id_size, meta_size = _INVOKE_HEADER.unpack_from(payload)
    id_end = _INVOKE_HEADER.size + id_size
    return timeout_ms, payload[_INVOKE_HEADER.size : id_end].decode(), payload[id_end + meta_size :]


def result_frame(call: int, outcome: int, body: bytes, meta: bytes = b"") -> bytes:
    """The answer to a call."""
    return b"".join((_RESULT_HEADER.pack(5 + len(meta) + len(body), call, RESULT, outcome, len(meta)), meta, body))


def log_frame(call: int, level: int, text: bytes) -> bytes:
    """One entry of a call's log."""
    return _LOG_HEADER.pack(len(text) + 1, call, LOG, level) + text


class Channel:
    """Frames over a blocking stream socket. Threads may send; only the main one receives."""

    def __init__(self, fd: int) -> None:
        os.set_inheritable(fd, False)
        self._fd = fd
        self._lock = threading.RLock()
        self._exit = os._exit
        self._read = os.read
        self._write = os.write
        os.register_at_fork(after_in_child=self._leave)

    def _leave(self) -> None:
        """A forked child is not the guest: it keeps no hold on the channel, and ends should it come back to the guest's loop."""
        fd, self._fd = self._fd, -1
        self._lock = threading.RLock()
        if fd >= 0:
            os.close(fd)

    @property
    def is_open(self) -> bool:
        """False in a forked child."""
        return self._fd >= 0

    def receive(self) -> tuple[int, int, bytes]:
        """Block until a frame is complete: (kind, call, payload)."""
        length, call, kind = _HEADER.unpack(self._exactly(9))
        return kind, call, self._exactly(length) if length else b""

    def _exactly(self, size: int) -> bytes:
        """Never more: what has not been read of a call that stands behind this one can be given to another sandbox."""
        data = self._more(min(size, _CHUNK_BYTES))
        if len(data) == size:
            return data
        parts = [data]
        missing = size - len(data)
        while missing > 0:
            part = self._more(min(missing, _CHUNK_BYTES))
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def _more(self, size: int) -> bytes:
        try:
            data = self._read(self._fd, size)
        except OSError:
            self._exit(LOST_CHANNEL)
        if not data:
            self._exit(0)  # the host is done with this sandbox
        return data

    def send_ready(self, version: str) -> None:
        """Tell the host that the runtime is booted."""
        payload = b'{"version":"%s"}' % version.encode()
        self.send(_HEADER.pack(len(payload), 0, READY) + payload)

    def send_result(self, call: int, outcome: int, body: bytes) -> None:
        """Answer a call."""
        self.send(result_frame(call, outcome, body))

    def send_log(self, call: int, level: int, text: bytes) -> None:
        """One entry of a call's log; it has left the process when this returns."""
        self.send(log_frame(call, level, text))

    def send(self, data: bytes | bytearray | memoryview) -> None:
        """Whole frames, as the functions below make them."""
        try:
            with self._lock:
                written = self._write(self._fd, data)
                while written < len(data):
                    data = memoryview(data)[written:]
                    written = self._write(self._fd, data)
        except OSError:
            self._exit(LOST_CHANNEL)
