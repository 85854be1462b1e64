"""Ids that grow with time, of executions and of what they leave."""

from __future__ import annotations

from random import getrandbits
from secrets import token_bytes
from time import time

_VARIANT = {digit: "89ab"[number & 3] for number, digit in enumerate("0123456789abcdef")}


def new_execution_id() -> str:
    """A UUID (version 7: milliseconds, then 74 random bits) as text.

    Executions come by the thousand; ids in order of time cost the store two thirds of what random ones do.
    """
    random = f"{getrandbits(80):020x}"
    clock = f"{int(time() * 1000):012x}"
    return f"{clock[:8]}-{clock[8:]}-7{random[:3]}-{_VARIANT[random[3]]}{random[4:7]}-{random[8:]}"


def execution_time(id: str) -> float:
    """When an execution's id was made, to the millisecond."""
    return int(id[:8] + id[9:13], 16) / 1000


_DIGITS = "0123456789abcdefghijklmnopqrstuv"
_PAIRS = [first + second for first in _DIGITS for second in _DIGITS]


def new_short_id() -> str:
    """20 digits (0-9, a-v): the seconds in the first seven, then 65 bits that nobody can guess."""
    number = int(time()) << 65 | int.from_bytes(token_bytes(9), "little") >> 7
    pairs = _PAIRS
    return "".join([pairs[number >> shift & 1023] for shift in range(90, -1, -10)])


def version_id(function_id: str, number: int) -> str:
    """The id of a function's version: a number is given once."""
    return f"ver_{function_id}_v{number}"
