"""What a value looks like on a terminal, and what a terminal must never be told."""

from __future__ import annotations

import math
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as some

from looptap_collector.printable import local_time, number, printable, setting, size, took


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
