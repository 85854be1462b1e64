"""A line diff that drops nothing and is as short as can be (contract 2.7)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any

BITS_MAX = 1 << 29
"""What one comparison may take of memory: lines of one side times lines of the other. Larger ones are cut at lines they share."""

Pairs = Iterator[tuple[int, int]]


def diff_lines(old: str, new: str) -> list[dict[str, Any]]:
    """All lines of both texts, in order; of a changed block first what was removed."""
    before, after = _lines(old), _lines(new)
    found: list[dict[str, Any]] = []
    i = j = 0
    for a, b in [*_common(before, after), (len(before), len(after))]:
        found += [{"line_type": "removed", "old_line": n + 1, "content": before[n]} for n in range(i, a)]
        found += [{"line_type": "added", "new_line": n + 1, "content": after[n]} for n in range(j, b)]
        if a < len(before):
            found.append({"line_type": "unchanged", "old_line": a + 1, "new_line": b + 1, "content": before[a]})
        i, j = a + 1, b + 1
    return found


def _lines(text: str) -> list[str]:
    lines = text.split("\n")
    return lines if lines[-1] else lines[:-1]


def _common(old: Sequence[str], new: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs of indexes of the lines that stay."""
    head = 0
    while head < len(old) and head < len(new) and old[head] == new[head]:
        head += 1
    tail = 0
    while tail < len(old) - head and tail < len(new) - head and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    pairs = [(n, n) for n in range(head)]
    middle = _align(old[head : len(old) - tail], new[head : len(new) - tail])
    pairs += [(a + head, b + head) for a, b in middle]
    pairs += [(len(old) - tail + n, len(new) - tail + n) for n in range(tail)]
    return pairs


def _align(old: Sequence[str], new: Sequence[str]) -> Pairs:
    if len(old) * len(new) <= BITS_MAX:
        yield from _longest(old, new)
        return
    i = j = 0
    for a, b in [*_anchors(old, new), (len(old), len(new))]:
        if (a - i) * (b - j) <= BITS_MAX:  # else all of it has changed, as far as we look
            yield from ((i + x, j + y) for x, y in _longest(old[i:a], new[j:b]))
        if a < len(old):
            yield a, b
        i, j = a + 1, b + 1


def _longest(old: Sequence[str], new: Sequence[str]) -> list[tuple[int, int]]:
    """A longest common subsequence, by the bits of one integer for each line of ``new`` (Hyyrö 2004).

    Bit ``i`` of row ``j`` is 0 where line ``i`` of ``old`` makes the longest one with the first lines of ``new`` longer.
    """
    places: dict[str, int] = {}
    for index, line in enumerate(old):
        places[line] = places.get(line, 0) | 1 << index
    full = (1 << len(old)) - 1
    row, rows = full, []
    for line in new:
        matches = row & places.get(line, 0)
        row = ((row + matches) | (row - matches)) & full
        rows.append(row)
    pairs: list[tuple[int, int]] = []
    i, j = len(old), len(new)
    while i and j:
        if rows[j - 1] >> (i - 1) & 1:
            i -= 1
        elif j > 1 and not rows[j - 2] >> (i - 1) & 1:
            j -= 1
        else:
            i, j = i - 1, j - 1
            pairs.append((i, j))
    return pairs[::-1]


def _anchors(old: Sequence[str], new: Sequence[str]) -> list[tuple[int, int]]:
    """Lines that both sides have exactly once, as many as are in the same order on both."""
    once = [{line: index for index, line in enumerate(side)} for side in (old, new)]
    for places, side in zip(once, (old, new), strict=True):
        seen: set[str] = set()
        for line in side:
            if line in seen:
                places.pop(line, None)
            seen.add(line)
    shared = [(index, once[1][line]) for line, index in once[0].items() if line in once[1]]
    return _rising(sorted(shared))


def _rising(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The longest run of pairs whose second numbers rise."""
    ends: list[int] = []
    last: list[int] = []
    previous: list[int] = []
    for index, (_, b) in enumerate(pairs):
        at = bisect_left(ends, b)
        previous.append(last[at - 1] if at else -1)
        if at == len(ends):
            ends.append(b)
            last.append(index)
        else:
            ends[at], last[at] = b, index
    found: list[tuple[int, int]] = []
    index = last[-1] if last else -1
    while index >= 0:
        found.append(pairs[index])
        index = previous[index]
    return found[::-1]
