"""Host and port as they stand in a Host header, an Origin or a URL."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache

_NAME = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?", re.ASCII | re.IGNORECASE)


def split_port(authority: str) -> tuple[str, str]:
    """Host without brackets, and port or ""."""
    if authority.startswith("["):
        name, _, rest = authority[1:].partition("]")
        return name, rest.removeprefix(":")
    name, _, port = authority.partition(":")
    return name, port


def join_port(host: str, port: int) -> str:
    """``host:port``, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@lru_cache(maxsize=1024)
def is_authority(text: str) -> bool:
    """Whether a URL can have this as its host and port: any client can send any text as its Host."""
    name, port = split_port(text)
    bracketed = text.startswith("[")
    if text not in (authority := f"[{name}]" if bracketed else name, f"{authority}:{port}"):
        return False
    if port and not (port.isascii() and port.isdigit() and int(port) < 65536):
        return False
    return _is_address(name) if bracketed or name.rstrip(".").rpartition(".")[2].isdigit() else _NAME.fullmatch(name) is not None


def _is_address(name: str) -> bool:
    try:
        return bool(ipaddress.ip_address(name))
    except ValueError:
        return False


def full_url(public_url: str, host: bytes, path: str, query: bytes) -> str:
    """What a client asked for: under the host that it named, or the server's own name when no URL can have that."""
    scheme, _, rest = public_url.partition("://")
    named = host.decode("latin-1")
    url = f"{scheme}://{named if is_authority(named) else rest.partition('/')[0]}{path}"
    return f"{url}?{query.decode('latin-1')}" if query else url
