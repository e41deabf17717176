"""Where threads are, told as a trace and on one page."""

from __future__ import annotations

import gc
import io
import json
import threading
import time
import weakref
from typing import Any

from looptap.live.stacks import Looks, Place, summary, write_trace


class Big:
    """Something of the program."""


def inner(until: threading.Event) -> None:
    until.wait()


def outer(until: threading.Event) -> None:
    big = Big()
    REFERENCES.append(weakref.ref(big))
    inner(until)


REFERENCES: list[weakref.ref[Big]] = []


def looked(
    seconds: float = 0.3, over: threading.Event | None = None
) -> tuple[Looks, threading.Event, threading.Thread]:
    """At a thread that waits in ``outer`` and ``inner``."""
    until = threading.Event()
    thread = threading.Thread(target=outer, args=(until,), name="trainer")
    thread.start()
    assert thread.ident is not None
    looks = Looks(thread.ident)
    looks.take(seconds, over or threading.Event())
    return looks, until, thread


def events(looks: Looks) -> list[dict[str, Any]]:
    file = io.StringIO()
    write_trace(looks, file)
    found: list[dict[str, Any]] = json.loads(file.getvalue())["traceEvents"]
    return found


def test_a_thread_that_hangs() -> None:
    """Is seen from outermost to innermost, and nothing of the program is kept alive."""
    looks, until, thread = looked()
    until.set()
    thread.join()
    functions = {tuple(place.code.co_name for place in stack) for _, stack in looks.stacks[looks.trains]}
    assert any(" outer inner wait" in " ".join(names) for names in functions)
    gc.collect()
    assert REFERENCES[-1]() is None


def test_the_trace() -> None:
    """One span of each function for all of the time, each within that which called it; threads have their names."""
    looks, until, thread = looked()
    until.set()
    thread.join()
    names = {event["tid"]: event["args"]["name"] for event in events(looks) if event["ph"] == "M"}
    native = looks.native[looks.trains]
    assert names[native] == "trainer (trains)"
    assert native == thread.native_id
    assert "MainThread" in names.values()
    spans = [event for event in events(looks) if event["ph"] == "X" and event["tid"] == native]
    by_name = {event["name"].split()[0]: event for event in spans}
    first, second = by_name["outer"], by_name["inner"]
    assert first["ts"] <= second["ts"]
    assert first["ts"] + first["dur"] >= second["ts"] + second["dur"]
    assert second["dur"] > 0.1 * 1e6
    assert all(event["dur"] > 0 for event in spans)


def test_spans() -> None:
    """A function that returns and is called again is two; a line that changes is the same call."""

    def place(name: str, line: int = 1) -> Place:
        return Place(CODES[name], line)

    looks = Looks(1)
    looks.seconds = 5e-6
    looks.names[1] = "t"
    looks.native[1] = 7
    looks.stacks[1] = [
        (0, (place("a"), place("b"))),
        (1, (place("a", 2), place("b", 3))),
        (2, (place("a"),)),
        (3, (place("a"), place("b"))),
        (4, (place("a"), place("c"))),
    ]
    spans = [(event["name"][-10:], event["ts"], event["dur"]) for event in events(looks) if event["ph"] == "X"]
    # What calls the others is in front of them.
    assert [(start, length) for _, start, length in spans] == [(0, 5), (0, 2), (3, 1), (4, 1)]


def test_our_own_threads_are_left_out() -> None:
    looks, until, thread = looked()
    until.set()
    thread.join()
    assert not any(name.startswith("looptap-") for name in looks.names.values())


def test_it_can_be_cut_short() -> None:
    over = threading.Event()
    over.set()
    began = time.monotonic()
    looks, until, thread = looked(60, over)
    assert time.monotonic() - began < 30
    until.set()
    thread.join()
    assert looks.count == 1


def test_one_page() -> None:
    """What was at the top with its share, and what was under way."""
    looks, until, thread = looked()
    until.set()
    thread.join()
    page = summary(looks, "calm-otter-12")
    assert page.startswith("calm-otter-12: 0.3 s from ")
    assert "test_stacks.py" in page
    assert "inner (test_stacks.py:" in page
    assert len(page.splitlines()) < 60
    assert "has ended" in summary(Looks(0), "x")


def a() -> None: ...
def b() -> None: ...
def c() -> None: ...


CODES = {function.__name__: function.__code__ for function in (a, b, c)}
