"""How a module is called and what it may call: one class for each way that compilers have of passing strings."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:  # only for annotations: imports cost start-up time here
    from .logs import Log
    from .machine import Machine

OUTPUT_BYTES_MAX = 10_000_000
INVALID = "Function returned an invalid string"


class Interface:
    """Between the JSON texts of calls and a machine's instances. ``log`` is that of the running call."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.log: Log

    def begin(self, log: Log) -> None:
        """A call begins that has this log."""
        self.log = log

    def handle(self, body: bytes) -> bytes:
        """The output for an input, as the new instance has it. Raises Failed."""
        raise NotImplementedError

    def finish(self, output: bytes) -> bytes:
        """The JSON text of an output, when the instance is gone. Raises ValueError when it is none."""
        raise NotImplementedError

    def end(self) -> None:
        """The call is over."""


def too_large(size: int) -> str:
    """The message for an output of so many bytes."""
    return f"Output too large: {size} bytes (limit {OUTPUT_BYTES_MAX})"
