"""How long each instruction of WebAssembly 2.0 is, with tail calls and relaxed vectors."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:  # only for annotations: imports cost start-up time here
    from .binary import Reader

END = 0x0B


class Refused(ValueError):
    """What the engine would take and this guest does not: an instruction that is not in the tables here, a name of its own."""


def skip_expression(reader: Reader) -> None:
    """Go behind a constant expression, such as a global's first value."""
    while reader.data[reader.at] != END:
        skip_instruction(reader)
    reader.at += 1


def skip_instruction(reader: Reader) -> None:
    """Go to the next instruction. Raises Refused."""
    code = reader.byte()
    if code >= 0xFC:
        numbers, rest = _prefixed(code, reader.number())
    elif code == 0x0E:  # br_table
        numbers, rest = reader.number() + 1, 0
    elif code == 0x1C:  # select with types
        numbers, rest = 0, reader.number()
    elif (plain := PLAIN.get(code)) is not None:
        numbers, rest = plain
    else:
        raise Refused(f"instruction 0x{code:02x} is not supported")
    for _ in range(numbers):
        reader.number()
    reader.at += rest


def _plain() -> dict[int, tuple[int, int]]:
    """For each instruction of one byte: how many LEB128 numbers and how many further bytes follow it."""
    without = (0x00, 0x01, 0x05, 0x0B, 0x0F, 0x1A, 0x1B, *range(0x45, 0xC5), 0xD1)
    one = (0x02, 0x03, 0x04, 0x0C, 0x0D, 0x10, 0x12, *range(0x20, 0x27), 0x3F, 0x40, 0x41, 0x42, 0xD0, 0xD2)
    two = (0x11, 0x13, *range(0x28, 0x3F))
    constants = {0x43: (0, 4), 0x44: (0, 8)}
    return {**dict.fromkeys(without, (0, 0)), **dict.fromkeys(one, (1, 0)), **dict.fromkeys(two, (2, 0)), **constants}


PLAIN = _plain()
MISCELLANEOUS = {**dict.fromkeys(range(8), 0), 8: 2, 9: 1, 10: 2, 11: 1, 12: 2, 13: 1, 14: 2, 15: 1, 16: 1, 17: 1}


def _prefixed(prefix: int, code: int) -> tuple[int, int]:
    if prefix == 0xFC and code in MISCELLANEOUS:
        return MISCELLANEOUS[code], 0
    if prefix == 0xFD:
        return _vector(code)
    raise Refused(f"instruction 0x{prefix:02x} {code} is not supported")


def _vector(code: int) -> tuple[int, int]:
    if code <= 11 or code in (92, 93):  # loads and stores
        return 2, 0
    if code in (12, 13):  # v128.const, i8x16.shuffle
        return 0, 16
    if 21 <= code <= 34:  # a lane
        return 0, 1
    if 84 <= code <= 91:  # loads and stores of a lane
        return 2, 1
    return 0, 0
