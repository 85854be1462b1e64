"""The memory that all sandboxes may use together: measured now and then, counted in between."""

from __future__ import annotations


class Budget:
    """Bytes in use: what was measured last, plus what is starting, plus what has started since, less what was closed since."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._measured = 0
        self._starting = 0
        self._fresh = 0

    @property
    def used_bytes(self) -> int:
        return max(0, self._measured + self._fresh) + self._starting

    def fits(self, wanted_bytes: int) -> bool:
        return self.used_bytes + wanted_bytes <= self.limit_bytes

    def begin(self, expected_bytes: int) -> None:
        """A sandbox is being started; ``end`` must follow."""
        self._starting += expected_bytes

    def end(self, expected_bytes: int) -> None:
        """The start has ended, well or not; until the next measurement it counts as running."""
        self._starting -= expected_bytes
        self._fresh += expected_bytes

    def closed(self, expected_bytes: int) -> None:
        """A sandbox is being closed."""
        self._fresh -= expected_bytes

    def measure(self, total_bytes: int) -> None:
        """What all sandboxes really use."""
        self._measured = total_bytes
        self._fresh = 0
