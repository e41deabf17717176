"""Alerts as episodes."""

from __future__ import annotations

from looptap.events import Alert
from looptap_collector.alerts import counted, episodes, in_words
from looptap_collector.backend import AlertCount


def alert(kind: str, state: str = "fired", time_ns: int = 1, key: str | None = None, rank: int = 0) -> Alert:
    return Alert(kind, "warning", state, "m", time_ns, key, rank=rank)


def test_each_end_belongs_to_its_beginning() -> None:
    """Of the same kind, series and rank."""
    told = [
        alert("stall"),
        alert("stall", rank=1),
        alert("not_finite", key="a"),
        alert("stall", "recovered", 2),
        alert("not_finite", "recovered", 3, key="b"),
        alert("stall", time_ns=4),
    ]
    found = [(one.fired, one.recovered) for one in episodes(told)]
    assert found == [(told[0], told[3]), (told[1], None), (told[2], None), (told[5], None)]


def test_an_end_that_was_lost() -> None:
    """What fires again ends, whichever it was of."""
    told = [alert("stall"), alert("stall", time_ns=2), alert("stall", "recovered", 3), alert("stall", "recovered", 4)]
    assert [one.recovered for one in episodes(told)] == [None, told[2]]


def test_counts() -> None:
    """Never below none."""
    told = [alert("stall"), alert("disk"), alert("stall", "recovered")]
    assert counted(told) == AlertCount(2, 1)
    assert counted(told[2:]) == AlertCount(0, 0)
    assert [in_words(AlertCount(count)) for count in (0, 1, 1_200)] == ["", "1 alert", "1,200 alerts"]
