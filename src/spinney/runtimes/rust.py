"""Rust, compiled to WebAssembly by rustc with serde and serde_json (NIL contract 6.5)."""

from __future__ import annotations

from spinney.runtimes.compiling import KitCompiler


class RustCompiler(KitCompiler):
    """Debian's rustc and lld; the crates are compiled at set-up."""

    name = "rust"
    languages: tuple[str, ...] = ("rust",)
    sample = "pub fn handle(input: String) -> String {\n    input\n}\n"
