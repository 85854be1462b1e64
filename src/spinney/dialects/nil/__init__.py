"""The NIL API: source is compiled to WebAssembly and executed with a JSON object. docs/apis/nil.md tells users about it."""

from spinney.dialects.nil.dialect import Nil

__all__ = ["Nil"]
