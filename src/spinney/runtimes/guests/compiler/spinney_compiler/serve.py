"""The guest's loop: one source at a time, and nothing that is left of it for the next."""

from __future__ import annotations

import os
import tempfile

from spinney_guest.channel import INVOKE, LOST_CHANNEL, WARM, result_frame, split_invoke  # type: ignore[import-not-found]

from .programs import TEXT_BYTES, Crashed, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:  # only for annotations: imports cost start-up time here
    from typing import NoReturn, Protocol

    from spinney_guest.channel import Channel

    class Compiler(Protocol):
        version: str

        def build(self, source: bytes, directory: str) -> str:
            """The path of the module made from a source; ``directory`` is empty, and its own. Raises Refused, Crashed."""


OK = 0
MODULE_BYTES_MAX = 16 << 20


def serve(channel: Channel, compiler: Compiler) -> NoReturn:
    """Until the host closes the channel."""
    channel.send_ready(compiler.version)
    while True:
        kind, number, payload = channel.receive()
        if kind == INVOKE:
            result, content = _build(compiler, split_invoke(payload)[2])
            channel.send(result_frame(number, OK, content, b'{"kind":"%s"}' % result))
        elif kind == WARM:  # each build starts its programs anew: there is nothing to keep warm
            channel.send_ready(compiler.version)
        else:
            os._exit(LOST_CHANNEL)


def _build(compiler: Compiler, source: bytes) -> tuple[bytes, bytes]:
    """What came of a source: its kind, and the module or a text."""
    with tempfile.TemporaryDirectory() as directory:
        try:
            with open(compiler.build(source, directory), "rb") as file:
                module = file.read(MODULE_BYTES_MAX + 1)
                size = os.fstat(file.fileno()).st_size
        except Refused as refusal:
            return b"diagnostics", _cut(str(refusal))
        except Crashed as crash:
            return b"crash", _cut(str(crash))
    if size > MODULE_BYTES_MAX:
        return b"diagnostics", b"Module is too large: %d bytes (limit %d)" % (size, MODULE_BYTES_MAX)
    return b"module", module


def _cut(text: str) -> bytes:
    """The beginning of a text, as UTF-8."""
    return text.strip().encode("utf-8", "replace")[:TEXT_BYTES].decode("utf-8", "ignore").encode()
