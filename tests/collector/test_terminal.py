"""Runs as text."""

from __future__ import annotations

import io
import math

import pytest
from rich.text import Text

from collector.recorded import Recording
from looptap_collector.backend import Backend
from looptap_collector.printable import printable
from looptap_collector.query import Accounts
from looptap_collector.terminal import console, delivery_line, show_run


def test_markup_is_text() -> None:
    """Square brackets from a store are not read as styles, and emoji codes stay codes."""
    stream = io.StringIO()
    console(stream).print(Text(printable("[red]x[/red] :smile:")))
    assert stream.getvalue() == "[red]x[/red] :smile:\n"


@pytest.mark.parametrize(
    ("key", "value", "source", "said"),
    [
        ("allotted.disk", 61_128_286_208, "allotment", "56.9 GiB"),
        ("allotted.memory", 25_276_502_016, "allotment", "23.5 GiB"),
        ("allotted.gpu.0.memory", 85_520_809_984, "allotment", "79.6 GiB"),
        ("allotted.cpus", 4096, "allotment", "4096"),
        ("allotted.memory", 4096, "argparse", "4096"),
    ],
)
def test_what_a_machine_gave(backend: Backend, key: str, value: int, source: str, said: str) -> None:
    """Bytes are said as people read them, unless they are a param of the program's own."""
    recording = Recording(backend, "given")
    recording.params({key: value}, source=source)
    run = backend.run(recording.run)
    assert run is not None
    stream = io.StringIO()
    show_run(console(stream), backend, run)
    line = next(line for line in stream.getvalue().splitlines() if line.strip().startswith(key))
    assert line.split() == [key, *said.split(), source]


def test_a_run_in_eighty_columns(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """No line is longer, no name of a usual length is broken, no trend is folded, and how many values are NaN is told."""
    monkeypatch.setenv("COLUMNS", "80")
    recording = Recording(backend, "narrow")
    keys = ["loss", "epoch_time.optimizer", "time.backward", "system.process.context_switches_rate"]
    for key in keys:
        recording.points(key, [0.001 * step for step in range(200)])
    recording.points("aux_loss", [math.nan, 1.0, 2.0])
    run = backend.run(recording.run)
    assert run is not None
    stream = io.StringIO()
    show_run(console(stream), backend, run)
    shown = stream.getvalue().splitlines()
    assert max(map(len, shown)) <= 80
    for key in keys:
        (line,) = [line for line in shown if line.strip().startswith(key.removeprefix("system.") + " ")]
        assert "▁" in line
        assert "█" in line
    assert any("3 (1 NaN)" in line for line in shown)


def test_line_of_delivery() -> None:
    """The line adds up, with every reason for a loss."""
    account = Accounts(stored=1000, in_journal=3, dropped={"journal_full": 2, "unreadable": 1})
    assert delivery_line(account, 990) == (
        "990 points stored, 3 dropped (2 journal_full, 1 unreadable)"
        " · records: 1,006 emitted = 1,000 stored + 3 in journal + 3 dropped"
    )
