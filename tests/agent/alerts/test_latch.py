"""Alerts are raised once, and again only after a clear recovery."""

from __future__ import annotations

from looptap.alerts.latch import FIRED, RECOVERED, Latch


def told(latch: Latch, values: list[tuple[float, float]]) -> list[str | None]:
    """Above 95 is wrong, below 90 is right."""
    return [latch.see(time, is_wrong=value > 95, is_right=value < 90) for time, value in values]


def test_between_the_thresholds_nothing_changes() -> None:
    values = [(0.0, 80.0), (1, 96), (2, 94), (3, 96), (4, 91), (5, 89), (6, 94), (7, 96)]
    assert told(Latch(), values) == [None, FIRED, None, None, None, RECOVERED, None, FIRED]


def test_it_has_to_last() -> None:
    """Three seconds to fire, two to recover; what is interrupted begins anew."""
    latch = Latch(3.0, 2.0)
    assert told(latch, [(0, 99), (2, 99), (2.5, 80), (3, 99), (5, 99), (6, 99)]) == [None] * 5 + [FIRED]
    assert told(latch, [(7, 80), (8, 99), (9, 80), (10, 80), (11, 80)]) == [None] * 4 + [RECOVERED]


def test_what_nobody_saw_does_not_count() -> None:
    latch = Latch(3.0)
    assert told(latch, [(0, 99), (2, 99)]) == [None, None]
    latch.lost_sight()
    assert told(latch, [(100, 99), (102, 99), (103, 99)]) == [None, None, FIRED]
