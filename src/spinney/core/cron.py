"""Cron texts: what they may say, and when they are due next. UTC; the calendar is cronsim's, which takes much more than we do.

Five fields (minute, hour, day of month, month, day of week), six with seconds in front, or a macro. A field is a list of
numbers, names, ranges ``a-b`` and stars; stars and ranges may have a step. When both day fields are restricted, either is
enough.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from cronsim import CronSim, CronSimError

from spinney.errors import Invalid

TEXT_MAX = 1000
MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
WHOLE_DAYS = {3: "1-31", 5: "0-6"}
"""The day fields. cronsim, as Debian's cron, reads one that begins with a star as unrestricted even when it has a step."""

_VALUE = "(?:[0-9]{1,4}|[A-Za-z]{3})"
_ITEM = rf"(?:\*|{_VALUE}-{_VALUE})(?:/[0-9]{{1,4}})?|{_VALUE}"
_FIELD = re.compile(rf"(?:{_ITEM})(?:,(?:{_ITEM}))*")
_SOME_TIME = datetime(2000, 1, 1, tzinfo=UTC)


def check_schedule(text: str) -> None:
    """Raise Invalid unless ``text`` is a schedule. One that no date fulfils (30 February) is one, and is never due."""
    second, minute, hour, day, month, weekday = _fields(text)
    try:
        # in two, for cronsim refuses dates that never come, and every month has a first
        CronSim(f"{second} {minute} {hour} {day} * {weekday}", _SOME_TIME)
        CronSim(f"0 0 0 1 {month} *", _SOME_TIME)
    except CronSimError as error:
        raise Invalid(f"cron schedule: {str(error).lower()}") from None


def next_time(text: str, after: float) -> float | None:
    """The first time later than ``after`` (both in Unix seconds) at which a checked schedule is due; None when it never is."""
    try:
        return next(CronSim(" ".join(_fields(text)), datetime.fromtimestamp(after, UTC))).timestamp()
    except (CronSimError, StopIteration):
        return None


def _fields(text: str) -> list[str]:
    """The six fields, seconds first, in what cronsim and we agree on. Raises Invalid when it is not of that form."""
    if len(text) > TEXT_MAX:
        raise Invalid(f"cron schedule: longer than {TEXT_MAX} characters")
    fields = MACROS.get(text, text).replace("\t", " ").strip(" ").split(" ")
    fields = [field for field in fields if field]
    if len(fields) == 5:
        fields.insert(0, "0")
    if len(fields) != 6:
        raise Invalid("cron schedule: 5 or 6 fields, or one of " + ", ".join(MACROS))
    for field in fields:
        if not _FIELD.fullmatch(field):
            raise Invalid(f"cron schedule: bad field {field!a}")
    return [_spelt_out(field, WHOLE_DAYS.get(place)) for place, field in enumerate(fields)]


def _spelt_out(field: str, whole: str | None) -> str:
    """A day field with its stars as ranges, unless it is nothing but stars."""
    items = field.split(",")
    if whole is None or "*" in items or "*/1" in items:
        return field if whole is None else "*"
    return ",".join(item.replace("*", whole) for item in items)
