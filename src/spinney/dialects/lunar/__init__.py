"""The Lunar API: HTTP functions in Lua, with versions, entries and schedules. docs/apis/lunar.md tells users about it."""

from spinney.dialects.lunar.dialect import Lunar

__all__ = ["Lunar"]
