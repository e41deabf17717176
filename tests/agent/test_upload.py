"""The pace of an upload, by a clock of its own."""

from __future__ import annotations

from looptap.upload import LEAST_PIECE_BYTES, MOST_PIECE_BYTES, Pace


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


def test_budget_holds() -> None:
    """Of all bytes but the last piece, each has had its time; what was not used is not saved up."""
    clock = Clock()
    pace = Pace(2**20, clock, clock.wait)
    size = pace.most(MOST_PIECE_BYTES)
    assert size == 2**20
    for _ in range(11):
        pace.spend(size)
    assert clock.now == 110.0
    clock.now += 1_000
    before = clock.now
    for _ in range(3):
        pace.spend(size)
    assert clock.now == before + 2.0


def test_small_budget_and_none() -> None:
    """A piece is never smaller than what is worth a request; without a budget nobody waits."""
    clock = Clock()
    assert Pace(10.0, clock, clock.wait).most(MOST_PIECE_BYTES) == LEAST_PIECE_BYTES
    free = Pace(0.0, clock, clock.wait)
    assert free.most(MOST_PIECE_BYTES) == MOST_PIECE_BYTES
    for _ in range(100):
        free.spend(MOST_PIECE_BYTES)
    assert clock.now == 100.0
