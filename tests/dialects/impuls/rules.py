"""What a field of a function may be, as (fields, message) of the 400, and values at the edge that are fine (contract 2.2)."""

from __future__ import annotations

from typing import Any

Fields = dict[str, Any]

NAME = "name: only letters, digits and inner hyphens are allowed (1-64 characters)"
HANDLER = "handler: must be of the form module.function"
MEMORY = "memory_mb: must be between 64 and 4096"
TIMEOUT = "timeout_sec: must be between 1 and 900"
ENVIRONMENT = "environment: must be an object of strings"
CODE_BYTES = 1024 * 1024
CODE_TOO_LARGE = "code: too large (max 1048576 bytes)"
ENVIRONMENT_BYTES = 65536

NOT_STRINGS: list[Any] = [5, 1.5, True, False, [], ["a"], {}, {"a": "b"}]
NOT_INTEGERS: list[Any] = [True, False, "128", "", 128.5, [], [128], {}]
NOT_OBJECTS: list[Any] = [5, True, "A=B", "", [], [["A", "B"]]]

BAD_NAMES = [
    "-a", "a-", "-", "a_b", "a.b", "a b", " a", "a ", "a/b", "../a", "a\n", "abc\n", "\na", "a\0", "é", "naïve", "日本",
    "\u0663", "\uff21", "\u017f", "\u212a", "a" * 65, "a" * 10000, "a:b", "a%20b", "$LATEST", "😀",
]  # fmt: skip
GOOD_NAMES = ["x", "7", "A1", "a-b", "a--b", "0-0", "ALL-CAPS-09", "constructor", "invoke", "api", "b" * 64]

BAD_HANDLERS = [
    "index", ".", ".handler", "index.", "index..handler", "index.handler.", "index.a..b", "index.1a", "index.a-b", "index.a b",
    "index.handler ", " .", "index.handler\n", "index.a\0", "index.a/b", "index.handler()", "i." + "h" * 255,
]  # fmt: skip
GOOD_HANDLERS = [
    "a.b",
    "index.handler",
    "main.newHandler",
    "app.api.users.create",
    "src/app.run",
    "a.$",
    "a._x1",
    "my-mod.go",
    "i." + "h" * 254,
]

BAD_RUNTIMES = ["nodejs16", "NodeJS20", "nodejs20 ", "node", "python", "python312", "dotnet8"]
STRING_FIELDS = ("runtime", "handler", "code", "description")

FIELD_RULES: list[tuple[Fields, str]] = [
    *(({field: value}, f"{field}: must be a string") for field in STRING_FIELDS for value in NOT_STRINGS),
    *(({field: value}, f"{field}: must be an integer") for field in ("memory_mb", "timeout_sec") for value in NOT_INTEGERS),
    *(({"environment": value}, ENVIRONMENT) for value in NOT_OBJECTS),
    *(({field: ""}, f"{field}: {field} is required") for field in ("runtime", "handler", "code")),
    *(
        ({"runtime": value}, "runtime: invalid runtime")
        for value in ("nodejs16", "NodeJS20", "nodejs20 ", "node", "python", "python312", "dotnet8")
    ),
    *(({"handler": value}, HANDLER) for value in BAD_HANDLERS),
    *(({"code": value}, "code: code is required") for value in (" ", "\n", " \t\r\n ")),
    ({"description": "x" * 4097}, "description: too long (max 4096 characters)"),
    *(({"memory_mb": value}, MEMORY) for value in (0, 63, 4097, -128, 10**30)),
    *(({"timeout_sec": value}, TIMEOUT) for value in (0, 901, -1, 10**30)),
    *(({"environment": {"A": value}}, ENVIRONMENT) for value in [*NOT_STRINGS, None]),
    ({"environment": {f"K{n}": "" for n in range(101)}}, "environment: at most 100 variables"),
    *(({"environment": {key: "v"}}, f"environment: invalid variable '{key}'") for key in ("", "A=B", "=", "A\0", "k" * 257)),
    *(({"environment": {"A": value}}, "environment: invalid variable 'A'") for value in ("\0", "a\0b")),
    ({"environment": {"A": "x" * ENVIRONMENT_BYTES}}, "environment: too large (max 65536 bytes)"),
    ({"environment": {"A": "é" * (ENVIRONMENT_BYTES // 2)}}, "environment: too large (max 65536 bytes)"),
    ({"environment": {"k" * 256: "x" * 65281}}, "environment: too large (max 65536 bytes)"),
    # for each field its type comes first, and the fields come in the order of the table
    ({"environment": {**{f"K{n}": "" for n in range(101)}, "A": 5}}, ENVIRONMENT),
    ({"runtime": "", "handler": 5}, "runtime: runtime is required"),
    ({"runtime": "nodejs16", "handler": ""}, "runtime: invalid runtime"),
    ({"handler": "index", "code": ""}, HANDLER),
    ({"handler": "index", "code": "x" * (CODE_BYTES + 1)}, HANDLER),
    ({"code": "", "description": 5}, "code: code is required"),
    ({"description": 5, "memory_mb": 1}, "description: must be a string"),
    ({"memory_mb": 1, "timeout_sec": "x"}, MEMORY),
    ({"timeout_sec": 0, "environment": []}, TIMEOUT),
]

FIELDS_AT_THE_EDGE: list[Fields] = [
    *({"runtime": value} for value in ("nodejs18", "nodejs20", "nodejs22", "python311", "python3")),
    *({"handler": value} for value in GOOD_HANDLERS),
    {"code": "x" * CODE_BYTES},
    {"code": "é" * (CODE_BYTES // 2)},
    {"code": "\ufeff// mark\r\n\tlet a = '\u2028\0😀'  \n\n"},
    {"code": "\u00a0;"},
    {"description": "x" * 4096},
    {"description": "😀" * 4096},
    {"description": " \n\0 "},
    {"memory_mb": 64},
    {"memory_mb": 4096},
    {"timeout_sec": 1},
    {"timeout_sec": 900},
    {"environment": {f"K{n}": "" for n in range(100)}},
    {"environment": {"k" * 256: "x" * (ENVIRONMENT_BYTES - 256)}},
    {"environment": {"é": "x" * (ENVIRONMENT_BYTES - 2)}},
    {"environment": {"with space": "a=b", "1": "\n", "__proto__": "own", "lower": "😀"}},
]


def short(value: object) -> str:
    """A test id that stays readable when the value is a megabyte."""
    return ascii(value)[:60]
