"""Rate limits: exact counts, windows that begin with the first request, bounded memory, clocks that are set."""

from __future__ import annotations

import pytest
from tests.unit.conftest import ManualClock

from spinney.core.limits import UNLIMITED, RateLimits, Windows


@pytest.fixture
def limits(clock: ManualClock) -> RateLimits:
    return RateLimits(clock)


def test_exactly_as_many_as_allowed(limits: RateLimits) -> None:
    quotas = [limits.hit("invoke", 5, "ann") for _ in range(8)]
    assert [quota.allowed for quota in quotas] == [True] * 5 + [False] * 3
    assert [quota.remaining for quota in quotas] == [4, 3, 2, 1, 0, 0, 0, 0]
    assert {quota.limit for quota in quotas} == {5}


def test_groups_and_keys_are_apart(limits: RateLimits) -> None:
    assert limits.hit("reads", 1, "ann").allowed
    assert limits.hit("writes", 1, "ann").allowed
    assert limits.hit("reads", 1, "ben").allowed
    assert not limits.hit("reads", 1, "ann").allowed


def test_a_window_begins_with_its_first_request(limits: RateLimits, clock: ManualClock) -> None:
    clock.time += 17.25
    first = limits.hit("reads", 2, "ann")
    clock.time += 59.5
    last = limits.hit("reads", 2, "ann")
    assert (first.retry_after_s, last.retry_after_s) == (60, 1)
    assert first.reset_at == last.reset_at == 1_700_000_000 + 78
    assert not limits.hit("reads", 2, "ann").allowed
    clock.time += 0.5
    assert limits.hit("reads", 2, "ann").remaining == 1


def test_refused_requests_do_not_prolong_or_fill_a_window(limits: RateLimits, clock: ManualClock) -> None:
    limits.hit("reads", 1, "ann")
    for _ in range(59):
        clock.time += 1
        assert not limits.hit("reads", 1, "ann").allowed
    clock.time += 1
    assert limits.hit("reads", 1, "ann").allowed


def test_other_lengths(limits: RateLimits, clock: ManualClock) -> None:
    assert limits.hit("all", 2, "ann", 3600).retry_after_s == 3600
    assert limits.hit("all", 1, "ann").allowed
    clock.time += 60
    assert limits.hit("all", 1, "ann").allowed
    assert limits.hit("all", 2, "ann", 3600).retry_after_s == 3540
    assert not limits.hit("all", 2, "ann", 3600).allowed


@pytest.mark.parametrize("seconds", [3600.0, -3600.0, 86400.0 * 365])
def test_a_wall_clock_that_is_set_changes_no_window(limits: RateLimits, clock: ManualClock, seconds: float) -> None:
    limits.hit("reads", 1, "ann")
    clock.ahead = seconds
    clock.time += 20
    refused = limits.hit("reads", 1, "ann")
    assert not refused.allowed
    assert refused.retry_after_s == 40
    assert refused.reset_at == clock.now() + 40
    clock.time += 40
    assert limits.hit("reads", 1, "ann").allowed


def test_no_limit_counts_nothing(clock: ManualClock) -> None:
    limits = RateLimits(clock)
    assert all(limits.hit("reads", 0, "ann") is UNLIMITED for _ in range(10))
    lifted = RateLimits(clock, off=True)
    assert all(lifted.hit("reads", 1, "ann").allowed for _ in range(10))


def test_many_keys_do_not_fill_the_memory(clock: ManualClock) -> None:
    windows = Windows(clock, windows_max=100)
    for number in range(1000):
        windows.incr(f"key {number}", 60)
    assert len(windows) == 100
    assert windows.get("key 999") == 1
    assert windows.get("key 0") == 0


def test_windows_that_are_over_are_forgotten(clock: ManualClock) -> None:
    windows = Windows(clock)
    for number in range(1000):
        windows.incr(f"key {number}", 60)
        clock.time += 0.01
    clock.time += 60
    windows.incr("another", 60)
    assert len(windows) == 1


def test_the_storage_is_what_the_library_asks_for(clock: ManualClock) -> None:
    windows = Windows(clock)
    assert windows.check()
    assert windows.get_expiry("none") == clock.monotonic()
    windows.incr("one", 60, 3)
    windows.incr("two", 3600)
    assert windows.get("one") == 3
    windows.clear("one")
    assert windows.get("one") == 0
    assert windows.reset() == 1
    assert len(windows) == 0
