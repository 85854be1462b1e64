"""The examples of docs/apis/lunar.md, run by a shell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.documents import check_examples
from tests.server import Server


@pytest.mark.parametrize("stand_in", [None, True], ids=["curl", "stand-in"])
def test_the_examples(make_server: Callable[..., Server], tmp_path: Path, stand_in: bool | None) -> None:
    server = make_server()
    before = f"TOKEN={server.token()}\n"
    assert check_examples("apis/lunar.md", server, tmp_path, stand_in=stand_in, before=before) >= 7
