"""The line diff: whole, true and as short as can be (contract 2.7)."""

from __future__ import annotations

from itertools import groupby, pairwise

from hypothesis import given
from hypothesis import strategies as st

from spinney.dialects.lunar import diff
from spinney.dialects.lunar.diff import diff_lines

TEXTS = st.lists(st.sampled_from(["a", "b", "c", ""]), max_size=12).map("\n".join)


def lines(text: str) -> list[str]:
    return text.split("\n")[: -1 if text.endswith("\n") or not text else None]


def longest(old: list[str], new: list[str]) -> int:
    """The length of a longest common subsequence, as in a textbook."""
    row = [0] * (len(new) + 1)
    for a in old:
        before = row
        row = [0]
        for n, b in enumerate(new):
            row.append(before[n] + 1 if a == b else max(before[n + 1], row[n]))
    return row[-1]


def check(old: str, new: str) -> int:
    """A diff must give both texts back; how many lines stay."""
    found = diff_lines(old, new)
    sides = {"old_line": ("removed", lines(old)), "new_line": ("added", lines(new))}
    for key, (kind, expected) in sides.items():
        shown = [line for line in found if key in line]
        assert [line["content"] for line in shown] == expected
        assert [line[key] for line in shown] == list(range(1, len(expected) + 1))
        assert all(line["line_type"] in (kind, "unchanged") for line in shown)
    kinds = [kind for kind, _ in groupby(line["line_type"] for line in found)]
    assert ("added", "removed") not in pairwise(kinds)
    return sum(line["line_type"] == "unchanged" for line in found)


@given(TEXTS, TEXTS)
def test_it_is_as_short_as_can_be(old: str, new: str) -> None:
    assert check(old, new) == longest(lines(old), lines(new))


def test_equal_and_empty_texts() -> None:
    assert diff_lines("", "") == []
    assert check("a\nb", "a\nb\n") == 2
    assert check("\n\n", "\n") == 1


def test_large_texts() -> None:
    old = "\n".join(f"line {n}" for n in range(30000))
    new = old.replace("line 7\n", "").replace("line 9999\n", "x\ny\n") + "\nend"
    assert check(old, new) == 29998
    assert check("\n" * 1000000, "\n" * 500000) == 500000


def test_texts_too_different_to_compare_all_of() -> None:
    old = "\n".join(f"{n % 7}" if n % 5 else f"unique {n}" for n in range(300))
    new = "\n".join(f"{n % 3}" if n % 5 else f"unique {n}" for n in range(300))
    exact = check(old, new)
    limit, diff.BITS_MAX = diff.BITS_MAX, 100
    try:
        assert 60 <= check(old, new) <= exact
    finally:
        diff.BITS_MAX = limit
