"""The layers of docs/ARCHITECTURE.md, read off the imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "spinney"
FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 70

VALUES = {"model", "errors"}
ALLOWED: dict[str, set[str]] = {
    "model": set(),
    "errors": set(),
    "ports": VALUES,
    "config": {"errors"},
    "clock": set(),
    "core": {"ports", "core", *VALUES},
    "http": {"core.kernel", "http", *VALUES},
    "dialects": {"core.kernel", "http", *VALUES},
    "egress": {"ports", *VALUES},
    "drivers": {"ports", "egress.policy", *VALUES},
    "runtimes": {"ports", *VALUES},
    "stores": {"ports", *VALUES},
    "testing": {"ports", "testing", *VALUES},
}
"""What each part may import of ours, besides its own module or package."""

FREE = {"app", "cli", "__main__", "__init__"}
"""``app`` puts everything together and ``cli`` runs it; nobody else may import ``app``."""

OUTSIDE_CORE = ("fastapi", "starlette", "uvicorn", "sqlalchemy", "alembic", "httpx2", "subprocess", "socket", "sqlite3")
"""HTTP, SQL and the operating system stay out of the core."""

ADAPTERS = ("drivers", "runtimes", "stores", "dialects")
SHARED = {
    "drivers": {"channel", "ahead", "hostcalls", "outputs"},
    "runtimes": {"install", "packages", "kits", "guest", "compiling"},
    "stores": {"engine", "rows", "tables"},
    "dialects": set[str](),
}
"""Modules of a package of adapters that all of them may use; all others are siblings that do not know each other."""


def sources() -> Iterator[tuple[str, Path]]:
    for file in sorted(SOURCE.rglob("*.py")):
        if "guests" in file.parts:
            continue
        parts = file.relative_to(SOURCE).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts), file


def imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield node.module or ""


def ours(file: Path) -> Iterator[str]:
    """Modules of ours that a file imports, without the package's name."""
    for name in imports(file):
        if name.startswith("spinney."):
            yield name.removeprefix("spinney.")


MODULES = dict(sources())


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_inwards(module: str) -> None:
    part = module.split(".")[0]
    if part in FREE:
        allowed = None
    else:
        assert part in ALLOWED, f"{module} is in no layer: name it in ALLOWED and in docs/ARCHITECTURE.md"
        allowed = ALLOWED[part]
    for imported in ours(MODULES[module]):
        if imported.split(".")[0] == "app":
            assert part in {"cli", "__main__"}, f"{module} imports app"
        elif allowed is not None and imported.split(".")[0] != part:
            assert any(imported == name or imported.startswith(name + ".") for name in allowed), f"{module} imports {imported}"


@pytest.mark.parametrize("module", [name for name in MODULES if name.split(".")[0] in ADAPTERS and "." in name])
def test_adapters_do_not_know_their_siblings(module: str) -> None:
    package, own = module.split(".")[:2]
    for imported in ours(MODULES[module]):
        parts = imported.split(".")
        if parts[0] == package and len(parts) > 1 and own not in {"sql", "journal"}:
            assert parts[1] in {own, *SHARED[package]}, f"{module} imports its sibling {imported}"


@pytest.mark.parametrize("file", sorted((SOURCE / "runtimes" / "guests").rglob("*.py")), ids=lambda file: file.name)
def test_guests_know_nothing_of_the_server(file: Path) -> None:
    text = file.read_text()
    assert "import spinney." not in text
    assert "from spinney." not in text


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("core")])
def test_the_core_is_free_of_http_sql_and_the_operating_system(module: str) -> None:
    for imported in imports(MODULES[module]):
        assert imported.split(".")[0] not in OUTSIDE_CORE, f"{module} imports {imported}"


@pytest.mark.parametrize("module", MODULES)
def test_files_and_functions_stay_readable(module: str) -> None:
    text = MODULES[module].read_text()
    assert text.count("\n") <= FILE_LINES_MAX, f"{module} is too long"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < FUNCTION_LINES_MAX, f"{module}.{node.name} is too long"
