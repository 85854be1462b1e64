"""Lunar's schedules: what is refused in which words, and when the rest is due (contract 3.11)."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from spinney.dialects.lunar.cron import next_time, parse
from spinney.errors import Invalid

BERLIN = ZoneInfo("Europe/Berlin")
NEVER = "never"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("invalid", "expected exactly 5 fields, found 1: [invalid]"),
        ("* * * * * *", "expected exactly 5 fields, found 6: [* * * * * *]"),
        ("  ", "expected exactly 5 fields, found 0: []"),
        ("TZ=UTC", "expected exactly 5 fields, found 0: []"),
        ("@daily", "parser does not accept descriptors: @daily"),
        ("TZ=UTC @every 1h", "parser does not accept descriptors: @every 1h"),
        ("60 * * * *", "end of range (60) above maximum (59): 60"),
        ("* 24 * * *", "end of range (24) above maximum (23): 24"),
        ("* * * * 7", "end of range (7) above maximum (6): 7"),
        ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
        ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
        ("a * * * *", 'failed to parse int from a: strconv.Atoi: parsing "a": invalid syntax'),
        ("1,,x * * * *", 'failed to parse int from x: strconv.Atoi: parsing "x": invalid syntax'),
        ("* * * foo *", 'failed to parse int from foo: strconv.Atoi: parsing "foo": invalid syntax'),
        ("-5 * * * *", 'failed to parse int from : strconv.Atoi: parsing "": invalid syntax'),
        ("*/-1 * * * *", "negative number (-1) not allowed: -1"),
        ("*/0 * * * *", "step of range should be a positive number: */0"),
        ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
        ("1-a-3 * * * *", "too many hyphens: 1-a-3"),
        ("1/2/3 * * * *", "too many slashes: 1/2/3"),
        ("TZ=Nope/X * * * * *", "provided bad location Nope/X: unknown time zone Nope/X"),
        ("CRON_TZ=../../etc/passwd * * * * *", "provided bad location ../../etc/passwd: unknown time zone ../../etc/passwd"),
        ("60 25 * * *", "end of range (60) above maximum (59): 60"),
        (f"{'9' * 30} * * * *", f'failed to parse int from {"9" * 30}: strconv.Atoi: parsing "{"9" * 30}": value out of range'),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(Invalid) as refusal:
        parse(text)
    assert refusal.value.message == message


@pytest.mark.parametrize(
    ("text", "after", "due"),
    [
        ("* * * * *", "2026-01-01 00:00:00", "2026-01-01 00:01"),
        ("* * * * *", "2026-01-01 00:00:59.9", "2026-01-01 00:01"),
        ("  */15 \t * * * * ", "2026-01-01 00:01", "2026-01-01 00:15"),
        ("7/20 * * * *", "2026-01-01 00:08", "2026-01-01 00:27"),
        ("50/99 * * * *", "2026-01-01 00:08", "2026-01-01 00:50"),
        ("0 9-17/4 * * *", "2026-01-01 09:00", "2026-01-01 13:00"),
        ("0 0 1 JAN ?", "2026-01-01 00:00", "2027-01-01 00:00"),
        ("0 0 ? * mon-wed", "2026-01-01 00:00", "2026-01-05 00:00"),
        ("0 0 13 * FRI", "2026-01-01 00:00", "2026-01-02 00:00"),
        ("0 0 13 * */1", "2026-01-01 00:00", "2026-01-13 00:00"),
        ("0 0 13 * */2", "2026-01-01 00:00", "2026-01-03 00:00"),
        ("0 0 */10 * SUN", "2026-01-01 00:00", "2026-01-04 00:00"),
        ("0,,30, * * * *", "2026-01-01 00:00", "2026-01-01 00:30"),
        (", * * * *", "2026-01-01 00:00", NEVER),
        ("0 0 31 2 *", "2026-01-01 00:00", NEVER),
        ("0 0 29 2 *", "2026-01-01 00:00", "2028-02-29 00:00"),
        ("TZ=Asia/Kolkata 0 12 * * *", "2026-01-01 00:00", "2026-01-01 06:30"),
        ("CRON_TZ=America/New_York 0 12 * * *", "2026-07-01 00:00", "2026-07-01 16:00"),
    ],
)
def test_what_is_due(text: str, after: str, due: str) -> None:
    then = datetime.fromisoformat(after).replace(tzinfo=UTC).timestamp()
    found = next_time(text, then, UTC)
    assert (NEVER if found is None else datetime.fromtimestamp(found, UTC).strftime("%Y-%m-%d %H:%M")) == due


def test_the_servers_zone() -> None:
    def local(text: str, after: datetime) -> str:
        found = next_time(text, after.timestamp(), BERLIN)
        assert found is not None
        return datetime.fromtimestamp(found, BERLIN).strftime("%d %H:%M%z")

    assert local("30 3 * * *", datetime(2026, 1, 1, 12, tzinfo=BERLIN)) == "02 03:30+0100"
    assert local("30 3 * * *", datetime(2026, 7, 1, 12, tzinfo=BERLIN)) == "02 03:30+0200"
    assert local("TZ=Local 30 3 * * *", datetime(2026, 7, 1, 12, tzinfo=BERLIN)) == "02 03:30+0200"
    assert local("30 2 * * *", datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN)) == "26 02:30+0100"
