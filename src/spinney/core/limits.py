"""How often one caller may do one thing: fixed windows that begin with the first counted request (the ``limits`` library).

The library's own memory storage goes by the wall clock, and scans all keys a hundred times a second on a thread of its own;
``Windows`` needs neither.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from math import ceil
from typing import NamedTuple

from limits import RateLimitItem, RateLimitItemPerSecond
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter

from spinney.ports import Clock

MINUTE_S = 60
WINDOWS_MAX = 100_000
"""Windows of one length that are remembered: beyond that the oldest is forgotten, so that many keys cannot fill the memory."""
CLOCK_SET_S = 0.5
"""The wall clock was set when it went that much otherwise than the steady one."""


class Quota(NamedTuple):
    """What a limit says to one request. When ``limit`` is 0 there is none, and the other numbers say nothing."""

    allowed: bool
    limit: int
    remaining: int
    """Requests that this window still allows, after this one."""
    reset_at: int
    """When the window is over, in Unix seconds: the same for all its requests."""
    retry_after_s: int
    """Whole seconds until then, at least 1 and at most the window's length."""


UNLIMITED = Quota(True, 0, 0, 0, 1)


class _Window:
    __slots__ = ("count", "ends_at")

    def __init__(self, ends_at: float) -> None:
        self.ends_at = ends_at
        self.count = 0


class Windows(Storage):
    """The library's Storage, by the steady clock, for one thread.

    Windows of one length end in the order in which they began, so those that are over are always the first of their dict. (An
    OrderedDict: a dict looks through all that were removed to find its first.)
    """

    STORAGE_SCHEME = None

    def __init__(self, clock: Clock, windows_max: int = WINDOWS_MAX) -> None:
        super().__init__()
        self._now = clock.monotonic
        self._windows_max = windows_max
        self._by_length: dict[int, OrderedDict[str, _Window]] = {}

    @property
    def base_exceptions(self) -> tuple[type[Exception], ...]:
        return ()

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Count ``amount`` in the window of ``key``, which lasts ``expiry`` seconds; the count so far."""
        windows = self._by_length.get(expiry)
        if windows is None:
            windows = self._by_length[expiry] = OrderedDict()
        window = windows.get(key)
        if window is None or window.ends_at <= self._now():
            window = self._begin(windows, key, expiry)
        window.count += amount
        return window.count

    def _begin(self, windows: OrderedDict[str, _Window], key: str, expiry: int) -> _Window:
        now = self._now()
        windows.pop(key, None)
        while windows:
            oldest = next(iter(windows))
            if windows[oldest].ends_at > now and len(windows) < self._windows_max:
                break
            del windows[oldest]
        window = windows[key] = _Window(now + expiry)
        return window

    def _find(self, key: str) -> _Window | None:
        for windows in self._by_length.values():
            window = windows.get(key)
            if window is not None and window.ends_at > self._now():
                return window
        return None

    def get(self, key: str) -> int:
        window = self._find(key)
        return 0 if window is None else window.count

    def get_expiry(self, key: str) -> float:
        """When the window of ``key`` is over, in seconds of the steady clock; now, when there is none."""
        window = self._find(key)
        return self._now() if window is None else window.ends_at

    def check(self) -> bool:
        return True

    def reset(self) -> int:
        count = len(self)
        self._by_length.clear()
        return count

    def clear(self, key: str) -> None:
        for windows in self._by_length.values():
            windows.pop(key, None)

    def __len__(self) -> int:
        return sum(map(len, self._by_length.values()))


class RateLimits:
    """All limits of the server. ``off`` lifts them all."""

    def __init__(self, clock: Clock, *, off: bool = False, windows_max: int = WINDOWS_MAX) -> None:
        self._clock = clock
        self._off = off
        self._windows = Windows(clock, windows_max)
        self._limiter = FixedWindowRateLimiter(self._windows)
        self._items: dict[tuple[str, int, int], RateLimitItem] = {}
        self._ahead = clock.now() - clock.monotonic()

    def hit(self, group: str, limit: int, key: str, window_s: int = MINUTE_S) -> Quota:
        """Count one request of ``key`` in ``group``, unless it is over ``limit`` requests in ``window_s`` seconds (0: no limit).

        The window begins with the first request after the last window's end. Nothing is awaited, so that many connections
        cannot get past the limit together.
        """
        return self._judge(group, limit, key, window_s, self._limiter.hit)

    def look(self, group: str, limit: int, key: str, window_s: int = MINUTE_S) -> Quota:
        """What ``hit`` would say, without counting: for what only counts when it fails."""
        return self._judge(group, limit, key, window_s, self._limiter.test)

    def _judge(self, group: str, limit: int, key: str, window_s: int, judge: Callable[[RateLimitItem, str], bool]) -> Quota:
        if self._off or limit == 0:
            return UNLIMITED
        item = self._items.get((group, limit, window_s))
        if item is None:
            item = self._items[group, limit, window_s] = RateLimitItemPerSecond(limit, window_s, namespace=group)
        allowed = judge(item, key)
        ends_at, remaining = self._limiter.get_window_stats(item, key)
        now = self._clock.monotonic()
        ahead = self._clock.now() - now
        if abs(ahead - self._ahead) > CLOCK_SET_S:
            self._ahead = ahead
        left = min(window_s, max(1, ceil(ends_at - now)))
        return Quota(allowed, limit, remaining if allowed else 0, ceil(ends_at + self._ahead), left)
