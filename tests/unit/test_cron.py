"""Cron texts: the whole grammar and nothing beyond it, and the times they mean."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinney.core.cron import check_schedule, next_time
from spinney.errors import Invalid

START = "2024-05-01 00:00:00"  # a Wednesday


def times(text: str, count: int = 3, start: str = START) -> list[str]:
    """The first times at which a schedule is due after ``start``."""
    found: list[str] = []
    now = datetime.fromisoformat(start + "+00:00").timestamp()
    check_schedule(text)
    for _ in range(count):
        due = next_time(text, now)
        assert due is not None
        assert due > now
        now = due
        found.append(f"{datetime.fromtimestamp(due, UTC):%Y-%m-%d %H:%M:%S}")
    return found


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("* * * * *", "2024-05-01 00:01:00"),
        ("* * * * * *", "2024-05-01 00:00:01"),
        ("*/20 * * * * *", "2024-05-01 00:00:20"),
        ("30 5 * * * *", "2024-05-01 00:05:30"),
        ("*/15 * * * *", "2024-05-01 00:15:00"),
        ("*/100 * * * *", "2024-05-01 01:00:00"),
        ("10-30/10 8 * * *", "2024-05-01 08:10:00"),
        ("0 9,17 * * *", "2024-05-01 09:00:00"),
        ("0 9 * * 1-5", "2024-05-01 09:00:00"),
        ("0 9 * * mon-fri", "2024-05-01 09:00:00"),
        ("0 0 * JAN,Dec *", "2024-12-01 00:00:00"),
        ("0 0 * * 0", "2024-05-05 00:00:00"),
        ("0 0 * * 7", "2024-05-05 00:00:00"),
        ("0 0 * * 6-7", "2024-05-04 00:00:00"),
        ("0 0 29 2 *", "2028-02-29 00:00:00"),
        ("  0 12\t* * *  ", "2024-05-01 12:00:00"),
        ("@hourly", "2024-05-01 01:00:00"),
        ("@daily", "2024-05-02 00:00:00"),
        ("@midnight", "2024-05-02 00:00:00"),
        ("@weekly", "2024-05-05 00:00:00"),
        ("@monthly", "2024-06-01 00:00:00"),
        ("@yearly", "2025-01-01 00:00:00"),
        ("@annually", "2025-01-01 00:00:00"),
    ],
)
def test_first_time(text: str, first: str) -> None:
    assert times(text, 1) == [first]


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("0 0 13 * FRI", ["05-03", "05-10", "05-13"]),
        ("0 0 13 * *", ["05-13", "06-13", "07-13"]),
        ("0 0 * * FRI", ["05-03", "05-10", "05-17"]),
        ("0 0 */14 * MON", ["05-06", "05-13", "05-15"]),
        ("0 0 1 * */3", ["05-04", "05-05", "05-08"]),
        ("0 0 */1 * MON", ["05-06", "05-13", "05-20"]),
        ("0 0 30 2 MON", ["02-03", "02-10", "02-17"]),
    ],
)
def test_either_of_two_restricted_day_fields_is_enough(text: str, days: list[str]) -> None:
    assert [time[5:10] for time in times(text)] == days


@pytest.mark.parametrize("text", ["0 0 30 2 *", "0 0 31 2,4,6,9,11 *", "* * * 31 4 *", "0 0 30-31 FEB *"])
def test_a_date_that_never_comes_is_a_schedule_that_is_never_due(text: str) -> None:
    check_schedule(text)
    assert next_time(text, 0.0) is None


def test_later_than_means_later() -> None:
    check_schedule("* * * * * *")
    assert next_time("* * * * * *", 100.0) == 101.0
    assert next_time("* * * * * *", 100.999) == 101.0


WRONG = """
*|* * * *|* * * * * * *|60 * * * *|* 24 * * *|* * 32 * *|* * 0 * *|* * * 13 *|* * * 0 *|* * * * 8|60 * * * * *|* * * * * 8
*/0 * * * *|1-5/0 * * * *|5-1 * * * *|1-60 * * * *|5/15 * * * *|-1 * * * *|+1 * * * *|1-2-3 * * * *|1/2/3 * * * *|*/* * * * *
** * * * *|*-5 * * * *|, * * * *|1,,2 * * * *|1, * * * *|,1 * * * *|1.5 * * * *|0x1 * * * *|99999999999 * * * *
* * * FOO *|* * * * FOO|JAN * * * *|* * * MON *|* * * * JAN|* * * * SUND|* * * * SUN-|* * JAN * *
* * L * *|* * LW * *|* * 15W * *|* * * * 5L|* * * * 1#2|* * * * MON#1|* * ? * *|* * * * ?|R * * * *|H * * * *|H/5 * * * *
* * W * *|L * * * *|1- * * * *|/2 * * * *
@reboot|@every 5m|@Daily|@daily @daily|@daily *|@|hourly|every minute|a b c d e|TZ=UTC * * * * *|* * * * * 2024-
"""


@pytest.mark.parametrize("text", [text for line in WRONG.strip().split("\n") for text in line.split("|")])
def test_everything_else_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        check_schedule(text)


INVISIBLE = ["", " ", "\n* * * * *", "* * * * *\n", "@daily\n", "*\u00a0* * * *"]
FOREIGN = ["* * * * \u0663", "* * * * \u017fun"]  # an Arabic three; a letter whose capital is S
ENDLESS = ["*," * 600 + "* * * * *", " " * 1000 + "* * * * *"]


@pytest.mark.parametrize("text", [*INVISIBLE, *FOREIGN, *ENDLESS])
def test_nothing_invisible_foreign_or_endless(text: str) -> None:
    with pytest.raises(Invalid):
        check_schedule(text)


@given(st.text(alphabet="0123456789*/-,@LW#?JANMOsun \t\n", max_size=40))
def test_no_text_does_anything_but_pass_or_be_refused(text: str) -> None:
    try:
        check_schedule(text)
    except Invalid:
        return
    due = next_time(text, 1_714_521_600.0)
    assert due is None or due > 1_714_521_600.0
