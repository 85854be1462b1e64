"""Reading and writing WebAssembly's binary format. For modules that the engine has found valid: nothing is checked twice here."""

from __future__ import annotations

from .instructions import skip_expression

TYPE_CHECKING = False
if TYPE_CHECKING:  # the typing module would only cost start-up time here
    from collections.abc import Iterator

TYPE, IMPORT, FUNCTION, TABLE, MEMORY, GLOBAL, EXPORT, START, CODE = 1, 2, 3, 4, 5, 6, 7, 8, 10
ORDER = (TYPE, IMPORT, FUNCTION, TABLE, MEMORY, 13, GLOBAL, EXPORT, START, 9, 12, CODE, 11)
"""Sections as they follow one another; custom ones (0) may be anywhere."""

KINDS = ("function", "table", "memory", "global")
VALUE_TYPES = {0x7F: "i32", 0x7E: "i64", 0x7D: "f32", 0x7C: "f64", 0x7B: "v128", 0x70: "funcref", 0x6F: "externref"}
MAGIC = b"\0asm\1\0\0\0"


class Reader:
    """A place in a binary that moves on as it is read."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data = data
        self.at = at

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def number(self) -> int:
        """An unsigned LEB128 number; of a signed one only its end is found right."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def text(self) -> str:
        size = self.number()
        self.at += size
        return self.data[self.at - size : self.at].decode()

    def value_type(self) -> str:
        return VALUE_TYPES[self.byte()]

    def value_types(self) -> str:
        return ",".join(self.value_type() for _ in range(self.number()))

    def limits(self) -> int:
        """The minimum of a table or memory."""
        has_maximum = self.byte() & 1
        minimum = self.number()
        if has_maximum:
            self.number()
        return minimum


class Module:
    """What a module consists of: its sections by number, and what it imports and exports."""

    def __init__(self, wasm: bytes) -> None:
        self.sections: dict[int, bytes] = {}
        reader = Reader(wasm, len(MAGIC))
        while reader.at < len(wasm):
            section, size = reader.byte(), reader.number()
            if section:  # custom ones say nothing about what the code does
                self.sections[section] = wasm[reader.at : reader.at + size]
            reader.at += size
        self.types = [_function_type(reader) for reader in self._entries(TYPE)]
        self.spaces: dict[str, list[str]] = {kind: [] for kind in KINDS}
        self.imports: list[tuple[str, str, str]] = []
        for reader in self._entries(IMPORT):
            module, name = reader.text(), reader.text()
            self.imports.append((module, name, self._define(reader, reader.byte())))
        self.imported_functions = len(self.spaces["function"])
        for section, kind in ((FUNCTION, 0), (TABLE, 1), (MEMORY, 2), (GLOBAL, 3)):
            for reader in self._entries(section):
                self._define(reader, kind)
                if section == GLOBAL:
                    skip_expression(reader)

    @property
    def exports(self) -> dict[str, str]:
        """Names and types."""
        found = {}
        for reader in self._entries(EXPORT):
            name = reader.text()
            kind, index = KINDS[reader.byte()], reader.number()
            found[name] = self.spaces[kind][index]
        return found

    def count(self, section: int) -> int:
        """How many entries a section has."""
        return Reader(self.sections[section]).number() if section in self.sections else 0

    def append(self, section: int, entry: bytes) -> None:
        """Add an entry to the end of a section, which is made if there is none."""
        reader = Reader(self.sections.get(section, b"\0"))
        count = reader.number()
        self.sections[section] = encode_number(count + 1) + reader.data[reader.at :] + entry

    def encode(self) -> bytes:
        """The module as a binary again."""
        parts = [MAGIC]
        for section in ORDER:
            if section in self.sections:
                content = self.sections[section]
                parts += (bytes([section]), encode_number(len(content)), content)
        return b"".join(parts)

    def _entries(self, section: int) -> Iterator[Reader]:
        """A reader at each entry of a section; whoever gets it reads exactly the entry."""
        reader = Reader(self.sections.get(section, b"\0"))
        for _ in range(reader.number()):
            yield reader

    def _define(self, reader: Reader, kind: int) -> str:
        """Read the type of a function, table, memory or global, and number it."""
        if kind == 0:
            described = self.types[reader.number()]
        elif kind == 1:
            reader.value_type()
            reader.limits()
            described = "table"
        elif kind == 2:
            described = f"memory({reader.limits()})"
        else:
            reader.value_type()
            reader.byte()
            described = "global"
        self.spaces[KINDS[kind]].append(described)
        return described


def _function_type(reader: Reader) -> str:
    reader.byte()
    return f"({reader.value_types()})->({reader.value_types()})"


def encode_number(value: int) -> bytes:
    """Unsigned LEB128."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def encode_text(text: bytes) -> bytes:
    return encode_number(len(text)) + text
