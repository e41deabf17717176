"""Tables in terminals of any width."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console
from rich.text import Text

from looptap_collector.fitting import Column, Fitted, Trend


def lines(table: Fitted, width: int) -> list[str]:
    stream = io.StringIO()
    Console(file=stream, width=width).print(table)
    return [line.rstrip() for line in stream.getvalue().splitlines() if line.strip()]


@pytest.fixture
def table() -> Fitted:
    made = Fitted(
        *(Column("name", least=8), Column("last", "right"), Column("count", "right", spare=2)),
        *(Column("steps", spare=3), Column("trend", least=4, spare=1)),
    )
    made.add_row(*map(Text, ("loss", "0.25", "1,000", "0–999")), Trend(np.arange(12.0)))
    made.add_row(*map(Text, ("a_rather_long_name", "17.5", "80", "0–79")), Trend(np.arange(3.0)))
    return made


def test_all_of_it(table: Fitted) -> None:
    """Where there is room nothing is folded, left out or stretched."""
    assert lines(table, 100) == [
        " name                last  count  steps  trend",
        " ────────────────────────────────────────────────────",
        " loss                0.25  1,000  0–999  ▁▂▂▃▄▄▅▅▆▇▇█",
        " a_rather_long_name  17.5     80  0–79   ▁▅█",
    ]


def test_what_is_left_out_first(table: Fitted) -> None:
    """Before a name is broken, a trend is drawn smaller; then columns go, by how readily they may."""
    heads = [lines(table, width)[0].split() for width in (38, 37, 31, 30, 23)]
    assert heads == [
        ["name", "last", "count", "steps", "trend"],
        ["name", "last", "count", "trend"],
        ["name", "last", "count", "trend"],
        ["name", "last", "trend"],
        ["name", "last"],
    ]
    assert lines(table, 50)[2:] == [
        " loss                0.25  1,000  0–999  ▁▂▄▅▆▇█",
        " a_rather_long_name  17.5     80  0–79   ▁▅█",
    ]


@pytest.mark.parametrize("width", [120, 80, 60, 40, 30, 20, 10])
def test_never_wider_than_the_terminal(table: Fitted, width: int) -> None:
    assert max(map(len, lines(table, width))) <= width


def test_what_is_cut(table: Fitted) -> None:
    """A name that nobody needs whole ends in dots, and makes no second line."""
    made = Fitted(Column("run"), Column("script", least=8, is_cut=True))
    made.add_row(Text("calm-otter-12"), Text("held_back_by_loader.py"))
    assert lines(made, 30)[2:] == [" calm-otter-12  held_back_b…"]


def test_without_rows() -> None:
    assert lines(Fitted(Column("name"), Column("trend", least=4)), 40)[0].split() == ["name", "trend"]
