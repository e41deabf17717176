"""What is called again and again beside the training."""

from __future__ import annotations

import threading

from looptap.rhythm import Rhythm


class Look:
    """Counts how often it was called, and waits for that."""

    def __init__(self) -> None:
        self.count = 0
        self.threads: set[str] = set()
        self._called = threading.Condition()

    def __call__(self) -> None:
        with self._called:
            self.count += 1
            self.threads.add(threading.current_thread().name)
            self._called.notify_all()

    def wait_for(self, count: int) -> bool:
        with self._called:
            return self._called.wait_for(lambda: self.count >= count, timeout=30)


def is_alive() -> bool:
    return any(thread.name == "looptap-rhythm" for thread in threading.enumerate())


def test_called_while_a_run_is_under_way() -> None:
    """At its begin, again and again, at its end, in one thread; not before and not after."""
    rhythm, look, rare = Rhythm(), Look(), Look()
    rhythm.every(0.01, look)
    rhythm.every(3600.0, rare)
    assert not is_alive()
    for run in (1, 2):
        count = look.count
        rhythm.start()
        assert look.wait_for(count + 5)
        rhythm.stop()
        assert not is_alive()
        assert rare.count == 2 * run
    assert look.threads == {"looptap-rhythm"}


def test_no_thread_where_nothing_was_asked_for() -> None:
    """A run without anything to look at has no thread; the first function that comes makes one."""
    rhythm, look = Rhythm(), Look()
    rhythm.start()
    assert not is_alive()
    rhythm.every(0.01, look)
    assert look.wait_for(2)
    rhythm.stop()
    assert not is_alive()


def test_removed() -> None:
    """Not called again; others are."""
    rhythm, look, other = Rhythm(), Look(), Look()
    handle = rhythm.every(0.01, look)
    rhythm.every(0.01, other)
    handle.remove()
    handle.remove()
    rhythm.start()
    assert other.wait_for(3)
    rhythm.stop()
    assert look.count == 0


def test_forked_child() -> None:
    """It has no such thread, and can start its own."""
    rhythm, look = Rhythm(), Look()
    rhythm.every(0.01, look)
    rhythm.after_fork_in_child()
    rhythm.start()
    assert look.wait_for(1)
    rhythm.stop()
