"""The Fluxbase API: edge functions in TypeScript and JavaScript. docs/apis/fluxbase.md tells users about it."""

from spinney.dialects.fluxbase.dialect import Fluxbase

__all__ = ["Fluxbase"]
