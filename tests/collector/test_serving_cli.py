"""``looptap serving`` as a user types it."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from collector.serving import serving_runs
from collector.serving.serving_runs import NEXT, VERSION, Serving, classes, trained
from looptap.events import Example, Window
from looptap_collector.backend import Backend
from looptap_collector.cli import COMMANDS
from looptap_collector.serving import examples

PROGRAM = click.Group("looptap", commands={command.name: command for command in COMMANDS if command.name})
ESCAPES = "\x1b[31mred\x1b]0;title\x07\r\n\u202eend"


def looptap(*arguments: str, columns: int = 80) -> Result:
    return CliRunner(env={"COLUMNS": str(columns)}).invoke(PROGRAM, arguments, catch_exceptions=False)


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test may start long after the module was imported."""
    monkeypatch.setattr(serving_runs, "NOW_NS", time.time_ns())


def window(seconds_ago: float, **more: Any) -> Window:
    return serving_runs.window(seconds_ago, **more)


def record(backend: Backend) -> None:
    trained(backend)
    run = Serving(backend, "server")
    run.windows(*(window(ago, errors={"ValueError": 2, "HTTP 503": 1}) for ago in range(900, 600, -10)))
    run.windows(*(window(ago, version=NEXT, shift=0.5, endpoint=path) for ago in range(300, 0, -10) for path in "ab"))
    run.windows(window(50, model="other", version=None, requests=7))


def test_which_models(backend: Backend) -> None:
    """Each version with its numbers; nothing in a time without requests."""
    record(backend)
    shown = [line.split() for line in looptap("serving").stdout.splitlines() if line.strip()]
    assert [line[:4] for line in shown[2:]] == [
        ["intent", "abababababab", "3,000", "90"],
        ["intent", "cdcdcdcdcdcd", "6,000", "0"],
        ["other", "unknown", "7", "0"],
    ]
    assert looptap("serving", "--since", "1s").stdout == "no model was asked in that time; try a longer --since\n"
    told = json.loads(looptap("serving", "--json").stdout)
    assert [(one["model"], one["requests"]) for one in told["models"]] == [
        ("intent", 3_000),
        ("intent", 6_000),
        ("other", 7),
    ]


def test_outcomes_alone_are_no_requests(backend: Backend) -> None:
    """Who tells of them may do so much later, and of a version that nobody asks."""
    record(backend)
    before = looptap("serving", "--json").stdout
    late = {"requests": 0, "latency": {}, "predictions": {}, "outcomes": {"correct": classes(yes=9).encode()}}
    Serving(backend, "labels").windows(*(window(1, version=version, **late) for version in (VERSION, "ee" * 32)))
    assert looptap("serving", "--json").stdout == before


def test_one_version(backend: Backend) -> None:
    record(backend)
    told = json.loads(looptap("serving", "intent", "--json", "--version", "cd").stdout)
    assert [one["version"] for one in told["versions"]] == [NEXT]
    assert "version abababababab ·" not in looptap("serving", "intent", "--version", "cd", "--since", "86400").stdout
    refused = looptap("serving", "intent", "--version", "zz")
    assert refused.exit_code != 0
    assert "no version that begins with 'zz' was asked in that time; there are: " in refused.stderr
    assert "--version needs the NAME of a model" in looptap("serving", "--version", "cd").stderr
    assert "given twice with --compare" in looptap("serving", "intent", "--version", "a", "--version", "b").stderr


def test_one_model(backend: Backend) -> None:
    """Versions, where they come from, errors, latency, predictions and drift, in 80 columns."""
    record(backend)
    shown = looptap("serving", "intent").stdout
    assert max(map(len, shown.splitlines())) <= 80
    flat = " ".join(shown.split())
    for part in (
        "cdcdcdcdcdcd 6,000",
        "version abababababab · trained by calm-otter-12 at step 500, git 0123456789, uncommitted changes",
        "data train digits (efefefefefef)",
        "errors 3 %: 60 ValueError, 30 HTTP 503",
        "total 4.6",
        "prediction class: 3,000 values; cat 60 %, dog 40 %",
        "validation of calm-otter-12",
        "not compared: no run is known to have written this version",
    ):
        assert part in flat
    assert "not compared" not in looptap("serving", "intent", "--no-drift").stdout
    told = json.loads(looptap("serving", "intent", "--json").stdout)
    assert [one["version"] for one in told["versions"]] == [NEXT, VERSION]
    assert told["versions"][1]["origin"]["name"] == "calm-otter-12"


def test_what_is_wrong_is_said_in_one_line(backend: Backend) -> None:
    record(backend)
    for arguments, said in (
        (("nope",), "no model 'nope' was ever served; there are: intent, other"),
        (("nope", "--json"), "no model 'nope' was ever served"),
        (("intent", "--since", "soon"), "--since: a duration is"),
    ):
        result = looptap("serving", *arguments)
        assert result.exit_code == 2
        assert result.stderr.startswith("looptap: ")
        assert said in result.stderr
        assert result.stderr.count("\n") == 1
    assert "nobody asked it in that time" in looptap("serving", "intent", "--since", "1s").stdout


def asked(ago: float, text: str, **more: Any) -> Example:
    return Example(0.5, serving_runs.NOW_NS - round(ago * 1e9), {"text": text, "top": 3}, **more)


def test_what_it_was_asked(backend: Backend) -> None:
    """Calls that were kept, the latest first, in 80 columns; as JSON all of them."""
    record(backend)
    run = Serving(backend, "kept")
    first = [asked(500, "where is my parcel? " * 30, answer={"label": "shipping", "score": 0.97}, ids=("abc",))]
    second = [asked(ago, f"number {ago} {ESCAPES}", error="ValueError") for ago in range(21)]
    run.windows(window(500, examples=tuple(first)), window(20, version=NEXT, examples=tuple(second[:20])))
    run.windows(window(30, version=NEXT, examples=tuple(second[20:])))
    shown = looptap("serving", "intent", "--inputs").stdout
    assert max(map(len, shown.splitlines())) <= 80
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    flat = " ".join(shown.split())
    assert flat.index("number 0 ") < flat.index("number 1 ") < flat.index("number 19 ")
    assert "version cdcdcdcdcdcd · POST /predict · " in flat
    assert "→ ValueError" in flat
    assert "number 20 " not in flat
    assert flat.endswith("2 more: --json")
    old = " ".join(looptap("serving", "intent", "--inputs", "--version", "ab").stdout.split())
    assert 'text "where is my parcel?' in old
    assert "…" in old
    assert '→ {"label": "shipping", "score": 0.97} id abc' in old
    assert "number" not in old
    told = json.loads(looptap("serving", "intent", "--inputs", "--json").stdout)
    assert told["complete"]
    assert [one["asked"]["text"] for one in told["examples"]] == [one.asked["text"] for one in (*second, *first)]
    assert (told["examples"][-1]["journal"], told["examples"][-1]["ids"]) == (run.journal, ["abc"])
    assert told["examples"][0]["version"] == NEXT
    assert "keeps one in a hundred" in looptap("serving", "other", "--inputs").stdout
    assert json.loads(looptap("serving", "other", "--inputs", "--json").stdout)["examples"] == []
    for arguments, said in (
        (("--inputs",), "--inputs needs the NAME of a model"),
        (("intent", "--inputs", "--compare"), "--inputs needs the NAME of a model, and goes with"),
        (("nope", "--inputs", "--json"), "no model 'nope' was ever served"),
    ):
        result = looptap("serving", *arguments)
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
        assert said in result.stderr


def test_more_calls_than_are_told(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Are not read; it is said so."""
    monkeypatch.setattr(examples, "MOST", 25)
    run = Serving(backend, "kept")
    run.windows(*(window(ago, examples=tuple(asked(ago, f"at {ago}") for _ in range(10))) for ago in range(50, 0, -10)))
    told = json.loads(looptap("serving", "intent", "--inputs", "--json").stdout)
    assert not told["complete"]
    assert [one["asked"]["text"] for one in told["examples"]] == ["at 10"] * 10 + ["at 20"] * 10 + ["at 30"] * 5
    assert looptap("serving", "intent", "--inputs").stdout.rstrip().endswith("at least 5 more: --json")


def test_comparing(backend: Backend) -> None:
    """Two versions side by side, in 80 columns and as JSON; what is wrong with the question in one line."""
    record(backend)
    shown = looptap("serving", "intent", "--compare").stdout
    assert max(map(len, shown.splitlines())) <= 80
    flat = " ".join(shown.split())
    assert "abababababab: 3,000 requests (33 %) · cdcdcdcdcdcd: 6,000 requests (67 %)" in flat
    assert "errors 3 % 0 % -3 (-3.9 to -2.3) points better" in flat
    assert "one after the other" in flat
    assert "cdcdcdcdcdcd is" in flat
    told = json.loads(looptap("serving", "intent", "--compare", "--version", "cd", "--version", "ab", "--json").stdout)
    assert [told["first"]["version"], told["second"]["version"]] == [NEXT, VERSION]
    for arguments, said in (
        (("--compare",), "--compare needs the NAME"),
        (("intent", "--version", "a", "--compare"), "--version is given twice with --compare"),
        (("intent", "--compare", "--version", "x", "--version", "a"), "no version that begins with 'x'"),
        (("other", "--compare"), "needs two versions"),
        (("nope", "--compare"), "no model 'nope' was ever served"),
    ):
        result = looptap("serving", *arguments)
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
        assert said in result.stderr


def test_hostile_names_are_only_text(backend: Backend) -> None:
    """No escape sequence reaches the terminal."""
    run = Serving(backend, "server")
    run.windows(
        window(
            9,
            model=ESCAPES,
            version=ESCAPES,
            endpoint=ESCAPES,
            errors={ESCAPES: 1},
            shapes={ESCAPES: 1},
            skipped={ESCAPES: 1},
            predictions={ESCAPES: classes(**{ESCAPES: 1}).encode()},
        ),
        window(9, model=ESCAPES, version=ESCAPES, endpoint=""),
    )
    run.windows(window(9, model=ESCAPES, predictions={ESCAPES: classes(a=300).encode()}))
    for arguments in (("serving",), ("serving", ESCAPES), ("serving", ESCAPES, "--compare")):
        shown = looptap(*arguments)
        assert shown.exit_code == 0
        assert not any(sign in shown.stdout for sign in ("\x1b", "\x07", "\u202e", "\r"))


@pytest.mark.parametrize("arguments", [[], ["intent"]])
def test_watching(backend: Backend, store: Path, arguments: list[str]) -> None:
    """On a terminal it goes on until Ctrl-C, which is no error."""
    record(backend)
    end, terminal = pty.openpty()
    command = [sys.executable, "-m", "looptap.cli", "serving", *arguments, "--store", str(store)]
    with subprocess.Popen(
        command,
        stdout=terminal,
        stderr=subprocess.PIPE,
        # Tests that were started in the background ignore Ctrl-C, and so would whatever they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        os.close(terminal)
        shown = b""
        while b"abababababab" not in shown:
            assert select.select([end], [], [], 60)[0], shown
            shown += os.read(end, 65_536)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        while select.select([end], [], [], 60)[0]:
            try:
                os.read(end, 65_536)
            except OSError:  # the other side is closed
                break
        assert process.wait(60) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""
    os.close(end)
