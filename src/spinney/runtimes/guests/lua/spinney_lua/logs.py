"""What a run logs: a frame for each row, sent at once, for the sandbox may be ended at any time (Lunar contract 3.3)."""

from __future__ import annotations

from spinney_guest.channel import log_frame  # type: ignore[import-not-found]

TYPE_CHECKING = False
if TYPE_CHECKING:  # only for annotations: imports cost start-up time here
    from spinney_guest.channel import Channel

WARN = 1
ROWS_MAX = 10000
ROW_BYTES_MAX = 65536
BYTES_MAX = 16 << 20
TRUNCATED = b" [TRUNCATED]"
FULL = b"Log limit reached; further messages dropped"


class Log:
    """The log of one run after the other."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def begin(self, number: int) -> None:
        """A new call, and an empty log."""
        self._number = number
        self._rows_left = ROWS_MAX
        self._bytes_left = BYTES_MAX

    def add(self, level: int, text: bytes) -> None:
        """One row, or as much of it as is kept. Behind the last that fits stands one that says so."""
        if self._rows_left < 0:
            return
        self._rows_left -= 1
        if len(text) > ROW_BYTES_MAX:
            text = text[:ROW_BYTES_MAX] + TRUNCATED
        self._bytes_left -= len(text) + 1
        if self._rows_left < 0 or self._bytes_left < 0:
            self._rows_left = -1
            level, text = WARN, FULL
        self._channel.send(log_frame(self._number, level, text))
