"""Addresses in parts, as Go's net/url takes them apart (Lunar contract 3.7)."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:  # the typing module would only cost start-up time here
    from collections.abc import Callable
    from typing import Any

    Fault = tuple[None, bytes]

BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
SCHEME = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*(?=:)")
CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
USER_INFO = re.compile(rb"[A-Za-z0-9\-._:~!$&'()*+,;=%@]*")
PORT = re.compile(rb"(?::[0-9]*)?")
NO_HOST = re.compile(rb"[^A-Za-z0-9\-_.~!$&'()*+,;=:\[\]<>\"%\x80-\xff]")


def check_escapes(text: bytes) -> bytes:
    """Raises ValueError for the first escape that is none."""
    fault = BAD_ESCAPE.search(text)
    if fault:
        raise ValueError(b'invalid URL escape "%s"' % text[fault.start() : fault.start() + 3])
    return text


def unescape(text: bytes) -> bytes:
    return unquote_to_bytes(check_escapes(text))


def unescape_query(text: bytes) -> bytes:
    return unescape(text.replace(b"+", b" "))


def decode(text: bytes) -> bytes | Fault:
    try:
        return unescape_query(text)
    except ValueError as error:
        return None, error.args[0]


def parse(text: bytes) -> bytes | Fault:
    """Scheme, host, path, fragment, user name, password, then the query's names and values, each behind its length in four bytes.

    Behind the fragment is one that says which of user name and password there are: nothing, ``u`` or ``up``.
    """
    try:
        parts = _split(text)
    except ValueError as error:
        return None, b'parse "%s": %s' % (text.replace(b"\\", b"\\\\").replace(b'"', b'\\"'), error.args[0])
    return b"".join(len(part).to_bytes(4, "little") + part for part in parts)


def _split(text: bytes) -> list[bytes]:
    rest, _, fragment = text.partition(b"#")
    if CONTROL.search(rest):
        raise ValueError(b"net/url: invalid control character in URL")
    match = SCHEME.match(rest)
    scheme = match[0].lower() if match else b""
    if rest.startswith(b":"):
        raise ValueError(b"missing protocol scheme")
    rest, _, query = (rest[match.end() + 1 :] if match else rest).partition(b"?")
    if not rest.startswith(b"/"):
        if scheme:
            rest = b""  # mailto:someone has neither host nor path
        elif b":" in rest.partition(b"/")[0]:
            raise ValueError(b"first path segment in URL cannot contain colon")
    host, users = b"", [b"", b"", b""]
    if rest.startswith(b"//") and (scheme or not rest.startswith(b"///")):
        authority, slash, path = rest[2:].partition(b"/")
        rest = slash + path
        user, at, host = authority.rpartition(b"@")
        host = _check_host(host)
        users = _split_user(user) if at else users
    return [scheme, host, unescape(rest), unescape(fragment), *users, *split_query(query)]


def _split_user(user: bytes) -> list[bytes]:
    if not USER_INFO.fullmatch(user):
        raise ValueError(b"net/url: invalid userinfo")
    name, colon, password = user.partition(b":")
    return [b"up" if colon else b"u", unescape(name), unescape(password)]


def _check_host(host: bytes) -> bytes:
    """The host with its port. Only addresses in brackets, and what no host name may have, hold escapes."""
    if host.startswith(b"["):
        name, bracket, port = host.rpartition(b"]")
        if not bracket:
            raise ValueError(b"missing ']' in host")
        if not PORT.fullmatch(port):
            raise ValueError(b'invalid port "%s" after host' % port)
        return unescape(name) + b"]" + port
    name, colon, port = host.rpartition(b":")
    if colon and not PORT.fullmatch(colon + port):
        raise ValueError(b'invalid port "%s" after host' % (colon + port))
    fault = NO_HOST.search(host)
    if fault:
        raise ValueError(b'invalid character "%s" in host name' % fault[0])
    return unescape(host)


def split_query(query: bytes) -> list[bytes]:
    """Names and values in turn; what cannot be read is left out."""
    found: list[bytes] = []
    for pair in query.split(b"&"):
        name, _, value = pair.partition(b"=")
        if not pair or b";" in pair:
            continue
        try:
            found += (unescape_query(name), unescape_query(value))
        except ValueError:
            continue
    return found


URLS: dict[bytes, Callable[..., Any]] = {b"url.decode": decode, b"url.parse": parse}
