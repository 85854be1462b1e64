"""Functions on texts, digests and randomness: bytes in, bytes and numbers out (Lunar contract 3.6 to 3.8)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # the typing module would only cost start-up time here
    from collections.abc import Callable
    from typing import Any

    Fault = tuple[None, bytes]

SPACE = (
    " \t\n\v\f\r\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)
ALPHANUMERIC = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
ID_DIGITS = b"0123456789abcdefghijklmnopqrstuv"
BASE64 = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")


def _decode(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def trim(text: bytes) -> bytes:
    return _encode(_decode(text).strip(SPACE))


def lower(text: bytes) -> bytes:
    return _encode(_decode(text).lower())


def upper(text: bytes) -> bytes:
    return _encode(_decode(text).upper())


def replace(text: bytes, old: bytes, new: bytes, count: int) -> bytes:
    """Nothing is found before each character and at the end."""
    count = max(-1, count)
    if old:
        return text.replace(old, new, count)
    return _encode(_decode(text).replace("", _decode(new), count))


def encode_base64(data: bytes) -> bytes:
    return base64.b64encode(data)


def decode_base64(text: bytes) -> bytes | Fault:
    """Ends of lines do not count; padding is required."""
    compact = text.translate(None, b"\r\n")
    try:
        return binascii.a2b_base64(compact, strict_mode=True)
    except binascii.Error:
        return None, b"illegal base64 data at input byte %d" % find_base64_fault(text)


def find_base64_fault(text: bytes) -> int:
    """Where a text that is not base64 first is not; where it begins to lack something, that is the last group's begin."""
    group = 0  # characters of the group so far
    for at, code in enumerate(text):
        if code in b"\r\n":
            continue
        if code in BASE64:
            group = (group + 1) % 4
            continue
        rest = text[at + 1 :].translate(None, b"\r\n")
        if code != ord("=") or group < 2:
            return at
        if group == 2:
            if not rest:
                return len(text)
            if not rest.startswith(b"="):
                return at
            rest = rest[1:]
        return len(text) - len(rest) if rest else at
    return len(text) - group


def digest(name: bytes, text: bytes) -> bytes:
    return hashlib.new(name.decode(), text, usedforsecurity=False).hexdigest().encode()


def authenticate(name: bytes, message: bytes, key: bytes) -> bytes:
    return hmac.new(key, message, name.decode()).hexdigest().encode()


def make_uuid() -> bytes:
    number = bytearray(secrets.token_bytes(16))
    number[6], number[8] = number[6] & 0x0F | 0x40, number[8] & 0x3F | 0x80
    digits = number.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}".encode()


def make_id() -> bytes:
    """Seven digits of the time, thirteen of chance (Lunar contract 1.2)."""
    number = int(time.time()) << 65 | secrets.randbits(65)
    return bytes(ID_DIGITS[number >> shift & 31] for shift in range(95, -1, -5))


def make_string(size: int) -> bytes:
    """Alphanumeric, each character as likely as the others."""
    made = bytearray()
    while len(made) < size:
        made += bytes(ALPHANUMERIC[byte % 62] for byte in secrets.token_bytes(size - len(made) + 16) if byte < 248)
    return bytes(made[:size])


TEXTS: dict[bytes, Callable[..., Any]] = {
    b"strings.trim": trim,
    b"strings.lower": lower,
    b"strings.upper": upper,
    b"strings.replace": replace,
    b"base64.encode": encode_base64,
    b"base64.decode": decode_base64,
    b"crypto.digest": digest,
    b"crypto.hmac": authenticate,
    b"crypto.uuid": make_uuid,
    b"crypto.equal": lambda a, b: int(hmac.compare_digest(a, b)),
    b"random.int": lambda least, most: least + secrets.randbelow(most - least + 1),
    b"random.float": lambda: secrets.randbits(53) / (1 << 53),
    b"random.string": make_string,
    b"random.bytes": lambda size: base64.b64encode(secrets.token_bytes(size)),
    b"random.hex": lambda size: secrets.token_hex(size).encode(),
    b"random.id": make_id,
}
