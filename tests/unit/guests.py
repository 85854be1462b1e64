"""A bare guest process with a function in it, for the tests of each language's guest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from spinney.model import Call, Function, Reply, Rights, Version
from spinney.ports import Limits, Runtime
from spinney.testing.guest_process import GuestProcess


@contextmanager
def loaded_guest(
    runtime: Runtime, id: str, source: str, *, handler: str = "index.handler", chunk_bytes: int = 0, **fields: Any
) -> Iterator[GuestProcess]:
    """``fields`` are further ones of the version; ``chunk_bytes`` cuts what is sent to the guest into pieces."""
    function = Function(id="f", account_id="a", dialect="unit", name="f", version_id="v", created_at=0.0, updated_at=0.0)
    version = Version(id="v", function_id="f", number=1, runtime=id, handler=handler, source=source, created_at=0.0, **fields)
    guest = GuestProcess(runtime.launch(id, Rights()), chunk_bytes=chunk_bytes)
    try:
        guest.load(runtime.load(function, version, Limits()))
        yield guest
    finally:
        guest.end()


def call(guest: GuestProcess, event: Any = None) -> Reply:
    return guest.invoke(Call("id", json.dumps(event).encode(), 10.0), 10.0)
