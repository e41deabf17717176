"""A store over HTTP gives what the same store gives on the spot, method by method, to the last bit."""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import pytest

from collector.recorded import HOSTILE, START_NS, Recording, complete_run
from collector.server.collectors import Collector
from looptap.events import Alert, Artifact, Dataset, Note, Param, RunEnded, Tag, Window
from looptap.exchange import Answer, Exchange
from looptap_collector.backend import Backend, RunQuery, SeriesRow, WindowQuery, all_windows
from looptap_collector.filters import FilterError
from looptap_collector.query import UnknownRun, find_run
from looptap_collector.record import run_list, run_record
from looptap_collector.remote import RemoteBackend
from looptap_collector.serving.of_run import served_by
from looptap_collector.testing.batches import Journal, points, started, write
from looptap_collector.testing.contracts.windows import full

ODD_FLOATS = [math.nan, math.inf, -math.inf, -0.0, 0.0, 5e-324, 1.7976931348623157e308, 0.1, 1.0]
#: NaN with a sign and a payload, which a copy through text would lose.
ODD_NAN = struct.unpack("<d", struct.pack("<Q", 0xFFF8_0000_0000_BEEF))[0]
VALUES: list[Any] = [
    None,
    True,
    1,
    1.0,
    "1",
    "NaN",
    "Infinity",
    "",
    "zwölf\U0001f9a6\0\n\x1b[31m",
    2**63,
    2**64 - 1,
    2**64,
    -(2**63) - 1,
    2**4095,
    -(2**4095),
    *ODD_FLOATS,
    [],
    {},
    {"a": [math.nan, "NaN", {"b": -0.0, "c": 2**100}], "": False},
]
NAMES = ["odd", "a/b", "..", "100%", "?x=1&y#z", "name with ' \" \\ quotes", HOSTILE, "zwölf\U0001f9a6"]


def bits(value: Any) -> Any:
    """The same for equal values of equal types only: 1, 1.0 and True differ, and so do 0.0 and -0.0, and any two NaN."""
    if isinstance(value, float):
        return "float", struct.pack("<d", value)
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.tobytes()
    if isinstance(value, msgspec.Struct):
        return type(value), [(name, bits(getattr(value, name))) for name in value.__struct_fields__]
    if isinstance(value, Mapping):
        return "dict", [(key, bits(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return type(value), [bits(item) for item in value]
    return type(value), value


def same(one: Any, other: Any) -> None:
    assert bits(one) == bits(other)


@pytest.fixture
def local(collector: Collector) -> Backend:
    """The same store, on the spot: runs with all that is odd."""
    store: Backend = collector.store
    complete_run(store)
    for number, name in enumerate(NAMES):
        odd = Recording(store, name, run=f"id-{number}", experiment=name, start_ns=START_NS + number)
        odd.deliver(*(Param(f"p{place}", value, "user", place) for place, value in enumerate(VALUES)))
        odd.deliver(
            Param("p1", 1.5, "argparse", 7), Param("p1", "NaN", "argparse", 8), Param(HOSTILE, 1, "default", -5)
        )
        odd.deliver(Tag(HOSTILE, "", 1), Tag("ä", "\n", 2), Tag("Z", "z", 3), Tag("a", "NaN", 4))
        odd.deliver(
            Note("topic", HOSTILE, 2**63 - 1),
            Note("topic", "second", -(2**63)),
            Artifact(
                "model.pt", START_NS + 1, 2**40, digest="ab" * 32, kind="model", step=-3, path="/x/ü", description=""
            ),
            Artifact("data", 0, 0, missing="deleted", role="input", media_type="text/plain"),
            Artifact(HOSTILE, -1, 5, digest=f"{number:064x}", role="input"),
            Dataset(
                HOSTILE, 2**63 - 1, "test", schema=VALUES, details={"odd": VALUES, HOSTILE: None}, length=2**63 - 1
            ),
            Alert("not_finite", "critical", "fired", HOSTILE, 9, "loss", ODD_NAN, math.inf, -3, number),
            Alert("stall", "warning", "fired", "", 2**63 - 1, value=-0.0),
            *[Alert("stall", "warning", "recovered", "ü\n", 2**63 - 1)] * (number % 2),
            full(number),
            Window(HOSTILE, 2**62 - number, 1e-320, in_flight=0.1, resources={HOSTILE: ODD_NAN, "": -0.0}),
            Window("", number, 10.0, version="ab" * 32, split="test"),
            Dataset("digits", -number, fingerprint=f"f{number % 3}", algorithm="sha256", covers="content", root="ü\n"),
        )
        odd.points("odd", [*ODD_FLOATS, ODD_NAN])
        odd.points("nan", [math.nan, ODD_NAN])
        odd.points("minus", [-0.0, -0.0])
        for context in ({}, {"group": "1"}, {"group": "1", "rank": 'ü=}{,"'}, {"g": ""}):
            odd.points("lr", [0.1, 0.2], context=context)
        odd.points("lr{group=1}", [3.0])
        odd.points("late", [1.0, 2.0, 3.0], first_step=5)
        odd.points("late", [4.0, 5.0], first_step=4)
        if number % 2:
            odd.environment(git_dirty=number == 1, packages={"a": "1"}, platform="")
            odd.end("failed", error=HOSTILE)
    second = Journal("second/journal ü", "id-0")
    write(store, second.batch(started("id-0", name=NAMES[0], experiment=NAMES[0], time_ns=START_NS)))
    write(
        store, second.batch(Param("p9", 4, "user", 1), lost=3, dropped={"journal_full": 2}, heartbeat_ns=START_NS + 77)
    )
    return store


def test_runs(local: Backend, remote: RemoteBackend) -> None:
    """All runs, those of an experiment, the newest few, and each by its id, with identity, environment and notes."""
    same(remote.runs(), local.runs())
    same(remote.runs(limit=3), local.runs(limit=3))
    same(remote.runs(limit=0), local.runs(limit=0))
    same(remote.runs(status="failed", limit=2), local.runs(status="failed", limit=2))
    same(remote.experiments(), local.experiments())
    for name in [*NAMES, "nothing"]:
        same(remote.runs(experiment=name), local.runs(experiment=name))
    for run in [*(row.run for row in local.runs()), "latest", "odd", "", "..", "id-", "no/such\0run", "\ud800"]:
        same(remote.run(run), None if "\ud800" in run else local.run(run))


def test_parts_of_a_run(local: Backend, remote: RemoteBackend) -> None:
    """Params with all their revisions, tags, files, journals, models served; asked again, and of a run that is not there, too."""
    assert any(served_by(local, row.run) for row in local.runs())
    for _ in range(2):
        for run in [*(row.run for row in local.runs()), "nothing", "odd"]:
            same(remote.params(run), local.params(run))
            same(remote.params(run, revisions=True), local.params(run, revisions=True))
            same(remote.tags(run), local.tags(run))
            same(remote.artifacts(run), local.artifacts(run))
            same(remote.delivery(run), local.delivery(run))
            same(served_by(remote, run), served_by(local, run))
    for journal in ("second/journal ü", "journal-id-1", "nothing"):
        same(remote.position(journal), local.position(journal))


def test_parts_of_several_runs(local: Backend, remote: RemoteBackend) -> None:
    """Summaries, params and tags of many runs at once, in their order, whether or not the runs were asked for before."""
    ids = ["id-3", "nothing", "id-1", "id-2"]
    for runs in ([], ids, [f"no-{number}" for number in range(120)] + ids):
        remote.search(RunQuery(limit=2))
        same(remote.series(runs), local.series(runs))
        same(remote.current_params(runs), local.current_params(runs))
        same(remote.current_tags(runs), local.current_tags(runs))
        same(remote.alert_counts(runs), local.alert_counts(runs))


def test_windows(local: Backend, remote: RemoteBackend) -> None:
    """By every condition, more of them than one answer has, and page by page."""
    some = [row.run for row in local.runs()][:3]
    queries = [
        WindowQuery(),
        WindowQuery(limit=3),
        WindowQuery(limit=0),
        WindowQuery(runs=()),
        WindowQuery(runs=(*some, *(f"no-{number}" for number in range(120))), models=(HOSTILE, "", "no")),
        WindowQuery(versions=("ab" * 32,)),
        WindowQuery(reference=True),
        WindowQuery(since_ns=2, until_ns=2**62),
        WindowQuery(before=local.windows(WindowQuery())[4].place),
    ]
    for query in queries:
        same(remote.windows(query), local.windows(query))
    same(remote.served(), local.served())
    same(remote.served(since_ns=3, until_ns=4), local.served(since_ns=3, until_ns=4))
    ids = [row.run for row in local.runs()]
    for runs in (ids, ids[:1], [*ids, *(f"nobody-{number}" for number in range(60))], []):
        same(remote.served(runs=runs), local.served(runs=runs))


def test_more_windows_than_an_answer_has(
    local: Backend, remote: RemoteBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Are asked for piece by piece."""
    monkeypatch.setattr("looptap_collector.remote.windows.MOST_WINDOWS", 3)
    same(remote.windows(WindowQuery(limit=11)), local.windows(WindowQuery(limit=11)))
    same(list(all_windows(remote, WindowQuery())), list(all_windows(local, WindowQuery())))


def test_alerts(local: Backend, remote: RemoteBackend) -> None:
    """By run and kind, whether or not the run was asked for before; NaN to the bit."""
    many = [f"no-{number}" for number in range(120)]
    asked: dict[str, Any]
    for asked in ({}, {"runs": ["id-1"]}, {"runs": [*many, "id-3", "id-1"]}, {"runs": []}, {"runs": ["nothing"]}):
        for more in ({}, {"kind": "stall"}, {"limit": 3}, {"kind": "not_finite", "limit": 1}):
            how: Any = {**asked, **more}
            same(remote.alerts(**how), local.alerts(**how))
    found = remote.find_run(NAMES[2])
    same(remote.alerts(runs=[found.run]), local.alerts(runs=[found.run]))


def test_search(local: Backend, remote: RemoteBackend) -> None:
    """Filters, orders and pages."""
    for query in (
        RunQuery(),
        RunQuery(filter='params.p3 = 1 and status = "failed"', order=("-name", "id"), limit=2),
        RunQuery(filter=f"name = 'a/b' or experiment = {msgspec.json.encode(HOSTILE).decode()}"),
    ):
        same(remote.search(query), local.search(query))
    mine, theirs = remote.search(RunQuery(limit=4)), local.search(RunQuery(limit=4))
    same(remote.search(RunQuery(limit=4, cursor=mine.next)), local.search(RunQuery(limit=4, cursor=theirs.next)))


@pytest.mark.parametrize(
    "query",
    [
        RunQuery(filter="metrics.loss <"),
        RunQuery(filter='name = "\\q"'),
        RunQuery(order=("nam",)),
        RunQuery(cursor="x"),
    ],
)
def test_a_filter_that_is_wrong(local: Backend, remote: RemoteBackend, query: RunQuery) -> None:
    """The error is the one that the filter gives on the spot, with its place."""
    with pytest.raises(FilterError) as here:
        local.search(query)
    with pytest.raises(FilterError) as there:
        remote.search(query)
    told = [(error.message, error.field, error.position, error.text) for error in (here.value, there.value)]
    assert told[0] == told[1]


def test_points(local: Backend, remote: RemoteBackend) -> None:
    """Every point of every series to the bit: all, between two steps, and thinned."""
    rows = local.series([row.run for row in local.runs()])
    assert len(rows) > 60
    for row in rows:
        series = (row.run, row.key, row.context)
        same(remote.history(*series), local.history(*series))
        for steps in ((1, 4), (5, 5), (-(2**63), 2), (3, 2**63 - 1), (100_000, 200_000)):
            same(remote.history(*series, steps=steps), local.history(*series, steps=steps))
        same(remote.chart(*series, points=7), local.chart(*series, points=7))
        same(remote.chart(*series, points=20, steps=(1, 90)), local.chart(*series, points=20, steps=(1, 90)))


@pytest.mark.parametrize(
    ("run", "key", "context"),
    [
        ("nothing", "loss", {}),
        ("odd", "odd", {}),
        ("id-0", "los", {}),
        ("id-0", "odd", {"a": "b"}),
        ("id-0", "lr{g=}", {}),
    ],
)
def test_a_series_that_is_not_there(
    local: Backend, remote: RemoteBackend, run: str, key: str, context: dict[str, str]
) -> None:
    """A KeyError, with the same words."""

    def words(backend: Backend, **more: Any) -> str:
        with pytest.raises(KeyError) as caught:
            (backend.chart if more else backend.history)(run, key, context, **more)
        return str(caught.value)

    assert words(remote) == words(local)
    assert words(remote, points=7) == words(local, points=7)


def test_edges(local: Backend, remote: RemoteBackend) -> None:
    """Files of runs by every condition, and more of them than one question may name."""
    many = [f"{number:064x}" for number in range(200)]
    questions: tuple[dict[str, Any], ...] = (
        {},
        {"limit": 3},
        {"runs": ["id-1", "id-2"]},
        {"runs": []},
        {"runs": [f"id-{number}" for number in range(150)], "digests": many, "limit": 5},
        {"digests": ["ab" * 32], "kind": "model"},
        {"role": "input", "before": 9},
    )
    for narrowed_by in questions:
        same(remote.edges(**narrowed_by), local.edges(**narrowed_by))


def test_datasets(local: Backend, remote: RemoteBackend) -> None:
    """What runs were fed with, by every condition; that of one run whether or not it was asked for before."""
    many = [f"f{number}" for number in range(200)]
    questions: tuple[dict[str, Any], ...] = (
        {},
        {"limit": 3},
        *({"runs": [run]} for run in ("id-1", "nothing", "odd", "id-2")),
        {"runs": ["id-1"], "role": "test"},
        {"runs": ["id-1", "id-2"], "limit": 1},
        {"runs": []},
        {"runs": [f"id-{number}" for number in range(150)], "fingerprints": many, "limit": 5},
        {"fingerprints": ["f1"]},
        {"name": HOSTILE, "role": "test"},
    )
    for narrowed_by in questions:
        for _ in range(2):
            same(remote.datasets(**narrowed_by), local.datasets(**narrowed_by))
    for run in ("id-1", "id-2"):
        found = find_run(remote, run)
        same(remote.datasets(runs=[found.run]), local.datasets(runs=[found.run]))


def test_find_run(local: Backend, remote: RemoteBackend) -> None:
    """A run is found by all that it may be called; one that is not has the same words."""
    for which in ("latest", *NAMES, "id-3", "run-calm"):
        same(find_run(remote, which), find_run(local, which))
    for which in ("id-", "calm-otter-13", "", ".", "\0", "\ud800", "x" * 600):
        with pytest.raises(UnknownRun) as here:
            find_run(local, which)
        with pytest.raises(UnknownRun) as there:
            find_run(remote, which)
        assert str(here.value) == str(there.value)


def test_what_views_make_of_it(local: Backend, remote: RemoteBackend) -> None:
    """The record of a run and the list of runs are the same."""
    same(run_list(remote), run_list(local))
    for row in local.runs():
        same(run_record(remote, find_run(remote, row.run)), run_record(local, row))


def test_who_asks_again_is_told_what_is_new(local: Backend, remote: RemoteBackend) -> None:
    """What came beside an answer is given once; the next question goes to the collector."""
    find_run(remote, "id-0")
    recording = Recording(local, "odd", run="id-0")  # the journal of before: nothing new
    write(local, Journal("third", "id-0").batch(started("id-0"), Tag("new", "tag", 1), RunEnded("finished", 5)))
    assert "new" not in remote.tags("id-0")
    assert remote.tags("id-0")["new"] == "tag"
    found = remote.run("id-0")
    assert found is not None
    assert found.status == "finished"
    assert recording.run == "id-0"


def test_few_questions(local: Backend, remote: RemoteBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run is found and looked at with one question, a table of runs made with one a page."""
    asked: list[str] = []
    ask = Exchange.ask

    def noting(exchange: Exchange, method: str, path: str, *rest: Any, **more: Any) -> Answer:
        asked.append(path.partition("?")[0])
        return ask(exchange, method, path, *rest, **more)

    monkeypatch.setattr(Exchange, "ask", noting)
    run_record(remote, find_run(remote, "odd"))
    assert asked == ["/v1/runs/odd"]
    ids = [row.run for row in remote.search(RunQuery()).rows]
    remote.series(ids), remote.current_params(ids), remote.current_tags(ids)
    assert asked == ["/v1/runs/odd", "/v1/runs"]


def test_it_is_only_read(remote: RemoteBackend) -> None:
    """What would change the store says so in one line."""
    for change in (
        lambda: remote.write([]),
        lambda: remote.set_status("id-0", "lost", ended_ns=1),
        lambda: remote.delete_run("id-0"),
        lambda: remote.compact(),
        lambda: remote.merge_windows(),
        lambda: remote.referenced(),
    ):
        with pytest.raises(io.UnsupportedOperation, match="only read from here"):
            change()


def test_more_points_than_one_answer_holds(collector: Collector, remote: RemoteBackend) -> None:
    """A long series comes whole and in order, in ranges of steps; with an outlier far away and many points of one step, too."""
    size = 1_300_000
    steps = np.arange(size)
    steps[-1] = 2**62
    steps[400_000:1_100_000] = 400_000
    values = np.arange(size) * 0.1
    values[7] = math.nan
    write(collector.store, Journal().batch(started(), series=[points("x", steps, values)]))
    same(remote.history("r1", "x", {}), collector.store.history("r1", "x", {}))
    bounds = (350_000, 2**62)
    same(remote.history("r1", "x", {}, steps=bounds), collector.store.history("r1", "x", {}, steps=bounds))


def test_all_points_of_one_step(collector: Collector, remote: RemoteBackend) -> None:
    """More points of one step than an answer holds cannot be had in parts, and come whole."""
    size = 1_000_100
    write(
        collector.store,
        Journal().batch(started(), series=[points("x", np.full(size, 5), np.arange(size)), points("y", [1], [2.0])]),
    )
    row = remote.series(["r1"])[0]
    assert isinstance(row, SeriesRow)
    assert row.count == size
    same(remote.history("r1", "x", {}), collector.store.history("r1", "x", {}))
