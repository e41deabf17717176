"""The commands as a user types them."""

from __future__ import annotations

import json
import math
import re
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from collector.recorded import HOSTILE, START_NS, Recording, complete_run
from looptap_collector.backend import Backend
from looptap_collector.cli import COMMANDS

PROGRAM = click.Group("looptap", commands={command.name: command for command in COMMANDS if command.name})
ESCAPES = "\x1b[31mred\x1b]0;title\x07\x1b]52;c;Y2xpcA==\x1b\\\x9b5m\r\n\x08\u202eend"


def looptap(*arguments: str, obj: object = None) -> Result:
    return CliRunner().invoke(PROGRAM, arguments, obj=obj, catch_exceptions=False)


def test_runs_lists_newest_first(backend: Backend) -> None:
    """``runs`` has one line per run with what matters of it, newest first."""
    complete_run(backend)
    Recording(backend, "brave-lynx-2", start_ns=START_NS + 10**9)
    lines = [line.split() for line in looptap("runs").stdout.splitlines() if "-" in line]
    assert [line[0] for line in lines] == ["brave-lynx-2", "calm-otter-12"]
    assert lines[0][1] == "lost", "it began long ago, and nothing was heard of it since"
    assert lines[1][1] == "finished"
    assert lines[1][-3:] == ["-0.00760085", "1,500", "train.py"]


def test_runs_as_json(backend: Backend) -> None:
    """``runs --json`` prints what the table shows and more, narrowed by experiment and limit."""
    complete_run(backend)
    Recording(backend, "other", experiment="second", start_ns=START_NS + 1)
    assert [run["name"] for run in json.loads(looptap("runs", "--json").stdout)] == ["other", "calm-otter-12"]
    assert [run["name"] for run in json.loads(looptap("runs", "--json", "--limit", "1").stdout)] == ["other"]
    narrowed = json.loads(looptap("runs", "--json", "--experiment", "default").stdout)
    assert [run["points"] for run in narrowed] == [1500]


def test_show_tells_everything(backend: Backend) -> None:
    """``show`` without a run shows the latest: params with source, metrics with a plot, files, environment, delivery."""
    complete_run(backend)
    text = looptap("show").stdout
    for expected in (
        "calm-otter-12 finished",
        "$ python train.py --lr 0.001",
        "model.pt",
        "git 0123456789 on main, uncommitted changes",
        "torch 2.13.0",
        "1,500 points stored, 0 dropped",
        "1,511 emitted = 1,511 stored + 0 in journal + 0 dropped",
        "torch.compile hides the forward pass",
        "lr{group=1}",
        "┤",
    ):
        assert expected in text
    assert ["lr", "0.001", "argparse"] in [line.split() for line in text.splitlines()]


def test_show_as_json(backend: Backend) -> None:
    """``show --json`` prints the whole record, with what still waits in the journal."""
    recording = complete_run(backend)

    def in_journal(journal: str, position: int) -> int:
        assert (journal, position) == (recording.journal, recording.next)
        return 5

    record = json.loads(looptap("show", "calm-otter-12", "--json", obj=in_journal).stdout)
    assert record["params"]["seed"]["value"] == 2**63 + 1
    assert record["delivery"]["in_journal"] == 5
    assert record["delivery"]["emitted"] == recording.next + 5


def test_what_the_user_chose_comes_first(backend: Backend) -> None:
    """Params that the user chose stand before those that a framework was found set to."""
    recording = Recording(backend, "ordered")
    recording.params({"a.framework": 1}, source="torch")
    recording.params({"z_chosen": 2}, source="constant")
    text = looptap("show").stdout
    assert text.index("z_chosen") < text.index("a.framework")


@pytest.mark.parametrize(
    "words",
    [["runs"], ["show"], ["export", "--format", "csv"], ["ui", "--no-browser"], ["artifact", "list"]],
    ids=" ".join,
)
def test_address_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    """No command reads from another store than the one that was meant, whether an option or the environment names it."""
    for address in ("postgresql://a@b/c", "htp://x"):
        result = looptap(*words, "--store", address)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith("looptap: --store cannot be used: ")
        monkeypatch.setenv("LOOPTAP_STORE", address)
        result = looptap(*words)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith("looptap: LOOPTAP_STORE cannot be used: ")
        assert result.stderr.count("\n") == 1


def test_what_a_collector_does_not_know(tmp_path: Path) -> None:
    """A question that the collector has no answer to is one line."""
    from collector.server.collectors import collecting
    from looptap_collector.mistake import Mistake
    from looptap_collector.remote.asking import NotThere
    from looptap_collector.store_option import opened

    with collecting(tmp_path / "store") as collector, pytest.raises(Mistake), opened(collector.address):
        raise NotThere("there is no such thing")


def test_a_collector_is_no_store_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where LOOPTAP_STORE is a collector, it is told which variable that is and how the collector's own store is given."""
    monkeypatch.setenv("LOOPTAP_STORE", "http://127.0.0.1:8766")
    for command, how in (
        (["store", "check"], "as the argument FOLDER|URL"),
        (["token", "list"], "with --store FOLDER|URL"),
        (["server"], "with --store FOLDER|URL"),
    ):
        result = looptap(*command)
        assert result.exit_code == 2
        assert result.stderr == (
            "looptap: LOOPTAP_STORE names a collector (http://127.0.0.1:8766); this command works on the collector's own "
            f"store: give it {how} or LOOPTAP_COLLECTOR_STORE\n"
        )
    monkeypatch.setenv("LOOPTAP_COLLECTOR_STORE", "http://me:hunter2@host")
    refused = looptap("token", "list")
    assert refused.exit_code == 2
    assert "LOOPTAP_COLLECTOR_STORE cannot be used" in refused.stderr
    assert "hunter2" not in refused.stderr


def test_silence_is_told(backend: Backend) -> None:
    """A run that has long not been heard from is lost, until it tells its own end."""
    recording = Recording(backend, "silent")
    assert "silent lost" in looptap("show").stdout
    assert "no sign of life for 50 seconds" in looptap("show").stdout
    recording.end()
    assert "silent finished" in looptap("show").stdout
    Recording(backend, "live", start_ns=time.time_ns())
    assert "live running" in looptap("show").stdout


def test_alerts_are_told(backend: Backend) -> None:
    """``runs`` has their number, ``show`` each with its end; a run without has no word of them."""
    recording = Recording(backend, "warned")
    recording.alert("stall", message="no step for 75 s")
    recording.alert("stall", "recovered", after_seconds=60, message="step 8")
    recording.alert("disk", message="0.4 GiB free", rank=3)
    assert "2 alerts" in looptap("runs").stdout
    lines = [line for line in looptap("show").stdout.splitlines() if line.startswith("alert")]
    assert len(lines) == 2
    stall, disk = sorted(lines, reverse=True)
    assert re.fullmatch(r"alert  stall 20.*: no step for 75 s · over 20.*", stall)
    assert re.fullmatch(r"alert  disk rank 3 20.*: 0.4 GiB free", disk)
    Recording(backend, "calm", start_ns=START_NS + 1)
    assert "alert" not in looptap("show").stdout


def test_losses_are_named(backend: Backend) -> None:
    """What was dropped is shown with its reasons."""
    recording = Recording(backend, "leaky")
    recording.points("loss", [1.0], next=10, dropped={"journal_full": 5})
    assert "1 points stored, 8 dropped (5 journal_full, 3 unreadable)" in looptap("show").stdout


def test_values_that_are_not_finite(backend: Backend) -> None:
    """NaN and infinite values are shown by name, and the plot says that it leaves them out."""
    recording = Recording(backend, "odd")
    recording.points("loss", [1.0, math.nan, 2.0, math.inf])
    recording.points("other", [math.nan] * 3)
    text = looptap("show").stdout
    assert "Inf" in text
    assert "4 (1 NaN)" in text
    assert "(2 NaN or infinite)" in text


@pytest.mark.parametrize("command", [["runs"], ["show", "hostile"]])
def test_stored_text_cannot_command_the_terminal(backend: Backend, command: list[str]) -> None:
    """Escape sequences, control characters, changes of direction and markup from a store do not reach the terminal."""
    bad = ESCAPES + "[bold]" + HOSTILE
    recording = Recording(
        backend, bad, run="hostile", experiment=bad, script=bad, command=(bad,), host=bad, user=bad, python=bad
    )
    recording.params({bad: bad}, source=bad)
    recording.points(bad, [1.0, 2.0, 3.0], context={bad: bad})
    recording.tag(bad, bad)
    recording.note(bad, bad)
    recording.alert(bad[:60], message=bad)
    recording.artifact(bad, digest=None, missing=bad)
    recording.environment(git_commit=bad, git_branch=bad, platform=bad, packages={"torch": bad})
    recording.end("failed", error=bad)
    text = looptap(*command).stdout
    left = {
        character for character in text if ord(character) < 32 or 127 <= ord(character) < 160 or character == "\u202e"
    }
    assert left <= {"\n"}
    assert "title" not in text
    assert "Y2xpcA" not in text
    assert "[bold]" in text


@pytest.mark.parametrize("package", ["torch", "tensorflow", "tensorflow-cpu", "tensorflow-macos", "keras", "jax"])
def test_show_names_the_framework(backend: Backend, package: str) -> None:
    """Also where its package has another name than it."""
    complete_run(backend).environment(packages={package: "2.17.1", "numpy": "2.3.1"})
    assert f"{package} 2.17.1 · 2 packages" in looptap("show").stdout


@pytest.mark.parametrize("file_format", ["csv", "jsonl", "parquet"])
def test_export_says_what_it_wrote(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_format: str
) -> None:
    """``export`` writes NAME.FORMAT here, or where ``-o`` says."""
    complete_run(backend)
    monkeypatch.chdir(tmp_path)
    assert looptap("export", "--format", file_format).output == f"1,500 points → calm-otter-12.{file_format}\n"
    assert (tmp_path / f"calm-otter-12.{file_format}").stat().st_size > 1000
    other = tmp_path / "other"
    assert looptap("export", "calm-otter-12", "--format", file_format, "-o", str(other)).exit_code == 0
    assert other.exists()


def test_export_of_alerts(backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a file beside that of the points."""
    monkeypatch.chdir(tmp_path)
    recording = complete_run(backend)
    recording.alert("stall")
    said = looptap("export", "--format", "csv", "--what", "alerts").output
    assert said == "1 alert → calm-otter-12.alerts.csv\n"
    assert "no step for 75 s" in (tmp_path / "calm-otter-12.alerts.csv").read_text()


def test_export_to_a_pipe(backend: Backend) -> None:
    """``-o -`` writes the table, and nothing else, to the standard output."""
    complete_run(backend)
    lines = looptap("export", "--format", "jsonl", "-o", "-").stdout.splitlines()
    assert len(lines) == 1500
    assert json.loads(lines[0])["step"] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "calm-otter-13"], "there is no run 'calm-otter-13'; did you mean 'calm-otter-12'?"),
        (["show", "x\x1b[31mx"], "there is no run 'x"),
        (["show", "--store", "nowhere"], "there is no store at "),
        (["runs", "--store", "off"], "the store is 'off'"),
        (
            ["runs", "--store", "http://someone:secret@collector"],
            "--store cannot be used: the address of a collector has no user, password or query",
        ),
        (["export", "--format", "csv", "-o", "nowhere/x.csv"], "cannot write nowhere/x.csv: No such file or directory"),
        (["ui", "--host", "0.0.0.0"], "--host 0.0.0.0: the page has no login yet"),
    ],
)
def test_mistakes_are_one_line(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    """What is wrong is told in one line on the error stream, with exit code 2."""
    complete_run(backend)
    monkeypatch.chdir(tmp_path)
    result = looptap(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith(f"looptap: {message}")
    assert result.stderr.count("\n") == 1
    assert "\x1b" not in result.stderr


def test_a_file_that_is_no_store(store: Path) -> None:
    """A database file that is something else is told in one line."""
    store.mkdir()
    (store / "looptap.db").write_text("this is not a database, only some text that is long enough to be read")
    result = looptap("runs")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"looptap: the store at {store} cannot be opened: ")
    assert result.stderr.count("\n") == 1


def test_no_runs_yet(backend: Backend) -> None:
    """An empty store says how to make a run."""
    assert "looptap run train.py" in looptap("runs").stdout
    assert looptap("show").exit_code == 2


def test_help_says_how_json_tells_nan() -> None:
    """The help of --json says how NaN and infinities are written."""
    text = " ".join(looptap("show", "--help").output.split())
    assert "NaN and infinities are the strings NaN, Infinity and -Infinity; integers are exact." in text


def test_runs_by_filter_and_order(backend: Backend) -> None:
    """``runs`` narrows by a filter, beside --experiment, and sorts by fields; an empty result says so."""
    complete_run(backend)
    for number, value in enumerate([0.5, 0.25, 0.75]):
        recording = Recording(backend, f"run-{number}", experiment="second")
        recording.params({"lr": number})
        recording.points("loss", [value])

    def names(*arguments: str) -> list[str]:
        return [run["name"] for run in json.loads(looptap("runs", "--json", *arguments).stdout)]

    assert names("--filter", "params.lr >= 1", "--order", "metrics.loss") == ["run-1", "run-2"]
    assert names("--order", "-metrics.loss", "--limit", "2") == ["run-2", "run-0"]
    assert names("--order", "experiment", "--order", "-params.lr") == ["calm-otter-12", "run-2", "run-1", "run-0"]
    either = "params.lr = 0 or metrics.loss < 0"
    assert names("--filter", either, "--experiment", "second") == ["run-0"]
    assert looptap("runs", "--filter", "params.lr > 9").stdout == "no runs are like that\n"
    assert looptap("runs", "--order", "name", "--limit", "1").stdout.endswith("the first 1; more with --limit\n")


def test_wrong_filter_is_told_with_its_place(backend: Backend) -> None:
    """A filter or order that cannot be understood: one line, the text without escapes, a caret under the place; exit code 2."""
    complete_run(backend)
    result = looptap("runs", "--filter", "params.lr = 1 and \x1b[31mstatus = ")
    assert result.exit_code == 2
    assert result.stderr == (
        "looptap: --filter: '\\x1b' means nothing here\n  params.lr = 1 and  [31mstatus = \n                    ^\n"
    )
    result = looptap("runs", "--order", "name", "--order", "-colour")
    assert result.stderr.splitlines()[1:] == ["  -colour", "   ^"]
    long = " or ".join(["params.lr = 1"] * 40) + " or ="
    lines = looptap("runs", "--filter", long).stderr.splitlines()
    assert lines[1][lines[2].index("^")] == "="
    assert len(lines[1]) < 110
