"""What the tests of every API use: a client of one account, names nobody used before, many things at once."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import httpx2

UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_numbers = itertools.count(1)
T = TypeVar("T")
S = TypeVar("S")


def unique(prefix: str = "f") -> str:
    """A name nobody used before."""
    return f"{prefix}-{next(_numbers)}"


def together(work: Callable[[S], T], items: Iterable[S]) -> list[T]:
    """Do ``work`` on all items at once, each in a thread of its own; results in the order of the items."""
    listed = list(items)
    with ThreadPoolExecutor(len(listed)) as pool:
        return list(pool.map(work, listed))


class Client:
    """HTTP as one account. ``base`` is where an API is mounted, without ``/api/v1``."""

    def __init__(self, base: str, token: str | None = None) -> None:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=50)
        self.http = httpx2.Client(base_url=base, headers=headers, timeout=90, limits=limits, trust_env=False)

    def close(self) -> None:
        self.http.close()

    def send(self, method: str, path: str, text: str | bytes | None = None, **options: Any) -> httpx2.Response:
        """A request whose body is exactly ``text``."""
        return self.http.request(method, path, content=text, **options)
