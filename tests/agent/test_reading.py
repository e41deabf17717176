"""Recorded runs as Python objects and pandas tables."""

from __future__ import annotations

import math
import struct
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import looptap
from collector.recorded import START_NS, Recording, complete_run, new_store
from looptap.events import Points, Window
from looptap.journal import folder
from looptap.journal.frames import encode
from looptap.journal.writer import JournalWriter
from looptap.reading import get_run, in_journal, search_runs
from looptap.settings import journal_root
from looptap.sketches.histogram import Histogram
from looptap_collector.artifacts import LocalArtifacts, Source
from looptap_collector.backend import Backend


@pytest.fixture
def backend(tmp_path: Path) -> Backend:
    """The store that LOOPTAP_STORE names."""
    return new_store(tmp_path / "store")


def bits(values: list[float]) -> list[bytes]:
    return [struct.pack("<d", value) for value in values]


def test_a_run_by_name(backend: Backend) -> None:
    """A run has its identity, typed params with their sources, metric summaries, files, environment and delivery."""
    recording = complete_run(backend)
    run = get_run("calm-otter-12")
    assert (run.id, run.name, run.status, run.error) == (recording.run, "calm-otter-12", "finished", None)
    assert run.started == datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    assert run.ended == datetime(2026, 1, 2, 3, 4, 17, 500_000, tzinfo=timezone.utc)
    assert run.params == {"lr": 1e-3, "epochs": 3, "seed": 2**63 + 1, "optimizer": "AdamW", "betas": [0.9, 0.999]}
    assert run.param_sources["lr"] == "argparse"
    assert list(run.metrics) == ["loss", "lr{group=0}", "lr{group=1}"]
    assert run.metrics["loss"].count == 500
    assert run.metrics["lr{group=1}"].last == 1e-4
    assert run.artifacts[0].name == "model.pt"
    assert run.environment["git"]["dirty"] is True
    assert run.tags == {"team": "vision"}
    assert run.delivery.emitted == run.delivery.stored == recording.next
    assert run.delivery.points_stored == 1500
    assert get_run() == run


def test_a_run_in_one_line(backend: Backend) -> None:
    """Whoever evaluates a run in a shell sees which one it is and how it stands, in one printable line."""
    complete_run(backend)
    assert repr(get_run()) == "<Run calm-otter-12 finished, experiment default, loss -0.00760085>"
    Recording(backend, "odd\x1b[31m\n", start_ns=START_NS + 10**9).points("lr", [0.1])
    assert repr(get_run()) == "<Run odd [31m  running, experiment default>"


def test_names_for_completion() -> None:
    """What a shell offers behind ``looptap.`` is public, and there."""
    assert sorted(dir(looptap)) == sorted(looptap.__all__)
    assert {"get_run", "search_runs", "autolog"} <= set(dir(looptap))
    assert all(hasattr(looptap, name) for name in dir(looptap))


def test_a_single_series_needs_no_context(backend: Backend) -> None:
    """A key with one series goes by the key alone, even where the series has a context."""
    Recording(backend, "ranked").points("loss", [1.0, 0.5], context={"rank": "0"})
    run = get_run()
    assert list(run.metrics) == ["loss"]
    assert run.metrics["loss"].context == {"rank": "0"}
    assert run.history("loss")["value"].tolist() == [1.0, 0.5]
    assert run.history("loss", {"rank": "0"})["value"].tolist() == [1.0, 0.5]


def test_history_is_exact(backend: Backend) -> None:
    """All points come back: steps, times to the nanosecond in UTC, values to the last bit."""
    odd = [0.1 + 0.2, math.nan, math.inf, -math.inf, -0.0, 5e-324]
    Recording(backend, "odd").points("loss", odd, first_step=-2)
    table = get_run().history("loss")
    assert table.dtypes.astype(str).to_dict() == {"step": "int64", "time": "datetime64[ns, UTC]", "value": "float64"}
    assert table["step"].tolist() == [-2, -1, 0, 1, 2, 3]
    assert table["time"].astype("int64").tolist() == [START_NS + step * 1_000_000 for step in range(-2, 4)]
    assert bits(table["value"].tolist()) == bits(odd)


def test_history_of_one_of_several_series(backend: Backend) -> None:
    """A key with several series needs the context or the label; anything else says what there is."""
    complete_run(backend)
    run = get_run()
    assert set(run.history("lr", {"group": "1"})["value"]) == {1e-4}
    assert set(run.history("lr{group=0}")["value"]) == {1e-3}
    with pytest.raises(KeyError, match=r"several series: lr\{group=0\}, lr\{group=1\}"):
        run.history("lr")
    with pytest.raises(KeyError, match="several series"):
        run.history("lr", {"group": "2"})
    with pytest.raises(KeyError, match="no metric 'los'; it has: loss, "):
        run.history("los")


def test_history_can_be_thinned(backend: Backend) -> None:
    """``thin`` bounds the number of points and keeps the extremes."""
    values = np.sin(np.arange(50_000) / 100)
    values[12_345] = 7.0
    Recording(backend, "long").points("loss", values.tolist())
    run = get_run()
    assert len(run.history("loss")) == 50_000
    thinned = run.history("loss", thin=200)
    assert len(thinned) <= 200
    assert thinned["value"].max() == 7.0
    assert thinned["step"].iloc[[0, -1]].tolist() == [0, 49_999]


def test_table_of_runs(backend: Backend) -> None:
    """One row per run, newest first; times are exact, and what a run does not have is missing."""
    complete_run(backend)
    other = Recording(backend, "brave-lynx-2", experiment="second", start_ns=START_NS + 123_456_789)
    other.params({"lr": 0.5, "depth": 4})
    table = search_runs()
    assert table.columns.tolist() == [
        *("id", "name", "experiment", "status", "started", "ended", "duration_seconds", "script", "git_commit"),
        *("params.betas", "params.depth", "params.epochs", "params.lr", "params.optimizer", "params.seed"),
        *("metrics.loss", "metrics.lr{group=0}", "metrics.lr{group=1}", "tags.team"),
    ]
    assert table["name"].tolist() == ["brave-lynx-2", "calm-otter-12"]
    assert table["started"].astype("int64").tolist() == [START_NS + 123_456_789, START_NS]
    assert str(table["ended"].dtype) == "datetime64[ns, UTC]"
    assert table["ended"].isna().tolist() == [True, False]
    assert table["params.lr"].tolist() == [0.5, 1e-3]
    assert table["params.seed"].iloc[1] == 2**63 + 1
    assert table["metrics.loss"].isna().tolist() == [True, False]
    assert table["git_commit"].iloc[1].startswith("0123456789")


def test_table_of_some_runs(backend: Backend) -> None:
    """Experiment and status choose, the limit counts what was chosen, and no match is an empty table with the columns."""
    for index in range(4):
        recording = Recording(
            backend, f"run-{index}", experiment="even" if index % 2 == 0 else "odd", start_ns=START_NS + index
        )
        if index < 3:
            recording.end("failed" if index == 0 else "finished")
    assert search_runs(experiment="odd")["name"].tolist() == ["run-3", "run-1"]
    assert search_runs(status="finished", limit=1)["name"].tolist() == ["run-2"]
    assert search_runs(status="running")["name"].tolist() == ["run-3"]
    nothing = search_runs(experiment="none")
    assert nothing.empty
    assert str(nothing["started"].dtype) == "datetime64[ns, UTC]"


def test_runs_by_filter_and_order(backend: Backend) -> None:
    """A filter holds beside the other arguments; runs come in the order that was asked for, those without the value last."""
    for number, value in enumerate([0.5, math.nan, 0.25]):
        recording = Recording(backend, f"run-{number}", experiment="ab"[number % 2])
        recording.points("loss", [value])
        recording.tag("team", "nlp")
    assert search_runs(order="metrics.loss")["name"].tolist() == ["run-2", "run-0", "run-1"]
    assert search_runs(order=["-experiment", "name"], limit=2)["name"].tolist() == ["run-1", "run-0"]
    assert search_runs(filter="metrics.loss = nan")["name"].tolist() == ["run-1"]
    either = 'metrics.loss < 0.3 or tags.team = "nlp"'
    assert search_runs(filter=either, experiment="b")["name"].tolist() == ["run-1"]
    with pytest.raises(ValueError, match=r"did you mean 'metrics\.loss'") as caught:
        search_runs(filter="tags.team exists and metric.loss < 1")
    assert vars(caught.value)["position"] == 21


def test_more_runs_than_a_page_holds(backend: Backend) -> None:
    """A table has all runs, or as many as were asked for, however many pages that takes."""
    for number in range(1_003):
        Recording(backend, f"run-{number}", start_ns=START_NS + number)
    assert search_runs()["name"].tolist() == [f"run-{number}" for number in reversed(range(1_003))]
    assert len(search_runs(limit=1_001)) == 1_001


def test_what_is_not_there(tmp_path: Path) -> None:
    """No store, no such run and a store that cannot be read from each have their own error."""
    with pytest.raises(FileNotFoundError, match="no looptap store"):
        search_runs()
    assert not (tmp_path / "store").exists()
    complete_run(new_store(tmp_path / "other"))
    with pytest.raises(LookupError, match="did you mean 'calm-otter-12'"):
        get_run("calm-otter", store=tmp_path / "other")
    with pytest.raises(ValueError, match="cannot read from the store 'off'"):
        get_run(store="off")
    with pytest.raises(
        ValueError, match=r"^store cannot be used: a database is written and read through its collector"
    ):
        get_run(store="postgresql://me@db/x")


def test_the_run_under_way_is_up_to_date() -> None:
    """In a process that records, reading sees every point that was logged before."""
    looptap.autolog(quiet=True)
    try:
        with looptap.run("live"):
            for step in range(100):
                looptap.log_metric("score", step / 3, step=step)
            run = looptap.get_run("live")
            assert run.status == "running"
            assert run.ended is None
            assert run.history("score")["value"].tolist() == [step / 3 for step in range(100)]
            # What is gathered beside the run (its environment) may come in at this very moment.
            assert run.delivery.in_journal <= 1
            assert run.delivery.points_stored == 100
            assert looptap.search_runs()["metrics.score"].tolist() == [33.0]
        assert looptap.get_run("live").status == "finished"
    finally:
        looptap.stop()


def test_records_that_wait_in_a_journal_are_counted(backend: Backend) -> None:
    """What a process has written and nobody delivered shows as ``in_journal``; an id that is no journal's shows as 0."""
    recording = Recording(backend, "left")
    root = journal_root()
    assert root is not None
    meta = folder.JournalMeta.of_this_process(recording.run, "left", "off")
    journal = JournalWriter.create(root, meta, max_bytes=2**24)
    journal.append(encode(Points(0, START_NS, {"a": 1.0, "b": 2.0})), 2)
    try:
        assert in_journal(meta.journal, 0) == 2
        assert in_journal(meta.journal, 1) == 1
        for strange in ("unknown", "..", "", "../journal", str(root)):
            assert in_journal(strange, 0) == 0
    finally:
        journal.close()


@pytest.mark.parametrize(
    ("missing", "question", "line"),
    [
        ("pandas", "search_runs()", "tables need pandas: pip install 'looptap[pandas]'"),
        ("sqlalchemy", "get_run()", "reading runs needs sqlalchemy: pip install 'looptap[collector]'"),
    ],
)
def test_a_missing_extra_is_named(missing: str, question: str, line: str) -> None:
    """Where the collector or pandas is not installed, the error says what to install; importing looptap needs neither."""
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        f"import looptap\ntry: looptap.{question}\nexcept ModuleNotFoundError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == line


def test_importing_looptap_imports_no_table() -> None:
    """pandas and the collector are imported by the first question, not by ``import looptap``."""
    code = (
        "import sys, looptap; print([name for name in ('pandas', 'numpy', 'looptap_collector') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_tables_are_plain_frames(backend: Backend) -> None:
    """What comes back is a DataFrame that pandas itself can go on with."""
    complete_run(backend)
    assert isinstance(search_runs(), pd.DataFrame)
    assert get_run().history("loss").set_index("time")["value"].resample("100ms").mean().notna().all()


def test_what_a_run_has_served(backend: Backend) -> None:
    """One row for each version; of a training none, with the same columns."""
    complete_run(backend)
    server = Recording(backend, "server", kind="serving")
    latency = Histogram()
    latency.add([0.25] * 4)
    server.deliver(
        Window("intent", 1, 10.0, "v1", requests=4, errors={"E": 1}, latency={"total": latency.encode()}),
        Window("intent", 2, 10.0, "v2", requests=2),
    )
    table = get_run("server").serves
    assert list(table["version"]) == ["v1", "v2"]
    assert table.loc[0, ["requests", "errors", "error_rate", "p99"]].tolist() == [4, 1, 0.25, 0.25]
    empty = get_run("calm-otter-12").serves
    assert len(empty) == 0
    assert list(empty.columns) == list(table.columns)


def test_download(backend: Backend, tmp_path: Path) -> None:
    """A file of a run by name or digest: to a file, or into a folder under its own name; never over another unasked."""
    content = b"weights"
    model = tmp_path / "model.pt"
    model.write_bytes(content)
    digest = LocalArtifacts(tmp_path / "store" / "artifacts").put(
        Source(str(model), len(content), model.stat().st_mtime_ns)
    )
    Recording(backend, "calm").artifact("../out/model.pt", digest=digest, size_bytes=len(content))
    run = get_run("calm")
    folder = tmp_path / "here"
    folder.mkdir()
    assert run.download("../out/model.pt", folder) == folder / "model.pt"
    assert run.download(digest[:8], folder / "other.pt") == folder / "other.pt"
    assert {path.read_bytes() for path in folder.iterdir()} == {content}
    with pytest.raises(FileExistsError):
        run.download(digest, folder)
    assert run.download(digest, folder, overwrite=True) == folder / "model.pt"
    with pytest.raises(LookupError, match="no artifact 'none'"):
        run.download("none", folder)
    made = f"{tmp_path}/new/models/"
    assert run.download(digest, made) == tmp_path / "new/models/model.pt"
    assert run.download("../out/model.pt", made, overwrite=True) == tmp_path / "new/models/model.pt"
