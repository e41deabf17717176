"""Series as blocks and dots."""

from __future__ import annotations

import math

import numpy as np
import pytest

from looptap_collector.backend import History
from looptap_collector.plots import held, plot, sparkline

BLANK = "\u2800"


def history(values: list[float], steps: list[int] | None = None) -> History:
    at = np.array(steps if steps is not None else range(len(values)), np.int64)
    return History(at, at * 1000, np.array(values, np.float64))


def test_sparkline() -> None:
    """Heights follow the means of the stretches; a stretch without a finite value is a dot, a constant is level."""
    assert sparkline(np.arange(8.0), 8) == "▁▂▃▄▅▆▇█"
    assert sparkline(np.array([0.0, math.nan, 1.0, math.inf]), 4) == "▁·█·"
    assert sparkline(np.full(1000, 0.1), 8) == "▄" * 8
    assert sparkline(np.array([math.nan]), 8) == "·"
    assert sparkline(np.array([]), 8) == ""
    assert sparkline(np.array([-1.7e308, 1.7e308]), 2) == "▄▄"


def test_plot_of_a_line() -> None:
    """A falling line runs from the upper left to the lower right without a gap, with both scales at its edges."""
    lines = plot(history([10.0, 0.0]), width=10, height=4)
    assert lines[0].startswith("10 ┤")
    assert lines[3].startswith(" 0 ┤")
    assert lines[4].split() == ["0", "1"]
    cells = [line.split("┤")[1] for line in lines[:4]]
    assert cells[0][0] != BLANK
    assert cells[3][-1] != BLANK
    assert cells[3][0] == cells[0][-1] == BLANK
    assert all(any(line[column] != BLANK for line in cells) for column in range(10))


def test_plot_of_what_lasts() -> None:
    """Recorded when it changes: level until then, a step down, and level until the last step of the run."""
    lines = plot(history([10.0, 0.0], [0, 50]), width=10, height=4, lasts_until=100)
    cells = [line.split("┤")[1] for line in lines[:4]]
    assert lines[4].split() == ["0", "100"]
    assert [character != BLANK for character in cells[0]] == [True] * 5 + [False] * 5
    assert [character != BLANK for character in cells[3]] == [False] * 4 + [True] * 6
    assert [character != BLANK for character in cells[1]] == [False] * 4 + [True] + [False] * 5


def test_held() -> None:
    """What it was at steps that are equally far apart, however unevenly it changed."""
    told = held(history([1.0, 2.0, 3.0], [0, 1, 99]), 199, 200)
    assert told.steps.tolist() == list(range(200))
    assert told.values.tolist() == [1.0, *[2.0] * 98, *[3.0] * 101]
    assert sparkline(held(history([1.0, 0.0], [0, 900]), 999, 200).values, 10) == "█████████▁"
    assert held(history([5.0], [7]), 0, 200).steps.tolist() == [7]
    assert len(held(history([]), 10, 200).steps) == 0


def test_plot_keeps_a_spike() -> None:
    """One high point among a hundred thousand reaches the top line."""
    values = [0.0] * 100_000
    values[60_000] = 5.0
    top = plot(history(values))[0]
    assert top.startswith("5 ┤")
    assert sum(character not in f"{BLANK}5 ┤" for character in top) == 1


@pytest.mark.parametrize(
    ("values", "steps"),
    [
        ([1.0], None),
        ([2.0, 2.0, 2.0], None),
        ([1.0, 2.0, 3.0], [7, 7, 7]),
        ([-1.7e308, 1.7e308], None),
        ([1.0, math.inf, math.nan, 2.0], [-(2**63), 0, 1, 2**63 - 1]),
        ([5e-324, 0.0], None),
    ],
)
def test_plot_of_odd_series(values: list[float], steps: list[int] | None) -> None:
    """One point, a constant, one step, the limits of floats and of steps: always a plot of the size asked for."""
    for more in (None, 0, 2**63 - 1):
        lines = plot(history(values, steps), width=20, height=3, lasts_until=more)
        assert len(lines) == 4
        assert {len(line.split("┤")[1]) for line in lines[:3]} == {20}


def test_plot_without_a_number() -> None:
    """A series of NaN alone says so instead."""
    assert plot(history([math.nan] * 1200)) == ["  all 1,200 values are NaN or infinite"]
