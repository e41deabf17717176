"""What changes slowly, or is dear to read, and is therefore not read for each sample."""

from __future__ import annotations


class Seldom:
    """``seconds`` at the least lie between two readings; the first one is due at once."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._at = 0.0

    def is_due(self, now: float) -> bool:
        if now < self._at:
            return False
        self._at = now + self._seconds
        return True

    def not_within(self, seconds: float, now: float) -> None:
        """It was dear: not again for so long."""
        self._at = now + max(self._seconds, seconds)
