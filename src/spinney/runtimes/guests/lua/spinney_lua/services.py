"""Questions to the services of the server (docs/guest-channel.md): one at a time, for programs wait for each answer."""

from __future__ import annotations

import json
import os
import struct

from spinney_guest.channel import INVOKE, LOST_CHANNEL, result_frame  # type: ignore[import-not-found]

TYPE_CHECKING = False
if TYPE_CHECKING:  # only for annotations: imports cost start-up time here
    from spinney_guest.channel import Channel

HOST_CALL, HOST_REPLY = 6, 7
NOT_BEGUN = 6
JSON_MAX = 1 << 20
DATA_MAX = 10 << 20
SAID = b'{"ok":'
_FRAME = struct.Struct("<IIBII")
_PREFIX = struct.Struct("<II")


class Services:
    """What the host does for the run that goes on."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._call = 0
        self._request = 0

    def begin(self, number: int) -> None:
        """From now on it is this call that asks."""
        self._call = number

    def ask(self, service: bytes, method: bytes, args: bytes, data: bytes) -> tuple[bytes | None, bytes]:
        """The JSON text of what a service says, and the bytes beside it; None and a message when it refuses."""
        text = b'{"service":"%s","method":"%s","args":%s}' % (service, method, args)
        if len(text) > JSON_MAX or len(data) > DATA_MAX:
            return None, b"the request is too large"
        self._request += 1
        head = _FRAME.pack(_PREFIX.size + len(text) + len(data), self._call, HOST_CALL, self._request & 0xFFFFFFFF, len(text))
        self._channel.send(b"".join((head, text, data)))
        size, answer = self._wait()
        said = answer[_PREFIX.size : _PREFIX.size + size]
        if said.startswith(SAID):
            return said[len(SAID) : -1], answer[_PREFIX.size + size :]
        return None, str(json.loads(said)["error"]).encode("utf-8", "replace")

    def _wait(self) -> tuple[int, bytes]:
        """The answer to the last request. A call that was sent ahead need not wait for the end of this one."""
        while True:
            kind, call, payload = self._channel.receive()
            if kind == INVOKE:
                self._channel.send(result_frame(call, NOT_BEGUN, b""))
            elif kind != HOST_REPLY:
                os._exit(LOST_CHANNEL)
            else:
                request, size = _PREFIX.unpack_from(payload)
                if call == self._call and request == self._request & 0xFFFFFFFF:
                    return size, payload
