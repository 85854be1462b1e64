"""``logging`` as log frames (Impuls contract 3.5); what is printed goes its own way, unbuffered."""

from __future__ import annotations

import io
import logging
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # the typing module would only cost start-up time here
    from collections.abc import Callable

INFO, WARN, ERROR = 0, 1, 2


class ChannelHandler(logging.Handler):
    """Hands each record to ``log(level, text)``; in a forked child, which has no channel, to its standard streams."""

    def __init__(self, log: Callable[[int, str], None], is_open: Callable[[], bool]) -> None:
        super().__init__()
        self._log = log
        self._is_open = is_open

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
            level = ERROR if record.levelno >= logging.ERROR else WARN if record.levelno >= logging.WARNING else INFO
            if self._is_open():
                self._log(level, text)
            else:
                print(text, file=sys.stdout if level == INFO else sys.stderr)
        except Exception:
            self.handleError(record)


def capture(log: Callable[[int, str], None], is_open: Callable[[], bool]) -> None:
    """Set up the root logger at INFO, and streams that take any text."""
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    root.addHandler(ChannelHandler(log, is_open))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
