"""HTTP as bytes on a socket, for what an ordinary client would never send."""

from __future__ import annotations

import json
import socket
from typing import Any, NamedTuple, Self


class Answer(NamedTuple):
    """One response; header names are lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Wire:
    """One connection to a server on this machine."""

    def __init__(self, port: int, timeout_s: float = 60.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout_s)
        self._reader = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._reader.close()
        self.socket.close()

    def send(self, *parts: bytes | str) -> None:
        self.socket.sendall(b"".join(part.encode() if isinstance(part, str) else part for part in parts))

    def head(self, method: str, path: str, **headers: object) -> None:
        """Send a request line and headers; ``content_length=5`` becomes ``content-length: 5``."""
        fields = {"host": "localhost", **{name.replace("_", "-"): value for name, value in headers.items()}}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        self.send("\r\n".join(lines), "\r\n\r\n")

    def post(self, path: str, body: bytes, **headers: object) -> None:
        self.head("POST", path, content_length=len(body), **headers)
        self.send(body)

    def chunk(self, data: bytes) -> None:
        """One chunk of a chunked body; ``b""`` is the last."""
        self.send(f"{len(data):x}\r\n", data, "\r\n")

    def answer(self) -> Answer:
        """The next response on this connection."""
        status, headers = self.answer_head()
        if 100 <= status < 200:
            return self.answer()
        return Answer(status, headers, self._body(status, headers))

    def answer_head(self) -> tuple[int, dict[str, str]]:
        """The head of the next response, all there is of one to HEAD."""
        status = int(self._line().split()[1])
        headers = {}
        while line := self._line():
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        return status, headers

    def _line(self) -> str:
        line = self._reader.readline()
        assert line.endswith(b"\r\n"), f"the connection ended in the middle of a response: {line!r}"
        return line[:-2].decode("latin-1")

    def _body(self, status: int, headers: dict[str, str]) -> bytes:
        if status in (204, 304):
            return b""
        if headers.get("transfer-encoding") != "chunked":
            return self._reader.read(int(headers.get("content-length", 0)))
        body = b""
        while size := int(self._line(), 16):
            body += self._reader.read(size)
            self._line()
        self._line()
        return body

    def closed(self) -> bool:
        """Wait for the server to close the connection; False when it sends something instead."""
        try:
            return self._reader.read(1) == b""
        except ConnectionResetError:
            return True
