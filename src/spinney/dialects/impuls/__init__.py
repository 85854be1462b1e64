"""The Impuls API: one source file, one handler, invoked by POST. docs/apis/impuls.md tells users about it."""

from spinney.dialects.impuls.dialect import Impuls

__all__ = ["Impuls"]
