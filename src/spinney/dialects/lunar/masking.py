"""What records must not tell: secrets in headers, queries and lines of text (contract 3.12); those in JSON are the core's."""

from __future__ import annotations

import re
from collections.abc import Mapping

from spinney.core.kernel import REDACTED

_HEADER = re.compile(
    "authorization|cookie|x-api-key|x-auth-token|proxy-authorization|token|key|secret|password|auth", re.IGNORECASE
)
_QUERY = re.compile("api_key|apikey|access_token|token|secret|password|auth|key", re.IGNORECASE)
_TEXTS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"eyJ[A-Za-z0-9_-]+\.eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+",
        r"bearer\s+[A-Za-z0-9_.-]+",
        r"(?:api_key|api-key|apikey|key)[\s:=]+[A-Za-z0-9_-]{15,}",
        r"(?:token|secret|password)[\s:=]+[A-Za-z0-9_-]{10,}",
        r"AKIA[A-Z0-9]{16}",
        r"(?:secret|token|password)[\s:=]+[A-Za-z0-9+/=]{40,}",
    )
)
_SUSPECT = re.compile("eyJ|bearer|key|token|secret|password|AKIA", re.IGNORECASE)


def mask_headers(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: REDACTED if _HEADER.search(name) else value for name, value in headers.items()}


def mask_query(query: Mapping[str, str]) -> dict[str, str]:
    return {name: REDACTED if _QUERY.search(name) else value for name, value in query.items()}


def mask_text(text: str) -> str:
    """A log message, or an error's."""
    if _SUSPECT.search(text):
        for pattern in _TEXTS:
            text = pattern.sub(REDACTED, text)
    return text
