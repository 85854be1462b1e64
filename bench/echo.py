"""The baseline in Python: the least an ASGI application can do with a request, under the server that Spinney uses."""

from __future__ import annotations

import socket
from typing import Any

import uvicorn


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Read the body and send it back as JSON."""
    parts = []
    more = True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    body = b"".join(parts)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


if __name__ == "__main__":
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    config = uvicorn.Config(
        echo, http="httptools", loop="uvloop", ws="none", lifespan="off", access_log=False, log_level="error", server_header=False
    )
    uvicorn.Server(config).run(sockets=[listener])
