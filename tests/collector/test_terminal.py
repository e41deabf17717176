"""Runs as text: what a terminal is shown, and what it must never be told."""

from __future__ import annotations

import io
import math
from datetime import datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from rich.text import Text

from looptap_collector.backend import History
from looptap_collector.query import Accounts
from looptap_collector.terminal import (
    console,
    delivery_line,
    local_time,
    number,
    plot,
    printable,
    setting,
    size,
    sparkline,
    took,
)

BLANK = "\u2800"


def history(values: list[float], steps: list[int] | None = None) -> History:
    at = np.array(steps if steps is not None else range(len(values)), np.int64)
    return History(at, at * 1000, np.array(values, np.float64))


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        ("plain é 漢 🙂", "plain é 漢 🙂"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]52;c;Y2xpcA==\x07", ""),
        ("\x9b31mred", "red"),
        ("\x9d0;title\x9cafter", "after"),
        ("\x1bP1$r\x1b\\after", "after"),
        ("\x1bcreset", "reset"),
        ("one\r\ntwo\tthree", "one two three"),
        ("back\x08\x7f\x00", "back"),
        ("\u202egnp.exe\u2066", "gnp.exe"),
        ("\ud800", ""),
        ("\x1b", ""),
    ],
)
def test_printable(stored: str, shown: str) -> None:
    """Escape sequences go with all that belongs to them; letters of every language stay."""
    assert printable(stored) == shown


@given(some.text(alphabet=some.sampled_from("\x1b\x9b\x9d\x9c\x90[]P;:0mc\\\x07 \n\u202eab")))
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    """Whatever is put together from escapes and letters, no control character comes through."""
    shown = printable(text)
    assert all(
        ord(character) >= 32 and not 127 <= ord(character) < 160 and character != "\u202e" for character in shown
    )
    assert printable(shown) == shown


def test_markup_is_text() -> None:
    """Square brackets from a store are not read as styles, and emoji codes stay codes."""
    stream = io.StringIO()
    console(stream).print(Text(printable("[red]x[/red] :smile:")))
    assert stream.getvalue() == "[red]x[/red] :smile:\n"


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
    lines = plot(history(values, steps), width=20, height=3)
    assert len(lines) == 4
    assert {len(line.split("┤")[1]) for line in lines[:3]} == {20}


def test_plot_without_a_number() -> None:
    """A series of NaN alone says so instead."""
    assert plot(history([math.nan] * 1200)) == ["  all 1,200 values are NaN or infinite"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (59.94, "59.9 s"),
        (61, "1 min 01 s"),
        (3599.9, "1 h 00 min"),
        (86_400, "24 h 00 min"),
        (200_000, "2 d 7 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    """Durations are short, with the two units that matter."""
    assert took(seconds) == text


def test_times_of_day() -> None:
    """Today goes without its date; what no calendar has is said to be unknown."""
    now = int(datetime(2026, 1, 2, 15, 0).timestamp()) * 10**9
    assert local_time(now, now) == "15:00:00 today"
    assert local_time(now - 86_400 * 10**9, now) == "2026-01-01 15:00"
    assert local_time(10**30, now) == "unknown time"


def test_values() -> None:
    """Numbers have six digits, sizes have units, long settings are cut."""
    assert [number(value) for value in (None, 1e-7, 1 / 3, math.nan, -math.inf)] == [
        "–",
        "1e-07",
        "0.333333",
        "NaN",
        "-Inf",
    ]
    assert [size(count) for count in (0, 1023, 1536, 5 * 2**30)] == ["0 B", "1023 B", "1.5 KiB", "5.0 GiB"]
    assert setting(2**63 + 1) == "9223372036854775809"
    assert setting("x" * 500) == "x" * 199 + "…"
    assert setting([None, True, "a"]) == "[None, True, 'a']"


def test_line_of_delivery() -> None:
    """The line adds up, with every reason for a loss."""
    account = Accounts(stored=1000, in_journal=3, dropped={"journal_full": 2, "unreadable": 1})
    assert delivery_line(account, 990) == (
        "990 points stored, 3 dropped (2 journal_full, 1 unreadable)"
        " · records: 1,006 emitted = 1,000 stored + 3 in journal + 3 dropped"
    )
