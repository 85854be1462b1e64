"""What programs ask of Python and of the server, by name."""

from __future__ import annotations

import time

from .logs import Log
from .services import Services
from .texts import TEXTS
from .times import TIMES
from .urls import URLS

TYPE_CHECKING = False
if TYPE_CHECKING:  # the typing module would only cost start-up time here
    from collections.abc import Callable
    from typing import Any

    from spinney_guest.channel import Channel  # type: ignore[import-not-found]


class Host:
    """Answers the questions of the run that goes on."""

    def __init__(self, channel: Channel) -> None:
        self._log = Log(channel)
        self._services = Services(channel)
        self._answers: dict[bytes, Callable[..., Any]] = {
            b"log": self._log.add,
            b"service": self._services.ask,
            b"time.sleep": _sleep,
            **TEXTS,
            **TIMES,
            **URLS,
        }
        self.begin(0)

    def begin(self, number: int) -> None:
        """From now on it is this call's program that asks."""
        self._log.begin(number)
        self._services.begin(number)

    def answer(self, name: bytes, *arguments: Any) -> Any:
        """One question; a fault of ours is an answer too, for an exception would lead a program to Python's objects."""
        try:
            return self._answers[name](*arguments)
        except Exception as error:
            return None, f"internal error: {type(error).__name__}".encode()


def _sleep(ms: float) -> None:
    time.sleep(min(ms / 1000, 86400.0))
