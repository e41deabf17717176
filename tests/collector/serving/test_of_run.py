"""What a run has served, as ``looptap runs``, ``looptap show`` and its record tell."""

from __future__ import annotations

import io

import click
import pytest
from click.testing import CliRunner

from collector.recorded import START_NS, Recording
from collector.serving.serving_runs import NEXT, VERSION, Serving, histogram, trained, window
from looptap_collector.backend import Backend
from looptap_collector.cli import runs
from looptap_collector.record import listed, run_record
from looptap_collector.serving import of_run
from looptap_collector.serving.of_run import served_by
from looptap_collector.terminal import console, show_run


def served(backend: Backend) -> Serving:
    trained(backend)
    run = Serving(backend, "busy-otter-7", start_ns=START_NS + 1)
    run.windows(*(window(ago, errors={"ValueError": 1}) for ago in range(100, 50, -10)))
    run.windows(window(50, version=NEXT), window(40, "other model", version=None), window(30, "", version=None))
    run.windows(window(20, split="test", version=None))
    other = Serving(backend, "other", start_ns=START_NS + 2)
    other.windows(window(10))
    return run


def shown(backend: Backend, run: Recording) -> str:
    row = backend.run(run.run)
    assert row is not None
    stream = io.StringIO()
    show_run(console(stream), backend, row)
    return stream.getvalue()


def test_what_a_run_has_served(backend: Backend) -> None:
    """Each version with its own requests and times, errors and training; nothing of other runs, and no evaluations."""
    found = served_by(backend, served(backend).run)
    assert [(one.model, one.version, one.requests, one.errors) for one in found] == [
        ("", None, 100, 0),
        ("intent", VERSION, 500, 5),
        ("intent", NEXT, 100, 0),
        ("other model", None, 100, 0),
    ]
    assert [one.trained_by for one in found] == [None, "calm-otter-12", None, None]
    assert (found[1].trained_by_id, found[1].error_rate) == ("run-calm-otter-12", 0.01)
    assert found[1].p50 == pytest.approx(0.00467, rel=0.1)
    assert found[1].last_ns - found[1].first_ns == 40 * 10**9


def test_times_are_those_of_the_latest_windows(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests are those of all."""
    monkeypatch.setattr(of_run, "LATEST", 2)
    run = Serving(backend, "server")
    run.windows(*(window(90 - at * 10, latency={"total": histogram([at * 1.0]).encode()}) for at in range(5)))
    (one,) = served_by(backend, run.run)
    assert (one.requests, one.p50, one.p99) == (500, 3.0, 4.0)


def test_a_version_that_the_program_names(backend: Backend) -> None:
    """Is traced by its digest."""
    trained(backend)
    run = Serving(backend, "server")
    run.windows(window(30, version="v3", digest=VERSION))
    assert [one.trained_by for one in served_by(backend, run.run)] == ["calm-otter-12"]


def test_show(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """In 80 columns, with how to see more; of a training nothing is said."""
    monkeypatch.setenv("COLUMNS", "80")
    run = served(backend)
    told = shown(backend, run)
    assert max(map(len, told.splitlines())) <= 80
    (line,) = [line for line in told.splitlines() if VERSION[:12] in line]
    assert line.split()[:6] == ["intent", VERSION[:12], "calm-otter-12", "500", "1", "%"]
    assert "more: looptap serving '' · looptap serving intent · looptap serving 'other" in told
    training = backend.run("run-calm-otter-12")
    assert training is not None
    stream = io.StringIO()
    show_run(console(stream), backend, training)
    assert "serv" not in stream.getvalue()


def test_records(backend: Backend) -> None:
    """The whole record has each version, a list the names; a training has none."""
    run = served(backend)
    row = backend.run(run.run)
    assert row is not None
    told = run_record(backend, row)["serves"]
    assert [(one["model"], one["requests"]) for one in told][:2] == [("", 100), ("intent", 500)]
    lists = {line["name"]: line["serves"] for line in listed(backend, backend.runs())}
    assert lists == {"busy-otter-7": ["intent", "other model"], "other": ["intent"], "calm-otter-12": []}


def test_a_list_of_runs(backend: Backend) -> None:
    """Says of which models, where a training has its last loss; of a server that nobody asked that it is one."""
    served(backend)
    Serving(backend, "idle", start_ns=START_NS + 3)
    Recording(backend, "training", start_ns=START_NS + 4).points("loss", [0.25])
    program = click.Group("looptap", commands={"runs": runs})
    done = CliRunner().invoke(program, ["runs"], catch_exceptions=False)
    assert done.exit_code == 0
    lines = {line.split()[0]: line for line in done.output.splitlines() if line.strip()}
    assert "serves intent and 1 more" in lines["busy-otter-7"]
    assert "serves intent " in lines["other"]
    assert "serves " in lines["idle"]
    assert "0.25" in lines["training"]
    assert "serves" not in lines["training"] + lines["calm-otter-12"]
