"""The examples of docs/apis/impuls.md, run by a shell; an answer printed under a command is the answer it gives."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import shell
from tests.server import Server

DOCUMENT = Path(__file__).parents[3] / "docs" / "apis" / "impuls.md"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ADDRESS = "localhost:8080"


@pytest.mark.parametrize("stand_in", [None, True], ids=["curl", "stand-in"])
def test_the_examples(make_server: Callable[..., Server], tmp_path: Path, stand_in: bool | None) -> None:
    server = make_server()
    blocks = BLOCK.findall(DOCUMENT.read_text())
    followed_by = [*blocks[1:], ("", "")]
    answers = 0
    for (language, text), (next_language, printed) in zip(blocks, followed_by, strict=True):
        if language != "sh":
            continue
        assert ADDRESS in text
        output = shell.run(text.replace(ADDRESS, f"localhost:{server.port}"), tmp_path, stand_in=stand_in)
        if next_language == "json":
            assert shell.without_chance(json.loads(output)) == shell.without_chance(json.loads(printed)), text
            answers += 1
    assert answers >= 8
