"""What an execution logs: one frame for each entry, within the limits of NIL contract 6.1."""

from __future__ import annotations

from time import monotonic

from spinney_guest.channel import log_frame  # type: ignore[import-not-found]

TYPE_CHECKING = False
if TYPE_CHECKING:  # only for annotations: imports cost start-up time here
    from spinney_guest.channel import Channel

INFO, WARN = 0, 1
ENTRIES_MAX = 1000
ENTRY_BYTES_MAX = 16384
BYTES_MAX = 262144
TRUNCATED = b"[logs truncated]"
HELD_BYTES = 32768
HELD_S = 0.1


class Log:
    """The log of one execution. Frames are held for a moment, so that they leave together, and at the latest with the result."""

    def __init__(self, channel: Channel, call: int) -> None:
        self._channel = channel
        self._call = call
        self._frames = bytearray()
        self._sent_at = 0.0
        self._entries = 0
        self._bytes_left = BYTES_MAX
        self._cut = False
        self.full = False

    def add(self, text: str, level: int = INFO) -> None:
        """One entry, or as much of it as is kept."""
        if self.full:
            return
        entry = text.encode("utf-8", "replace")
        if len(entry) > ENTRY_BYTES_MAX:
            entry = entry[:ENTRY_BYTES_MAX].decode("utf-8", "ignore").encode()
            self._cut = True
        if self._entries == ENTRIES_MAX or len(entry) > self._bytes_left:
            self.full = True
            return
        self._entries += 1
        self._bytes_left -= len(entry)
        self._frames += log_frame(self._call, level, entry)
        now = monotonic()
        if len(self._frames) > HELD_BYTES or now - self._sent_at > HELD_S:
            self._sent_at = now
            self._channel.send(self._frames)
            self._frames = bytearray()

    def end(self) -> bytes:
        """The frames that have not been sent."""
        if self.full or self._cut:
            self._frames += log_frame(self._call, INFO, TRUNCATED)
        return bytes(self._frames)
