"""``kv`` and ``env``: entries that functions keep, by key. Keys and values are bytes, and travel beside the JSON."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

import msgspec

from spinney.core.entries import LIMITS, Entries, Unknown
from spinney.core.services.asker import Asker, read_args, unknown_method
from spinney.errors import Invalid
from spinney.ports import Answer, Scope

PAGE_BYTES = 1 << 20
PAGE_KEYS = 1000
INTEGER = re.compile(rb"-?[0-9]{1,19}")
INTEGER_MAX = (1 << 63) - 1
NOT_AN_INTEGER = "value is not an integer"
FULL = "no room for the value"

YES, NO = Answer(True), Answer(False)


class Args(msgspec.Struct):
    """What methods take; the lengths say where keys and values end in the data beside them (docs/guest-channel.md)."""

    of_account: bool = msgspec.field(name="global", default=False)
    key_bytes: int = 0
    expected_bytes: int | None = None
    new_bytes: int | None = None
    by: int = 1


_decoder = msgspec.json.Decoder(Args)
_PLAIN = Args()


class KeyValues:
    """A function's entries of one kind, and those of its account where they are to be had."""

    def __init__(self, entries: Entries, name: str, kind: str, account_kind: str | None = None) -> None:
        self._entries = entries
        self._name = name
        self._kind = kind
        self._account_kind = account_kind
        self._methods: dict[str, Callable[[Scope, Args, bytes], Awaitable[Answer]]] = {
            "set": self._set,
            "delete": self._delete,
            "list": self._list,
            "all": self._all,
            "incr": self._incr,
            "cas": self._cas,
        }

    def answer(self, asker: Asker, method: str, args: bytes, data: bytes) -> Answer | Awaitable[Answer]:
        """As ports.Services.answer; what is in memory is answered at once."""
        given = _PLAIN if args == b"{}" else read_args(args, _decoder)
        if given.of_account and self._account_kind:
            scope = Scope(self._account_kind, asker.function.account_id)
        else:
            scope = Scope(self._kind, asker.function.id)
        if method == "get":
            value = self._entries.peek(scope, data) if 0 < len(data) <= LIMITS[scope.kind].key else None
            return self._get(scope, data) if isinstance(value, Unknown) else _found(value)
        work = self._methods.get(method)
        if work is None:
            raise unknown_method(self._name, method)
        return work(scope, given, data)

    async def _get(self, scope: Scope, key: bytes) -> Answer:
        return _found(await self._entries.get(scope, key))

    async def _set(self, scope: Scope, args: Args, data: bytes) -> Answer:
        key, value = _split(data, args.key_bytes)
        return await self._put(scope, key, value)

    async def _delete(self, scope: Scope, args: Args, data: bytes) -> Answer:
        return await self._put(scope, data, None)

    async def _put(self, scope: Scope, key: bytes, value: bytes | None) -> Answer:
        return YES if await self._entries.put(scope, key, value) else NO

    async def _list(self, scope: Scope, args: Args, data: bytes) -> Answer:
        keys = await self._entries.keys(scope, after=data, limit=PAGE_KEYS)
        return Answer({"more": len(keys) == PAGE_KEYS}, b"".join([len(key).to_bytes(4, "little") + key for key in keys]))

    async def _all(self, scope: Scope, args: Args, data: bytes) -> Answer:
        found = await self._entries.find(scope, after=data, limit_bytes=PAGE_BYTES)
        parts = [len(key).to_bytes(4, "little") + len(value).to_bytes(4, "little") + key + value for key, value in found]
        more = bool(found) and bool(await self._entries.keys(scope, after=found[-1][0], limit=1))
        return Answer({"more": more}, b"".join(parts))

    async def _incr(self, scope: Scope, args: Args, data: bytes) -> Answer:
        result: int | None = None

        def add(current: bytes | None) -> bytes | None:
            nonlocal result
            result = None
            if current is None or INTEGER.fullmatch(current):
                result = int(current or b"0") + args.by
            if result is None or abs(result) > INTEGER_MAX:
                result = None
                return current
            return b"%d" % result

        if not await self._entries.change(scope, data, add):
            raise Invalid(FULL)
        if result is None:
            raise Invalid(NOT_AN_INTEGER)
        return Answer(result)

    async def _cas(self, scope: Scope, args: Args, data: bytes) -> Answer:
        key, rest = _split(data, args.key_bytes)
        expected, new = _split(rest, args.expected_bytes or 0)
        wanted = None if args.expected_bytes is None else expected
        replacement = None if args.new_bytes is None else new
        equal = False

        def swap(current: bytes | None) -> bytes | None:
            nonlocal equal
            equal = current == wanted
            return replacement if equal else current

        return YES if await self._entries.change(scope, key, swap) and equal else NO


def _found(value: bytes | None) -> Answer:
    return NO if value is None else Answer(True, value)


def _split(data: bytes, size: int) -> tuple[bytes, bytes]:
    if not 0 <= size <= len(data):
        raise Invalid("invalid arguments")
    return data[:size], data[size:]
