"""Requests that are counted by the test itself, with nothing written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from looptap.events import Window
from looptap.serving.traffic import TRAFFIC, now
from looptap.serving.windows import Windows
from looptap.session import SESSION


@pytest.fixture(autouse=True)
def counted() -> Iterator[Callable[[], list[Window]]]:
    """Everything that ended since the test began, as windows of one and the same time."""
    TRAFFIC.after_fork_in_child()
    TRAFFIC.is_counted = True

    def windows() -> list[Window]:
        counting = Windows()
        counting.begin(now())
        while TRAFFIC.done:
            counting.count(TRAFFIC.done.popleft())
        return counting.close(list(TRAFFIC.live))

    yield windows
    # A request that ends after its test must not make the agent count for itself, in this process, from then on.
    SESSION.serving.is_wanted = False
    TRAFFIC.after_fork_in_child()


@contextmanager
def out_of_the_way() -> Iterator[None]:
    """Inside, nobody counts."""
    SESSION.serving.is_wanted = TRAFFIC.is_counted = False
    yield
    TRAFFIC.is_counted = True
