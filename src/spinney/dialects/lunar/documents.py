"""placeholder"""

from spinney.http.hot import Handler


def document_routes() -> dict[tuple[str, str], Handler]:
    return {}
