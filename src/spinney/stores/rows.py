"""Between nouns and rows."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cache
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Column

from spinney.model import Execution
from spinney.stores.tables import EXECUTION_KEYS, TABLES

Noun = TypeVar("Noun", bound=msgspec.Struct)


def to_row(noun: msgspec.Struct) -> dict[str, Any]:
    """The columns of a noun, by name."""
    row: dict[str, Any] = msgspec.to_builtins(noun)
    if isinstance(noun, Execution):
        return {**{name: row[name] for name in EXECUTION_KEYS}, "record": msgspec.json.encode(noun).decode()}
    return row


def columns(kind: type[msgspec.Struct], without: Collection[str] = ()) -> list[Column[Any]]:
    """What must be read of a row for ``from_row``."""
    table = TABLES[kind]
    return [table.c.record] if kind is Execution else [table.c[name] for name in _read(kind, without)]


def from_row(kind: type[Noun], values: Sequence[Any], without: Collection[str] = ()) -> Noun:
    """The noun from the values of ``columns``; fields in ``without`` are empty."""
    if kind is Execution and not without:
        return msgspec.json.decode(values[0], type=kind)
    fields = msgspec.json.decode(values[0]) if kind is Execution else dict(zip(_read(kind, without), values, strict=True))
    for name in without:
        fields.pop(name, None)
        if name in _required(kind):
            fields[name] = _required(kind)[name]()
    return msgspec.convert(fields, kind)


def _read(kind: type[msgspec.Struct], without: Collection[str]) -> list[str]:
    return [name for name in kind.__struct_fields__ if name not in without]


@cache
def _required(kind: type[msgspec.Struct]) -> dict[str, type]:
    """The types of the fields that have no default."""
    return {field.name: field.type for field in msgspec.structs.fields(kind) if field.required}
