"""What requests come to, in windows."""

from __future__ import annotations

import pytest

from looptap.serving.model import Model
from looptap.serving.traffic import ModelCall, Request
from looptap.serving.windows import MOST_KINDS, MOST_WINDOWS, Windows
from looptap.sketches import histogram

SECOND = 10**9


@pytest.fixture
def windows() -> Windows:
    made = Windows()
    made._offset_ns = 0
    made.begin(1000 * SECOND)
    return made


def request(
    begun: float, ended: float, endpoint: str = "", model: Model | None = None, error: str | None = None
) -> Request:
    made = Request()
    made.begun, made.in_flight = int(begun * SECOND), 1
    made.ended, made.endpoint, made.error = int(ended * SECOND), endpoint, error
    if model is not None:
        call = ModelCall(model)
        call.begun, call.ended = made.begun + 10**6, made.ended - 3 * 10**6
        call.answer = [1, 2]
        made.calls.append(call)
    return made


def median(encoded: bytes) -> float | None:
    return histogram.decode(encoded).quantile(0.5)


def test_one_window_for_each_model_version_and_endpoint(windows: Windows) -> None:
    one, other = Model("intent", "1"), Model("intent", "2")
    for number in range(4):
        windows.count(request(1001, 1001.1, "POST /a", one))
        windows.count(request(1001, 1001.2, "POST /b", one, "ValueError" if number else None))
        windows.count(request(1001, 1001.1, "POST /a", other))
        windows.count(request(1001, 1001.01, "GET /health"))
    closed = {(one.model, one.version, one.endpoint): one for one in windows.close([])}
    assert set(closed) == {
        ("intent", "1", "POST /a"),
        ("intent", "1", "POST /b"),
        ("intent", "2", "POST /a"),
        ("", None, "GET /health"),
    }
    found = closed["intent", "1", "POST /b"]
    assert (found.requests, found.errors, found.time_ns, found.seconds) == (4, {"ValueError": 3}, 1000 * SECOND, 10.0)
    assert median(found.latency["total"]) == pytest.approx(0.2, rel=0.011)
    assert median(found.latency["before"]) == pytest.approx(0.001, rel=0.011)
    assert median(found.latency["after"]) == pytest.approx(0.003, rel=0.011)
    assert median(found.latency["model"]) == pytest.approx(0.196, rel=0.011)
    assert windows.close([]) == []


def test_requests_under_way(windows: Windows) -> None:
    """By the time that each of them was in the window: a request that began before, one that ended in it, one that goes on."""
    model = Model("m")
    windows.count(request(990, 1004, "x", model))
    windows.count(request(1001, 1003, "x", model))
    hanging = request(900, 0, "", model)
    hanging.in_flight = 3
    found = {one.endpoint: one for one in windows.close([hanging])}
    assert found["x"].in_flight == pytest.approx(0.6)
    assert found[""].in_flight == pytest.approx(1.0)
    assert (found[""].requests, found[""].in_flight_max) == (0, 3)


def test_kinds_are_bounded(windows: Windows) -> None:
    """Ten thousand endpoints or classes of errors are so many and one."""
    for number in range(10_000):
        windows.count(request(1001, 1002, f"GET /{number}"))
        windows.count(request(1001, 1002, "same", None, f"Error{number}"))
    closed = {one.endpoint: one for one in windows.close([])}
    assert len(closed) == MOST_WINDOWS + 1
    assert sum(one.requests for one in closed.values()) == 20_000
    assert len(closed["same"].errors) == MOST_KINDS + 1
    assert sum(closed["same"].errors.values()) == 10_000


def test_so_far_changes_nothing(windows: Windows) -> None:
    windows.count(request(1001, 1002, "x"))
    first = windows.so_far()
    assert first == windows.so_far()
    windows.count(request(1001, 1002, "x"))
    (closed,) = windows.close([])
    assert closed.requests == 2
    assert len(histogram.decode(closed.latency["total"])) == 2


def test_a_window_is_small(windows: Windows) -> None:
    import numpy as np

    from looptap.events import Window
    from looptap.journal.frames import encode

    chance = np.random.default_rng(1)
    model = Model("intent", "1")
    for took in chance.lognormal(-4, 0.4, 20_000):
        made = request(1001, 1001 + took + 0.004, "POST /predict", model)
        probabilities = chance.dirichlet(np.ones(10))
        made.calls[0].answer = [probabilities.tolist()]
        windows.count(made)
    (window,) = windows.close([])
    assert isinstance(window, Window)
    assert len(encode(window)) <= 3_000
