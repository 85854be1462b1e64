"""Runs the examples of a document of docs/: what is printed under a command is what it prints."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests import shell
from tests.server import Server

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ADDRESS = "localhost:8080"


def check_examples(name: str, server: Server, directory: Path, *, stand_in: bool | None, before: str = "") -> int:
    """Run every ``sh`` block, behind the script ``before``, and compare with the ``json`` or ``text`` block that follows it.

    The number of comparisons.
    """
    blocks = BLOCK.findall((DOCS / name).read_text())
    compared = 0
    for (language, text), (next_language, printed) in zip(blocks, [*blocks[1:], ("", "")], strict=True):
        if language != "sh":
            continue
        assert ADDRESS in text
        output = shell.run(before + text.replace(ADDRESS, f"localhost:{server.port}"), directory, stand_in=stand_in)
        if next_language == "json":
            assert shell.without_chance(json.loads(output)) == shell.without_chance(json.loads(printed)), text
        elif next_language == "text":
            assert output.replace("\r", "") == printed, text
        compared += next_language in ("json", "text")
    return compared
