"""What there is only so much of, shared among callers so that none of them can take it all."""

from __future__ import annotations

from collections import Counter

from looptap_collector.server.errors import busy


class Shares:
    """``total`` of something, three quarters of it for one caller at most. To be used on the event loop only."""

    def __init__(self, what: str, total: int, *, retry_after: int) -> None:
        """``what`` is told to those who come too late: ``live streams``."""
        self._what = what
        self._total = total
        self._each = total - total // 4
        self._retry_after = retry_after
        self._taken: Counter[str] = Counter()

    @property
    def taken(self) -> int:
        return self._taken.total()

    def take(self, who: str, amount: int = 1) -> None:
        """Must be given back with :meth:`give_back`. Raises :class:`Refusal` when there is not so much left."""
        if self.taken + amount > self._total:
            raise busy(f"{self._what}: all {self._total} are taken", retry_after=self._retry_after)
        if self._taken[who] + amount > self._each:
            raise busy(f"{self._what}: this token has its share of {self._each} already", retry_after=self._retry_after)
        self._taken[who] += amount

    def give_back(self, who: str, amount: int = 1) -> None:
        self._taken[who] -= amount
        if not self._taken[who]:
            del self._taken[who]
