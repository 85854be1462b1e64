"""Go's reference layouts, by which times are written and read: ``2006-01-02 15:04:05`` (Lunar contract 3.7)."""

from __future__ import annotations

import re
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # the typing module would only cost start-up time here
    from collections.abc import Callable, Iterator

ELEMENT = re.compile(
    r"January|Jan(?![a-z])|Monday|Mon(?![a-z])|MST|002|0[1-6]|15|1|2006|2|_2(?!006)|__2|3|4|5|PM|pm"
    r"|[-Z]07(?::00:00|0000|:00|00)?|[.,](?:0+|9+)(?!\d)"
)
MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS_SHORT = tuple(name[:3] for name in MONTHS)
DAYS_SHORT = tuple(name[:3] for name in DAYS)


def split(layout: str) -> Iterator[tuple[str, str]]:
    """(text, element) pairs; the last element is empty."""
    at = 0
    for match in ELEMENT.finditer(layout):
        yield layout[at : match.start()], match[0]
        at = match.end()
    yield layout[at:], ""


# -- writing -----------------------------------------------------------------------------------------------------------

Moment = time.struct_time

WRITERS: dict[str, Callable[[Moment], str]] = {
    "January": lambda t: MONTHS[t.tm_mon - 1],
    "Jan": lambda t: MONTHS_SHORT[t.tm_mon - 1],
    "1": lambda t: str(t.tm_mon),
    "01": lambda t: f"{t.tm_mon:02}",
    "Monday": lambda t: DAYS[t.tm_wday],
    "Mon": lambda t: DAYS_SHORT[t.tm_wday],
    "2": lambda t: str(t.tm_mday),
    "_2": lambda t: f"{t.tm_mday:2}",
    "02": lambda t: f"{t.tm_mday:02}",
    "002": lambda t: f"{t.tm_yday:03}",
    "__2": lambda t: f"{t.tm_yday:3}",
    "15": lambda t: f"{t.tm_hour:02}",
    "3": lambda t: str(t.tm_hour % 12 or 12),
    "03": lambda t: f"{t.tm_hour % 12 or 12:02}",
    "4": lambda t: str(t.tm_min),
    "04": lambda t: f"{t.tm_min:02}",
    "5": lambda t: str(t.tm_sec),
    "05": lambda t: f"{t.tm_sec:02}",
    "2006": lambda t: f"{t.tm_year:04}",
    "06": lambda t: f"{t.tm_year % 100:02}",
    "PM": lambda t: "PM" if t.tm_hour >= 12 else "AM",
    "pm": lambda t: "pm" if t.tm_hour >= 12 else "am",
    "MST": lambda t: t.tm_zone,
}


def format_time(at: int, layout: str) -> str:
    """A time in the local zone. at: seconds since the epoch."""
    moment = time.localtime(at)
    return "".join(text + (_write(element, moment) if element else "") for text, element in split(layout))


def _write(element: str, moment: Moment) -> str:
    writer = WRITERS.get(element)
    if writer is not None:
        return writer(moment)
    if element[0] in ".,":
        return element if element[1] == "0" else ""  # whole seconds
    if element[0] == "Z" and not moment.tm_gmtoff:
        return "Z"
    minutes, seconds = divmod(abs(moment.tm_gmtoff), 60)
    parts = (f"{minutes // 60:02}", f"{minutes % 60:02}", f"{seconds:02}")
    digits = len(element.replace(":", "")) - 1
    return ("-" if moment.tm_gmtoff < 0 else "+") + (":" if ":" in element else "").join(parts[: digits // 2])


# -- reading -----------------------------------------------------------------------------------------------------------


class Mismatch(Exception):
    """A text that its layout does not fit, from ``rest`` on."""

    def __init__(self, rest: str) -> None:
        self.rest = rest


class OutOfRange(Exception):
    """A number that is none for what it stands for."""


class Reader:
    """What is known of a time while its text is read."""

    def __init__(self) -> None:
        self.year, self.month, self.day, self.day_of_year = 0, 0, 0, 0
        self.hour = self.minute = self.second = 0
        self.afternoon: bool | None = None
        self.offset_s: int | None = None
        self.zone = ""

    def seconds(self) -> int:
        """Since the epoch; UTC when no zone was named."""
        leap = self.year % 4 == 0 and (self.year % 100 != 0 or self.year % 400 == 0)
        days = (31, 29 if leap else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
        if self.day_of_year:
            day, month = self.day_of_year, 1
            if not 1 <= day <= 365 + leap:
                raise OutOfRange("day-of-year")
            while day > days[month - 1]:
                day, month = day - days[month - 1], month + 1
        else:
            month, day = self.month or 1, self.day if self.day else 1
            if not 1 <= day <= days[month - 1]:
                raise OutOfRange("day")
        hour = self.hour
        if self.afternoon is not None and self.hour <= 12:
            hour = self.hour % 12 + (12 if self.afternoon else 0)
        at = _days(self.year, month, day) * 86400 + hour * 3600 + self.minute * 60 + self.second
        return at - (self.offset_s if self.offset_s is not None else _zone_offset(self.zone))

    def take(self, element: str, text: str) -> str:
        """Read one element; the rest of the text."""
        reader = READERS.get(element)
        if reader is not None:
            return reader(self, text, element)
        if element[0] in ".,":
            return _take_fraction(text, element)
        return self._take_offset(text, element)

    def take_month_name(self, text: str, element: str) -> str:
        self.month, rest = _lookup(text, MONTHS if element == "January" else MONTHS_SHORT)
        return rest

    def take_day_name(self, text: str, element: str) -> str:
        return _lookup(text, DAYS if element == "Monday" else DAYS_SHORT)[1]

    def take_month(self, text: str, element: str) -> str:
        self.month, rest = _number(text, element, range(1, 13), "month")
        return rest

    def take_day(self, text: str, element: str) -> str:
        self.day, rest = _number(text.removeprefix(" ") if element == "_2" else text, element, range(100), "day")
        if not self.day:
            raise OutOfRange("day")
        return rest

    def take_day_of_year(self, text: str, element: str) -> str:
        digits = text[:3].lstrip(" ") if element == "__2" else text[:3]
        if len(text) < 3 or not _digits(digits):
            raise Mismatch(text)
        self.day_of_year = int(digits) or 999
        return text[3:]

    def take_hour(self, text: str, element: str) -> str:
        self.hour, rest = _number(text, element, range(24) if element == "15" else range(13), "hour")
        return rest

    def take_minute(self, text: str, element: str) -> str:
        self.minute, rest = _number(text, element, range(60), "minute")
        return rest

    def take_second(self, text: str, element: str) -> str:
        self.second, rest = _number(text, element, range(60), "second")
        return rest

    def take_year(self, text: str, element: str) -> str:
        size = len(element)  # "06" or "2006"
        if len(text) < size or not _digits(text[:size]):
            raise Mismatch(text)
        year = int(text[:size])
        self.year = year if size == 4 else year + (1900 if year >= 69 else 2000)
        return text[size:]

    def take_half(self, text: str, element: str) -> str:
        names = ("AM", "PM") if element == "PM" else ("am", "pm")
        if text[:2] not in names:
            raise Mismatch(text)
        self.afternoon = text[:2] == names[1]
        return text[2:]

    def take_zone(self, text: str, element: str) -> str:
        match = re.match(r"GMT[-+]\d{1,2}|ChST|MeST|[A-Z]{3,5}|[-+]\d\d", text)
        if match is None:
            raise Mismatch(text)
        self.zone = match[0]
        return text[match.end() :]

    def _take_offset(self, text: str, element: str) -> str:
        if element[0] == "Z" and text.startswith("Z"):
            self.offset_s = 0
            return text[1:]
        size = len(element)
        match = re.fullmatch(re.sub("[0-7]+", lambda part: rf"(\d{{{len(part[0])}}})", "[-+]" + element[1:]), text[:size])
        if match is None:
            raise Mismatch(text)
        digits = "".join(match.groups()).ljust(6, "0")
        hours, minutes, seconds = int(digits[:2]), int(digits[2:4]), int(digits[4:])
        if hours > 24 or minutes > 60 or seconds > 60:
            raise OutOfRange(f"time zone offset {'hour' if hours > 24 else 'minute' if minutes > 60 else 'second'}")
        self.offset_s = (hours * 3600 + minutes * 60 + seconds) * (-1 if text[0] == "-" else 1)
        return text[size:]


READERS: dict[str, Callable[[Reader, str, str], str]] = {
    **dict.fromkeys(("January", "Jan"), Reader.take_month_name),
    **dict.fromkeys(("Monday", "Mon"), Reader.take_day_name),
    **dict.fromkeys(("1", "01"), Reader.take_month),
    **dict.fromkeys(("2", "_2", "02"), Reader.take_day),
    **dict.fromkeys(("002", "__2"), Reader.take_day_of_year),
    **dict.fromkeys(("15", "3", "03"), Reader.take_hour),
    **dict.fromkeys(("4", "04"), Reader.take_minute),
    **dict.fromkeys(("5", "05"), Reader.take_second),
    **dict.fromkeys(("2006", "06"), Reader.take_year),
    **dict.fromkeys(("PM", "pm"), Reader.take_half),
    "MST": Reader.take_zone,
}


def parse_time(text: str, layout: str) -> int:
    """Seconds since the epoch. Raises ValueError with the message that Go has for it."""
    reader, rest = Reader(), text
    elements = list(split(layout))
    current = layout
    try:
        for index, (between, element) in enumerate(elements):
            current = between
            rest = _skip(rest, between)
            if not element:
                break
            current = element
            rest = reader.take(element, rest)
            if element in ("5", "05") and not elements[index + 1][1].startswith((".", ",")):
                rest = re.sub(r"^[.,]\d+", "", rest)
        if rest:
            raise ValueError(f"parsing time {quote(text)}: extra text: {quote(rest)}")
        return reader.seconds()
    except Mismatch as mismatch:
        message = f"parsing time {quote(text)} as {quote(layout)}: cannot parse {quote(mismatch.rest)} as {quote(current)}"
        raise ValueError(message) from None
    except OutOfRange as fault:
        raise ValueError(f"parsing time {quote(text)}: {fault} out of range") from None


def quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + escaped + '"'


def _skip(text: str, between: str) -> str:
    """The rest behind what stands between two elements; any number of spaces is as good as any other."""
    while between:
        if between[0] == " ":
            if text and text[0] != " ":
                raise Mismatch(text)
            between, text = between.lstrip(" "), text.lstrip(" ")
        elif not text.startswith(between[0]):
            raise Mismatch(text)
        else:
            between, text = between[1:], text[1:]
    return text


def _digits(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _number(text: str, element: str, allowed: range, name: str) -> tuple[int, str]:
    """One or two digits; two where the layout begins with a zero."""
    size = 2 if _digits(text[1:2]) else 1
    if not _digits(text[:1]) or (size == 1 and element[0] == "0"):
        raise Mismatch(text)
    number = int(text[:size])
    if number not in allowed:
        raise OutOfRange(name)
    return number, text[size:]


def _lookup(text: str, names: tuple[str, ...]) -> tuple[int, str]:
    for number, name in enumerate(names, 1):
        if text[: len(name)].lower() == name.lower():
            return number, text[len(name) :]
    raise Mismatch(text)


def _take_fraction(text: str, element: str) -> str:
    """Parts of seconds do not count, but must be there as the layout says."""
    if element[1] == "9":
        return re.sub(r"^[.,]\d+", "", text)
    size = len(element)
    if len(text) < size or text[0] not in ".," or not _digits(text[1:size]):
        raise Mismatch(text)
    return text[size:]


def _days(year: int, month: int, day: int) -> int:
    """Days since the epoch, for any year of the Gregorian calendar."""
    year -= month <= 2
    era, of_era = divmod(year, 400)
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468


def _zone_offset(zone: str) -> int:
    """What the local zone calls itself is known, and GMT with a number; other names mean nothing."""
    if zone == time.tzname[0]:
        return -time.timezone
    if zone == time.tzname[1]:
        return -time.altzone
    match = re.fullmatch(r"(?:GMT)?([-+]\d{1,2})", zone)
    return int(match[1]) * 3600 if match else 0
