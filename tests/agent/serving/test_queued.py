"""How long a request had waited, as a proxy tells it."""

from __future__ import annotations

import time

import pytest

from looptap.serving.queued import queued_ns, since


@pytest.mark.parametrize("text", ["t={:.6f}", "{:.3f}", " {:.3f} "])
@pytest.mark.parametrize("unit", [1, 1_000, 1_000_000])
def test_units(text: str, unit: int) -> None:
    """Seconds (Heroku: milliseconds, nginx: seconds with three digits, Passenger: microseconds)."""
    waited = since(text.format((time.time() - 2) * unit))
    assert 1.9e9 < waited < 10e9


@pytest.mark.parametrize("ago", [-60, 3_600])
def test_clocks_that_are_wrong(ago: float) -> None:
    """A request of the future has not waited, nor has one of an hour ago."""
    assert since(f"{time.time() - ago:.3f}") == 0


@pytest.mark.parametrize("text", ["", "soon", "nan", "inf", "-1", "0", "1e300", "12:00:00", "t="])
def test_what_is_no_time(text: str) -> None:
    assert since(text) == 0


def test_headers() -> None:
    at = f"{time.time() - 2:.3f}".encode()
    assert queued_ns([(b"host", at), (b"x-queue-start", at)]) > 1.9e9
    assert queued_ns([(b"x-request-start", b"\xff\xfe")]) == 0
    assert queued_ns([(b"host", at)]) == 0
