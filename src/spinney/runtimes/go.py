"""Go, compiled to WebAssembly by its own toolchain out of a wheel (NIL contract 6.5)."""

from __future__ import annotations

from spinney.runtimes.compiling import KitCompiler


class GoCompiler(KitCompiler):
    """Go's compiler and linker; the standard library is compiled at set-up."""

    name = "go"
    languages: tuple[str, ...] = ("go",)
    sample = "package main\n\nfunc Handle(input string) string {\n\treturn input\n}\n"
