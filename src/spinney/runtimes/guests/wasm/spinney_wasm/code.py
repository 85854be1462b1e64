"""What is changed in a module before it is compiled, so that its host learns what an engine does not tell.

1. Each ``memory.grow`` becomes a call of an added function that notes the largest memory wanted, in a global: a module whose wish
   is refused goes on and traps somewhere, and only this tells such a trap from any other.
2. The start function becomes an export, called next: code that traps during the instantiation leaves no instance to ask.
"""

from __future__ import annotations

from .binary import CODE, EXPORT, FUNCTION, GLOBAL, TYPE, Module, Reader, encode_number, encode_text
from .binary import START as START_SECTION
from .instructions import Refused, skip_instruction

GROWN = b"spinney.grown"
START = b"spinney.start"
PAGE_BYTES = 65536

GROW = b"\x40\x00"
"""memory.grow and the number of the memory; two such bytes may also be something else."""
I64 = 0x7E


def prepare(module: Module) -> bytes:
    """The changed binary. Raises Refused."""
    for name in (GROWN, START):
        if name.decode() in module.exports:
            raise Refused(f"the name {name.decode()} is taken")
    if START_SECTION in module.sections:
        index = module.sections.pop(START_SECTION)
        module.append(EXPORT, encode_text(START) + b"\0" + index)
    if GROW in module.sections.get(CODE, b""):
        helper = len(module.spaces["function"])
        noted = encode_number(len(module.spaces["global"]))
        if _redirect(module, b"\x10" + encode_number(helper)):
            module.append(TYPE, b"\x60\x01\x7f\x01\x7f")
            module.append(FUNCTION, encode_number(len(module.types)))
            module.append(GLOBAL, bytes((I64, 1)) + b"\x42\0\x0b")
            module.append(EXPORT, encode_text(GROWN) + b"\x03" + noted)
            module.append(CODE, _body(_helper(noted)))
    return module.encode()


def _helper(noted: bytes) -> bytes:
    wanted = b"\x3f\0\xad" + b"\x20\0\xad" + b"\x7c\x22\1"  # memory.size + parameter 0 as i64, kept in local 1
    note = b"\x23" + noted + b"\x56\x04\x40" + b"\x20\1\x24" + noted + b"\x0b"  # if it is more than what is noted: note it
    return bytes((1, 1, I64)) + wanted + note + b"\x20\0" + GROW + b"\x0b"


def _body(code: bytes) -> bytes:
    return encode_number(len(code)) + code


def _redirect(module: Module, call: bytes) -> int:
    """Put a call in the place of every memory.grow; how many there were."""
    section = module.sections[CODE]
    reader = Reader(section)
    parts = [encode_number(reader.number())]
    found = 0
    while reader.at < len(section):
        size = reader.number()
        body = section[reader.at : reader.at + size]
        reader.at += size
        places = find_growth(body) if GROW in body else ()
        for place in reversed(places):
            body = body[:place] + call + body[place + len(GROW) :]
        found += len(places)
        parts.append(_body(body))
    module.sections[CODE] = b"".join(parts)
    return found


def find_growth(body: bytes) -> list[int]:
    """Where a function's body, locals and code, has memory.grow. Raises Refused."""
    reader = Reader(body)
    for _ in range(reader.number()):
        reader.number()
        reader.value_type()
    places = []
    while reader.at < len(body):
        if body[reader.at] == GROW[0]:
            places.append(reader.at)
        skip_instruction(reader)
    return places
