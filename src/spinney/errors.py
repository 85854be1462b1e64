"""One tree of errors: what went wrong, in a word (``code``) and in a sentence (``message``) that is safe to show a caller.

A dialect turns these into its own shapes. Nothing here may carry a host path, a SQL text or a stack trace in ``message``.
"""

from __future__ import annotations


class Error(Exception):
    """The root. ``code`` names the kind for programs, ``message`` tells a person."""

    code = "error"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class NotFound(Error):
    """What was asked for does not exist, or not for this caller."""

    code = "not_found"


class Conflict(Error):
    """It exists already, or was changed by another at the same time."""

    code = "conflict"


class Invalid(Error):
    """The input breaks a rule; ``field`` names where, when it is one field."""

    code = "invalid"

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class Denied(Error):
    """The caller is not known (``authentication``) or may not do this."""

    code = "denied"


class Busy(Error):
    """No room now: a queue or the memory budget is full."""

    code = "busy"


class Timeout(Error):
    """A time limit was reached."""

    code = "timeout"


class SandboxDied(Error):
    """The sandbox ended by itself: an exit or a signal. ``exit_code`` is 128 + signal for signals, None when unknown."""

    code = "sandbox_died"

    def __init__(self, message: str, exit_code: int | None = None) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class StartFailed(SandboxDied):
    """The sandbox could not be brought to life at all."""

    code = "start_failed"


class OutOfMemory(SandboxDied):
    """The kernel ended the sandbox at its memory limit."""

    code = "out_of_memory"


class Unsupported(Error):
    """This machine, driver or runtime cannot do that; ``message`` says what is missing."""

    code = "unsupported"


class Unavailable(Error):
    """A part that should work does not right now: the store is down, the disk is full, the server is stopping."""

    code = "unavailable"
