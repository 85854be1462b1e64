"""What went wrong in a function, for the person who wrote it: the message, the lines around, and a tip (contract 3.13)."""

from __future__ import annotations

import re
from typing import NamedTuple

TRACE = "\nstack traceback:"
AROUND = 2
"""Lines of code that are shown before and behind the faulty one."""
LINE_MAX = 500

_PLACE = re.compile(r"<string>:(\d+): ")
_FRAME = re.compile(r"\t<string>:\d+: ")
_LIBRARY_PLACE = re.compile(r"\[lua\]:\d+: ")


class Tip(NamedTuple):
    """Advice on one kind of mistake. ``fault`` matches its message from the beginning."""

    fault: re.Pattern[str]
    headline: str
    advice: tuple[str, ...]


def _tip(fault: str, headline: str, *advice: str) -> Tip:
    return Tip(re.compile(fault, re.DOTALL), headline, advice)


_NEAR = r" near '.*'$"

TIPS = (
    _tip(
        r"attempt to index .*\bnil value",
        "A value is nil here.",
        "Look for a misspelled name, a field that was never set, or a call that found nothing.",
        "Ask first: if value ~= nil then ... end, or give a default: local t = value or {}",
    ),
    _tip(
        r"attempt to index ",
        "This value is not a table, so it has no fields.",
        "print(type(value)) shows what it is.",
        "A JSON text has fields only after json.decode(text).",
    ),
    _tip(
        r"attempt to call .*\bnil value",
        "The function that is called does not exist.",
        "Check how its name is written; large and small letters are different.",
        "A local function must stand above the line that calls it.",
        "Functions of the library begin with their table: json.encode, not encode.",
    ),
    _tip(
        r"bad argument #",
        "An argument is not of the kind that this function takes.",
        "The number tells which argument; with a colon call (text:upper()) the value before the colon counts as the first.",
        "tostring(value) and tonumber(text) convert; a value that may be nil needs a default.",
    ),
    _tip(
        rf"unfinished (?:long )?string{_NEAR}",
        "A string has no closing quote.",
        "It must end on its line, with the quote that it began with.",
        "A text of several lines goes between [[ and ]].",
    ),
    _tip(
        rf"'end' expected.*{_NEAR}",
        "A block has no end.",
        "Each function, if, for and while needs its own end.",
        "The message names the line where the open block begins, when that is another one.",
    ),
    _tip(
        rf"(?:.*expected(?: \(to close .*\))?|unexpected symbol|malformed number|syntax error|ambiguous syntax .*|invalid .*"
        rf"|unfinished .*|cannot use '\.\.\.' .*|no loop to break|duplicate label .*|chunk has .*|.* has more than .*){_NEAR}",
        "This is not valid Lua syntax.",
        "The fault is at the place that the message names, or just before it: a missing comma, bracket or then.",
        "Not equal is ~=, and there is no += or ++.",
    ),
    _tip(
        r"attempt to perform arithmetic on ",
        "Only numbers can be used in arithmetic.",
        "What comes with a request is text: tonumber(event.query.n) or 0",
        "A name that was never set is nil.",
    ),
    _tip(
        r"attempt to concatenate ",
        "The operator .. can concatenate only strings and numbers.",
        "For anything else: tostring(value); for tables: json.encode(value)",
        'For a value that may be nil: (value or "")',
    ),
    _tip(
        r"attempt to compare ",
        "Only two numbers or two strings compare with < and >.",
        "tonumber(text) makes a number of a text.",
        "A value that may be nil needs a default first.",
    ),
    _tip(
        r"handler function not found in Lua code$",
        "The code must define a global function named handler.",
        "function handler(ctx, event) ... end",
        "Without the word local in front of it.",
    ),
    _tip(
        r"handler did not return a table$",
        "The handler must return a table.",
        'return { statusCode = 200, body = "Hello" }',
        "Every way through the handler has to end with such a return.",
    ),
)


def explain(fault: str, source: str) -> str:
    """The error message of a failed run.

    fault: what the runtime says: a message that may begin with ``<string>:N: `` and be followed by a stack traceback.
    """
    message, _, trace = _LIBRARY_PLACE.sub("", fault, count=1).partition(TRACE)
    place = _PLACE.match(message)
    text = message[place.end() :] if place else message
    parts = [f"Error at line {place[1]}: {text}" if place else f"Error: {text}"]
    if len(_FRAME.findall(trace)) > 1:  # one says no more than the line does
        parts[0] += TRACE + trace
    if place:
        parts += _excerpt(source, int(place[1]))
    parts += _advise(text)
    return "\n\n".join(parts)


def _excerpt(source: str, number: int) -> list[str]:
    """The lines around the one with this number; nothing when there is none."""
    lines = source.split("\n")
    if not 1 <= number <= len(lines):
        return []
    first = max(1, number - AROUND)
    shown = [
        f"{'> ' if at == number else '  '}{at:3} | {line.rstrip(chr(13))[:LINE_MAX]}"
        for at, line in enumerate(lines[first - 1 : number + AROUND], first)
    ]
    return ["\n".join(["[CODE]", *shown, "[/CODE]"])]


def _advise(text: str) -> list[str]:
    for tip in TIPS:
        if tip.fault.match(text):
            return ["\n".join([f"[TIP] {tip.headline}", *(f"  • {line}" for line in tip.advice)])]
    return []
