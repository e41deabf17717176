"""What programs have told by way of their loggers."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import pytest

from looptap.tees import Told


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads take turns as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_threads_that_tell_at_once(hasty: None) -> None:
    """None of them gets an exception from the other ones, and no more steps are kept than are looked back at."""
    told, failed = Told(), []

    def tell(thread: int) -> None:
        try:
            for step in range(30_000):
                told.tell({"loss": 1.0}, 4 * step + thread, "user")
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=tell, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(told.steps) <= 32 + len(threads)


def test_the_oldest_step_goes() -> None:
    told = Told()
    for step in range(40):
        told.tell({"loss": float(step)}, step, "user")
    assert list(told.steps) == list(range(8, 40))
    assert told.by_another("loss", 39.0, 39, "tensorboard")
    assert not told.by_another("loss", 7.0, 7, "tensorboard")
