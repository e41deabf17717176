"""The pipeline lets good batches through and rejects bad ones with a line that says why."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from looptap.events import (
    Alert,
    Artifact,
    Batch,
    Dataset,
    Dropped,
    Environment,
    Example,
    Note,
    Param,
    Rejected,
    RunEnded,
    RunStarted,
    SeriesPoints,
    Tag,
    Window,
)
from looptap.sketches.histogram import Histogram
from looptap_collector.backend import Arrival, NotYours, Outcome
from looptap_collector.backends.sqlite import SqliteBackend
from looptap_collector.pipeline import Pipeline
from looptap_collector.testing.batches import Journal, points, started
from looptap_collector.testing.contracts.windows import full


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[SqliteBackend]:
    opened = SqliteBackend(tmp_path / "looptap.db")
    yield opened
    opened.close()


@pytest.fixture
def pipeline(backend: SqliteBackend) -> Pipeline:
    return Pipeline(backend)


GOOD_RECORDS = [
    Environment(time_ns=1),
    Param("k" * 512, {"a": [1, 2.5, None, True, "x", 2**80]}, "user", 1),
    Param("tuple", (1, 2), "user", -1),
    Tag("k", "", 1),
    Artifact("../../etc/passwd", 1, 0, digest="0" * 64),
    Artifact("x", 1, 0, missing="deleted", step=-3),
    Dataset("d" * 512, 1),
    Dataset(
        "d", 1, "test", length=0, fingerprint="f", algorithm="a", covers="c", schema=[{"x": 2**80}], details={"": 1}
    ),
    Alert("k" * 64, "critical", "recovered", "", 1),
    Alert("k", "warning", "fired", "m", 1, "loss", float("nan"), 0.5, -3, 2**31 - 1),
    full(),
    Window("", 1, 10.0),
    Window("m" * 512, -1, 0.0, "v" * 255, "0" * 64, "1" * 64, "e" * 512, "s" * 64, resources={"x": float("nan")}),
    Note("topic", "message", 1),
    RunEnded("killed", 1, ""),
]


@pytest.mark.parametrize("record", GOOD_RECORDS, ids=lambda record: type(record).__name__)
def test_good_records_pass(pipeline: Pipeline, record: Any) -> None:
    """What an agent may send is stored, and known when it comes again."""
    batch = Journal().batch(started(), record)
    assert pipeline.accept(batch) is Outcome.STORED
    assert pipeline.accept(batch) is Outcome.DUPLICATE


def many(count: int) -> bytes:
    made = Histogram()
    made.add([1.0])
    made.positive[-1] = made._count = count
    return made.encode()


def kept(*examples: Example) -> Window:
    return Window("m", 1, 10.0, examples=examples)


BAD_RECORDS = [
    (Param("", 1, "user", 1), "param name takes 0 bytes"),
    (Param("k" * 513, 1, "user", 1), "takes 513 bytes; 1 to 512 are allowed"),
    (Param("é" * 257, 1, "user", 1), "takes 514 bytes"),
    (Param("a\0b", 1, "user", 1), "NUL"),
    (Param("\ud800", 1, "user", 1), "not valid Unicode"),
    (Param("k", "\ud800", "user", 1), "not valid Unicode"),
    (Param("k", object(), "user", 1), "holds a object; it must be None, bool"),
    (Param("k", [{"a": b"raw"}], "user", 1), "holds a bytes"),
    (Param("k", {1: 2}, "user", 1), "a name inside param 'k' is int, not text"),
    (Param("k", "x" * 70_000, "user", 1), "65536"),
    (Param("k", ["x" * 40_000] * 2, "user", 1), "longer than 65536 bytes"),
    (Param("k", 10**70_000, "user", 1), "more than 4096 bits"),
    (Param("k", 1, "", 1), "source of param 'k'"),
    (Param("k", 1, "user", 2**63), "time_ns"),
    (Tag("k", 1, 1), "is int, not text"),  # type: ignore[arg-type]
    (Note("", "message", 1), "topic of a note"),
    (Dataset("", 1), "dataset name takes 0 bytes"),
    (Dataset("d" * 513, 1), "dataset name takes 513 bytes"),
    (Dataset("d", 1, ""), "role of a dataset"),
    (Dataset("d", 1, "r" * 65), "role of a dataset takes 65 bytes"),
    (Dataset("d", 2**63), "time_ns"),
    (Dataset("d", 1, length=-1), "length"),
    (Dataset("d", 1, length=1.5), "length"),  # type: ignore[arg-type]
    (Dataset("d", 1, root="\ud800"), "not valid Unicode"),
    (Dataset("d", 1, transform="a\0b"), "NUL"),
    (Dataset("d", 1, fingerprint="f"), "does not tell of what"),
    (Dataset("d", 1, fingerprint="f" * 256, algorithm="a", covers="c"), "fingerprint of dataset 'd' takes 256 bytes"),
    (Dataset("d", 1, fingerprint="", algorithm="a", covers="c"), "fingerprint of dataset 'd' takes 0 bytes"),
    (Dataset("d", 1, schema={"x": object()}), "holds a object"),
    (Dataset("d", 1, schema="x" * 70_000), "65536"),
    (Dataset("d", 1, details=[1]), "are list, not a dict"),  # type: ignore[arg-type]
    (Alert("", "warning", "fired", "m", 1), "kind of an alert takes 0 bytes"),
    (Alert("k", "bad", "fired", "m", 1), "'bad' is not a severity of an alert"),
    (Alert("k", "warning", "gone", "m", 1), "'gone' is not a state of an alert"),
    (Alert("k", "warning", "fired", "a\0b", 1), "NUL"),
    (Alert("k", "warning", "fired", "m" * 4_097, 1), "message of alert 'k' takes 4097 bytes"),
    (Alert("k", "warning", "fired", "m", 1, key=""), "metric of alert 'k' takes 0 bytes"),
    (Alert("k", "warning", "fired", "m", 1, value=1), "value of alert 'k' is int, not a float"),
    (Alert("k", "warning", "fired", "m", 1, threshold="x"), "threshold of alert 'k' is str"),  # type: ignore[arg-type]
    (Alert("k", "warning", "fired", "m", 1, step=2**63), "step"),
    (Alert("k", "warning", "fired", "m", 2**63), "time_ns"),
    (Alert("k", "warning", "fired", "m", 1, rank=-1), "rank"),
    (Window("m" * 513, 1, 10.0), "model of a window takes 513 bytes"),
    (Window("m", 1, 10.0, ""), "version in a window of 'm' takes 0 bytes"),
    (Window("m", 1, 10.0, digest="abc"), "the digest in a window of 'm' is no SHA-256 in hex"),
    (Window("m", 1, 10.0, weights="abc"), "the weights in a window of 'm' is no SHA-256 in hex"),
    (Window("m", 1, 10.0, endpoint="a\0b"), "NUL"),
    (Window("m", 1, 10.0, windows=2), "a window of 'm' is told as one of many"),
    (Window("m", 1, 10.0, peaks={"x": 1.0}), "a window of 'm' is told as one of many"),
    (Window("m", 1, 10.0, split=""), "split in a window of 'm' takes 0 bytes"),
    (Window("m", 2**63, 10.0), "time_ns"),
    (Window("m", 1, float("inf")), "seconds of a window of 'm' is not a finite float"),
    (Window("m", 1, 1e9), "is 1e\\+09 s long"),
    (Window("m", 1, 10), "seconds of a window of 'm' is not a finite float"),
    (Window("m", 1, 10.0, requests=-1), "requests of a window of 'm' is not a whole number"),
    (Window("m", 1, 10.0, requests=2**41), "more than can be"),
    (Window("m", 1, 10.0, in_flight=float("nan")), "in_flight"),
    (Window("m", 1, 10.0, in_flight_max=-1), "in_flight_max"),
    (Window("m", 1, 10.0, errors={"x": 1.5}), "errors of a window"),  # type: ignore[dict-item]
    (Window("m", 1, 10.0, errors={"x": 2**40, "y": 1}), "more errors than can be"),
    (Window("m", 1, 10.0, errors={str(number): 1 for number in range(257)}), "no dict of at most 256"),
    (Window("m", 1, 10.0, shapes={"x" * 513: 1}), "a name in shapes"),
    (Window("m", 1, 10.0, resources={"x": 1}), "have a int, not a float"),
    (Window("m", 1, 10.0, latency={"total": b"x"}), "latency of a window of 'm' has a sketch that cannot be read"),
    (Window("m", 1, 10.0, latency={"total": "x"}), "not at most 65536 bytes"),  # type: ignore[dict-item]
    (Window("m", 1, 10.0, batch=b"\x91" * 60_000), "batch of a window of 'm' has a sketch that cannot be read"),
    (Window("m", 1, 10.0, predictions={"class": Histogram().encode()}), "cannot be read"),
    (Window("m", 1, 10.0, latency={"x": many(2**41)}), "values in latency of a window of 'm': 2199023255552 are more"),
    (Window("m", 1, 10.0, batch=many(2**49)), "cannot be read: a histogram of 562949953421312 values"),
    (Window("m", 1, 10.0, outcomes={"class": b""}), "cannot be read"),
    (Window("m", 1, 10.0, features={str(n): full().features["age"] + b" " for n in range(9)}), "cannot be read"),
    (
        Window(
            "m",
            1,
            10.0,
            shapes={f"{n:0500}": 1 for n in range(200)},
            errors={f"{n:0512}": 1 for n in range(200)},
            skipped={f"{n:0512}": 1 for n in range(200)},
        ),
        "262144 are allowed",
    ),
    (kept(*[Example(0.1, 1, {})] * 21), "has 21 examples; 20 are allowed"),
    (kept(Example(float("nan"), 1, {})), "draw of an example of a window of 'm' is not a finite float"),
    (kept(Example(-0.1, 1, {})), "draw of an example"),
    (kept(Example(0.1, 2**63, {})), "time_ns of an example"),
    (kept(Example(0.1, 1, [1])), "asked of an example of a window of 'm' is list, not a dict"),  # type: ignore[arg-type]
    (kept(Example(0.1, 1, {"x": b"y"})), "the value of asked of an example of a window of 'm' holds a bytes"),
    (kept(Example(0.1, 1, {}, {1: 2})), "a name inside answer of an example of a window of 'm' is int"),
    (kept(Example(0.1, 1, {}, "\ud800")), "not valid Unicode"),
    (kept(Example(0.1, 1, {}, 2**64)), "a whole number of more than 64 bits"),
    (kept(Example(0.1, 1, {}, "x" * 4_096)), "bytes as JSON; 4096 are allowed"),
    (kept(Example(0.1, 1, {}, error="x" * 513)), "error or id of an example of a window of 'm' takes 513 bytes"),
    (kept(Example(0.1, 1, {}, ids=("a\0",))), "NUL"),
    (RunEnded("paused", 1), "'paused' is not a status of a run"),
    (Artifact("x", 1, 0), "needs a digest or the reason"),
    (Artifact("x", 1, 0, digest="0" * 64, missing="deleted"), "needs a digest or the reason"),
    (Artifact("x", 1, 0, digest="../../etc/passwd"), "is not a SHA-256 in hex"),
    (Artifact("x", 1, -1, missing="deleted"), "size_bytes"),
    (Environment(time_ns=1.5), "time_ns"),  # type: ignore[arg-type]
    (RunStarted("r1", "", "e", 1), "run name"),
    (RunStarted("r1", "n" * 513, "e", 1), "run name"),
    (RunStarted("r1", "n", "e", 1, host="\ud800"), "RunStarted is not as declared"),
    (RunStarted("r1", "n", "e", 1, command=(1,)), "RunStarted is not as declared"),  # type: ignore[arg-type]
    (Environment(time_ns=1, packages={"torch": 2}), "Environment is not as declared"),  # type: ignore[dict-item]
    (Environment(time_ns=1, variables={"A": "x" * 2**21}), "1048576 are allowed"),
    (Dropped({"x": 1}), "cannot carry a Dropped"),
]


@pytest.mark.parametrize(("record", "message"), BAD_RECORDS)
def test_bad_records_are_rejected(pipeline: Pipeline, backend: SqliteBackend, record: Any, message: str) -> None:
    """The line names what is wrong, and nothing of the batch is stored."""
    with pytest.raises(Rejected, match=message) as caught:
        pipeline.accept(Journal().batch(started(), record))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert list(backend.runs()) == []


DEEP: list[Any] = []
for _ in range(50_000):
    DEEP = [DEEP]


def test_deep_nesting_is_rejected(pipeline: Pipeline) -> None:
    """A value nested beyond reason is refused before anything walks all of it."""
    with pytest.raises(Rejected, match="nested more than 16 deep"):
        pipeline.accept(Journal().batch(started(), Param("k", DEEP, "user", 1)))
    with pytest.raises(Rejected, match="nested more than 16 deep"):
        pipeline.accept(Journal().batch(started(), kept(Example(0.1, 1, {"x": DEEP}))))


@pytest.mark.parametrize(
    ("series", "message"),
    [
        (points("", [1], [1.0]), "metric name"),
        (points("k" * 513, [1], [1.0]), "takes 513 bytes"),
        (points("k", [1], [1.0], {str(number): "" for number in range(17)}), "17 items; 16 are allowed"),
        (points("k", [1], [1.0], {str(number): "b" * 500 for number in range(5)}), "characters"),
        (points("k", [1], [1.0], {"a": "\1" * 400}), "2408 characters as JSON; 2048 are allowed"),
        (points("k", [1], [1.0], {"": "x"}), "context name"),
        (SeriesPoints("k", {}, bytes(8), bytes(8), bytes(16)), "must agree"),
        (SeriesPoints("k", {}, bytes(9), bytes(9), bytes(9)), "multiple of 8"),
    ],
)
def test_bad_series_are_rejected(pipeline: Pipeline, series: SeriesPoints, message: str) -> None:
    """Names, contexts and arrays are checked."""
    with pytest.raises(Rejected, match=message):
        pipeline.accept(Journal().batch(started(), series=[series]))


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (Batch("", "j", 0, 1), "run takes 0 bytes"),
        (Batch("r" * 65, "j", 0, 1), "run takes 65 bytes"),
        (Batch("r1", "", 0, 1), "journal takes 0 bytes"),
        (Batch("r1", "j", -1, 1), "first is not a whole number from 0"),
        (Batch("r1", "j", 0, 2**63), "next is"),
        (Batch("r1", "j", 5, 3), "do not fit the numbers"),
        (Batch("r1", "j", 0, 1, records=(started(), Tag("a", "b", 1))), "2 records do not fit"),
        (Batch("r1", "j", 0, 1, records=(started(),), dropped={"x": -1}), "dropped"),
        (Batch("r1", "j", 0, 1, records=(started(),), heartbeat_ns=-5), "heartbeat_ns"),
    ],
)
def test_bad_numbers_are_rejected(pipeline: Pipeline, batch: Batch, message: str) -> None:
    """Ids, sequence numbers and totals are checked."""
    with pytest.raises(Rejected, match=message):
        pipeline.accept(batch)


@pytest.mark.parametrize(
    ("batch", "field"),
    [
        (Batch("r" * 65, "j", 0, 1), "run"),
        (Batch("r1", "j", 0, -1), "next"),
        (Batch("r1", "j", 0, 9, (points("k", [1], [1.0]), points("", [1], [1.0]))), "series[1].key"),
        (Batch("r1", "j", 0, 9, (points("k", [1], [1.0], {"": "x"}),)), "series[0].context"),
        (Batch("r1", "j", 0, 9, (SeriesPoints("k", {}, b"", b"", b"x"),)), "series[0]"),
        (Batch("r1", "j", 0, 9, (), (started(), Tag("k", "\0", 1))), "records[1].value"),
        (Batch("r1", "j", 0, 9, (), (Param("k", [object()], "user", 1),)), "records[0].value"),
        (Batch("r1", "j", 0, 9, (), (Artifact("x", 1, 0, digest="../.."),)), "records[0].digest"),
        (Batch("r1", "j", 0, 9, (), (Dropped({"x": 1}),)), "records[0]"),  # type: ignore[arg-type]
        (Batch("r1", "j", 0, 9, (), (started("r2"),)), "records[0].run"),
        (Batch("r1", "j", 0, 9, (), (Tag("a", "b", 1),)), "run"),
    ],
)
def test_the_field_that_is_wrong_is_named(pipeline: Pipeline, batch: Batch, field: str) -> None:
    """Beside the line for a person, a program can tell which part of its batch was refused."""
    with pytest.raises(Rejected) as caught:
        pipeline.accept(batch)
    assert caught.value.field == field


def test_several_batches_are_answered_one_by_one(pipeline: Pipeline, backend: SqliteBackend) -> None:
    """What fails the check harms none of the others, and the answers keep the order."""
    journal = Journal()
    first, second = journal.batch(started()), journal.batch(Tag("a", "b", 1))
    batches = [Batch("", "j", 0, 1), first, Batch("r1", "j", 5, 3), first, second]
    answers = pipeline.accept_all([Arrival(batch, "ada") for batch in batches])
    assert [answers[number] for number in (1, 3, 4)] == [Outcome.STORED, Outcome.DUPLICATE, Outcome.STORED]
    assert [str(answers[number]).split(";")[0] for number in (0, 2)] == [
        "run takes 0 bytes",
        "journal 'j': 0 records do not fit the numbers 5 to 2",
    ]
    assert pipeline.accept_all([]) == []
    with pytest.raises(NotYours):
        pipeline.accept(second, "eve")
    assert backend.position("j1") == 2


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4),
        max_leaves=20,
    )
)
def test_a_plain_value_is_rejected_or_comes_back(pipeline: Pipeline, backend: SqliteBackend, value: Any) -> None:
    """There is no third way: what is accepted is read back as it was, what is not is Rejected, and nothing
    else is raised."""
    journal = Journal()
    journal.next = backend.position("j1")
    try:
        pipeline.accept(journal.batch(started(), Param("k", value, "user", 1)))
    except Rejected:
        return
    (row,) = backend.params("r1")
    assert row.value == value
