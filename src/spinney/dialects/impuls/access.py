"""Who may call Impuls: tokens everywhere but on a loopback bind, and a guard against web pages there (contract 1)."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

from spinney.core.kernel import ANONYMOUS, Caller, Kernel
from spinney.errors import Denied
from spinney.http.address import split_port
from spinney.http.bearer import bearer, find_caller
from spinney.http.hot import HotHeaders

REQUIRED = "authentication required"


def identify(kernel: Kernel, headers: HotHeaders) -> Caller:
    """The caller of a request under /api/v1. Raises Denied; ``WrongToken`` for a token that is not known."""
    caller = find_caller(kernel, bearer(headers.authorization))
    if caller is not None:
        return caller
    if not kernel.open_access or not local_host(headers.host) or not same_origin(headers):
        raise Denied(REQUIRED)
    return ANONYMOUS


@lru_cache(maxsize=1024)
def local_host(host: bytes) -> bool:
    """Whether a Host header names this machine in a way no foreign name can: localhost, *.localhost, a loopback address."""
    name = split_port(host.decode("latin-1"))[0].lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def same_origin(headers: HotHeaders) -> bool:
    """Whether the Origin's host and port are those of the Host header, or there is no Origin; ``null`` never is."""
    if headers.origin is None:
        return True
    scheme, separator, authority = headers.origin.decode("latin-1").lower().partition("://")
    if not separator:
        return False
    default = {"http": "80", "https": "443"}.get(scheme, "")
    origin_name, origin_port = split_port(authority)
    name, port = split_port(headers.host.decode("latin-1").lower())
    return (origin_name, origin_port or default) == (name, port or default)
