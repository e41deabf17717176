"""``looptap dataset`` as a user types it."""

from __future__ import annotations

import json

import click
from click.testing import CliRunner, Result

from collector.recorded import HOSTILE, START_NS, Recording
from looptap.events import Dataset
from looptap_collector.backend import Backend
from looptap_collector.cli import COMMANDS

PROGRAM = click.Group("looptap", commands={command.name: command for command in COMMANDS if command.name})
ESCAPES = "\x1b[31mred\x1b]0;title\x07\r\n\u202eend"


def looptap(*arguments: str) -> Result:
    return CliRunner().invoke(PROGRAM, arguments, catch_exceptions=False)


def dataset(name: str, fingerprint: str | None = None, **more: object) -> Dataset:
    known = {} if fingerprint is None else {"fingerprint": fingerprint, "algorithm": "sha256", "covers": "content"}
    return Dataset(name, START_NS, **{**known, **more})  # type: ignore[arg-type]


def record(backend: Backend) -> None:
    for number, (name, fingerprint) in enumerate({"first": "ab" * 32, "second": "ab" * 32, "third": "cd" * 32}.items()):
        run = Recording(backend, name, start_ns=START_NS + number)
        run.deliver(
            dataset("digits", fingerprint, length=60_000, split="train", root="/data/digits", transform="Flip()"),
            dataset("stream", role="validation", missing="it is streamed", class_name="mine.Stream"),
        )
        run.end()


def lines(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if line.strip()]


def test_list(backend: Backend) -> None:
    """One line for each data set; without a run, those of the latest."""
    record(backend)
    shown = lines(looptap("dataset", "list").stdout)
    assert shown[0] == ["dataset", "role", "split", "length", "fingerprint", "of", "where"]
    assert shown[2] == ["digits", "train", "train", "60,000", "cdcdcdcdcdcd", "content", "/data/digits"]
    assert " ".join(shown[3]) == "stream validation – – none: it is streamed – mine.Stream"
    told = json.loads(looptap("dataset", "list", "first", "--json").stdout)
    assert [(item["name"], item["fingerprint"]) for item in told] == [("digits", "ab" * 32), ("stream", None)]
    Recording(backend, "empty", start_ns=START_NS + 9)
    assert looptap("dataset", "list").stdout == "empty has no datasets\n"


def test_runs_of_a_version(backend: Backend) -> None:
    """By the fingerprint or its beginning those with the same data, by name all; nothing found is an error with a way on."""
    record(backend)
    for which in ("ab" * 32, "abababab"):
        shown = [line[0] for line in lines(looptap("dataset", "runs", which).stdout)[2:]]
        assert sorted(shown) == ["first", "second"]
    assert len(lines(looptap("dataset", "runs", "digits").stdout)[2:]) == 3
    told = json.loads(looptap("dataset", "runs", "abababab", "--json").stdout)
    assert {(item["run"], item["run_name"]) for item in told} == {("run-first", "first"), ("run-second", "second")}
    for which in ("abab", "nothing", "", "\0", "ab" * 33):
        missing = looptap("dataset", "runs", which)
        assert missing.exit_code == 2
        assert "looptap dataset list" in missing.stderr


def test_compare(backend: Backend) -> None:
    """What is the same, what is different, and what nobody can tell."""
    record(backend)
    shown = looptap("dataset", "compare", "first").stdout
    assert shown.startswith("first and third\n")
    assert [line[:3] for line in lines(shown)[3:]] == [
        ["digits", "train", "different"],
        ["stream", "validation", "unknown"],
    ]
    assert "same" in looptap("dataset", "compare", "first", "second").stdout
    told = json.loads(looptap("dataset", "compare", "first", "third", "--json").stdout)
    assert [(item["outcome"], item["first"]["fingerprint"][:2]) for item in told[:1]] == [("different", "ab")]
    assert looptap("dataset", "compare", "first", "nothing").exit_code == 2


def test_show_has_the_data(backend: Backend) -> None:
    """In one table with its fingerprint, and in the record."""
    record(backend)
    assert "cdcdcdcdcdcd" in looptap("show").stdout
    assert "none: it is streamed" in looptap("show").stdout
    assert [item["name"] for item in json.loads(looptap("show", "--json").stdout)["datasets"]] == ["digits", "stream"]


def test_hostile_names_are_only_text(backend: Backend) -> None:
    """No escape sequence of a data set reaches the terminal."""
    run = Recording(backend, "odd")
    run.deliver(dataset(ESCAPES, "ab", root=ESCAPES, split=HOSTILE, schema={ESCAPES: [ESCAPES]}, details={HOSTILE: 1}))
    other = Recording(backend, "other", start_ns=START_NS + 1)
    other.deliver(dataset(ESCAPES, "cd", root=ESCAPES * 2, transform=ESCAPES))
    for command in (
        ("show", "odd"),
        ("dataset", "list", "odd"),
        ("dataset", "runs", ESCAPES),
        ("dataset", "compare", "odd"),
    ):
        shown = looptap(*command)
        assert shown.exit_code == 0
        assert not any(sign in shown.stdout for sign in ("\x1b", "\x07", "\u202e", "\r"))
