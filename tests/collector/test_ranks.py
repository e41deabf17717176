"""What the ends of several ranks come to, and how ranks are named."""

from __future__ import annotations

import pytest

from looptap_collector.ranks import End, in_words, together


@pytest.mark.parametrize(
    ("ranks", "words"),
    [([], ""), ([3], "3"), ([2, 0, 1], "0–2"), ([0, 2, 3, 5], "0, 2–3, 5"), ([1, 1, 2], "1–2")],
)
def test_ranks_in_words(ranks: list[int], words: str) -> None:
    """Neighbours are drawn together, each is named once."""
    assert in_words(ranks) == words


def test_a_process_alone_keeps_its_words() -> None:
    """The error of a run of one process names no rank, and nobody is waited for."""
    end = End("failed", 5, "ValueError: no")
    assert together({0: end}) == end
    assert together({}) is None
    assert together({0: end, 1: None}) is None


def test_lost_ranks() -> None:
    """Silent ranks make a run partial or lost, as dead ones do, and never hide a failure."""
    lost, finished, failed = End("lost", 3, "silent"), End("finished", 5), End("failed", 4, "no")
    assert together({0: finished, 1: lost}) == End("partial", 5, "rank 1: silent")
    assert together({0: lost, 1: finished}) == End("lost", 5, "rank 0: silent")
    assert together({0: lost, 1: failed}) == End("failed", 4, "rank 1: no")
    assert together({2: lost, 3: finished}) == End("lost", 5, "rank 2: silent"), "the lowest stands for rank 0"
