"""Lunar's schedules: five fields, in the server's zone or one that the text names (contract 3.11). The calendar is cronsim's."""

from __future__ import annotations

import re
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from spinney.errors import Invalid

HORIZON_S = 5 * 366 * 86400.0
"""A schedule that is not due within five years never is."""

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_INTEGER = re.compile(r"[+-]?[0-9]+")
_ZONE = re.compile(r"[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+)*")
_INTEGER_MAX = 1 << 63


class _Field(NamedTuple):
    least: int
    most: int
    names: tuple[str, ...] = ()

    def number(self, text: str) -> int:
        """A number or a name. Raises Invalid."""
        if self.names and text.lower() in self.names:
            return self.names.index(text.lower()) + self.least
        if not _INTEGER.fullmatch(text):
            raise Invalid(f'failed to parse int from {text}: strconv.Atoi: parsing "{text}": invalid syntax')
        if len(text) > 20 or not -_INTEGER_MAX <= int(text) < _INTEGER_MAX:
            raise Invalid(f'failed to parse int from {text}: strconv.Atoi: parsing "{text}": value out of range')
        number = int(text)
        if number < 0:
            raise Invalid(f"negative number ({number}) not allowed: {text}")
        return number


FIELDS = (_Field(0, 59), _Field(0, 23), _Field(1, 31), _Field(1, 12, _MONTHS), _Field(0, 6, _DAYS))


class Schedule(NamedTuple):
    """When it is due, as cronsim takes it ("": never), and the zone that it names, if any."""

    expression: str
    zone: tzinfo | None


@lru_cache(maxsize=10_000)
def parse(text: str) -> Schedule:
    """A schedule's text. Raises Invalid, whose message is the contract's; the first fault counts."""
    zone = None
    if text.startswith(("TZ=", "CRON_TZ=")):
        named, _, rest = text.partition(" ")
        zone, text = _zone(named.partition("=")[2]), rest
    text = text.strip()
    if text.startswith("@"):
        raise Invalid(f"parser does not accept descriptors: {text}")
    fields = text.split()
    if len(fields) != len(FIELDS):
        raise Invalid(f"expected exactly {len(FIELDS)} fields, found {len(fields)}: [{' '.join(fields)}]")
    values = [_values(part, field) for part, field in zip(fields, FIELDS, strict=True)]
    return Schedule(" ".join(values) if all(values) else "", zone)


def next_time(text: str, after: float, zone: tzinfo) -> float | None:
    """The first time after ``after`` (both in Unix seconds), by ``zone`` unless the text names one; None when it is far away.

    Raises Invalid.
    """
    schedule = parse(text)
    if not schedule.expression:
        return None
    try:
        due = next(CronSim(schedule.expression, datetime.fromtimestamp(after, UTC).astimezone(schedule.zone or zone)))
    except (CronSimError, StopIteration):  # 31 February
        return None
    seconds = due.timestamp()
    return seconds if seconds <= after + HORIZON_S else None


def _zone(name: str) -> tzinfo | None:
    if name == "Local":
        return None
    try:
        if name and not _ZONE.fullmatch(name):
            raise ValueError
        return ZoneInfo(name or "UTC")
    except (OSError, ValueError, KeyError):
        raise Invalid(f"provided bad location {name}: unknown time zone {name}") from None


def _values(text: str, field: _Field) -> str:
    """A field for cronsim: a star when something in it leaves everything open, or else its values; "" when it has none."""
    values: set[int] = set()
    star = False
    for item in text.split(","):
        if item:
            some, open_to_all = _range(item, field)
            values.update(some)
            star = star or open_to_all
    return "*" if star else ",".join(map(str, sorted(values)))


def _range(item: str, field: _Field) -> tuple[range, bool]:
    """The values of ``*``, ``a``, ``a-b``, each perhaps with a step, and whether it leaves everything open."""
    span, *steps = item.split("/")
    low, *high = span.split("-")
    star = low in ("*", "?")
    if star:
        start, end = field.least, field.most
    else:
        start = field.number(low)
        if len(high) > 1:
            raise Invalid(f"too many hyphens: {item}")
        end = field.number(high[0]) if high else start
    step = 1
    if len(steps) > 1:
        raise Invalid(f"too many slashes: {item}")
    if steps:
        step = _Field(0, 0).number(steps[0])
        if not high:
            end = field.most
    if start < field.least:
        raise Invalid(f"beginning of range ({start}) below minimum ({field.least}): {item}")
    if end > field.most:
        raise Invalid(f"end of range ({end}) above maximum ({field.most}): {item}")
    if start > end:
        raise Invalid(f"beginning of range ({start}) beyond end of range ({end}): {item}")
    if step == 0:
        raise Invalid(f"step of range should be a positive number: {item}")
    return range(start, end + 1, step), star and step == 1
