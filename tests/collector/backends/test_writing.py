"""Batches in one call leave what they leave one by one, whatever is among them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from collector.backends.pictures import picture
from looptap.events import Artifact, Batch, Dataset, Environment, Note, Param, RunEnded, SeriesPoints, Tag
from looptap_collector.backend import Arrival, Backend
from looptap_collector.backends.sqlite import SqliteBackend
from looptap_collector.testing.batches import points, started

# Few names, so that the batches of an example meet.
RUNS = st.sampled_from(["r1", "r2"])
NAMES = st.sampled_from(["a", "b"])
TIMES = st.integers(0, 9)
VALUES = st.sampled_from([1, 1.0, True, "1", 2, float("nan"), None])
RECORDS = st.one_of(
    st.builds(Param, NAMES, VALUES, st.just("user"), TIMES),
    st.builds(Tag, NAMES, NAMES, TIMES),
    st.builds(Note, NAMES, NAMES, TIMES),
    st.builds(Environment, TIMES, git_commit=NAMES),
    st.builds(Artifact, NAMES, TIMES, st.just(1), digest=st.sampled_from(["a" * 64, "b" * 64])),
    st.builds(Dataset, NAMES, TIMES, NAMES),
    st.builds(Dataset, NAMES, TIMES, NAMES, fingerprint=NAMES, algorithm=NAMES, covers=NAMES),
    st.builds(RunEnded, st.sampled_from(["finished", "failed"]), TIMES),
)
POINTS = st.builds(
    lambda key, steps: points(key, steps, [float(step) for step in steps]),
    NAMES,
    st.lists(st.integers(-3, 3), max_size=3) | st.just(list(range(1_500))),
)
BROKEN = SeriesPoints("a", {}, bytes(8), bytes(16), bytes(8))


@st.composite
def arrivals(draw: st.DrawFn) -> list[Arrival]:
    """As senders make them, but some start late, come twice, overlap, contradict, or are of another owner."""
    made: list[Arrival] = []
    following = {"j1": 0, "j2": 0, "j3": 0}
    for _ in range(draw(st.integers(1, 12))):
        if made and draw(st.integers(0, 4)) == 0:
            made.append(draw(st.sampled_from(made)))
            continue
        journal = draw(st.sampled_from(sorted(following)))
        run = draw(RUNS) if draw(st.integers(0, 5)) == 0 else {"j1": "r1", "j2": "r1", "j3": "r2"}[journal]
        records: list[Any] = draw(st.lists(RECORDS, max_size=4))
        if draw(st.integers(0, 2)) == 0 or following[journal] == 0:
            records.insert(0, started(draw(RUNS) if draw(st.integers(0, 9)) == 0 else run, pid=draw(TIMES)))
        series = draw(st.lists(POINTS, max_size=3)) + [BROKEN] * (draw(st.integers(0, 19)) == 0)
        first = max(0, following[journal] + draw(st.sampled_from([0, 0, 0, 0, 1, -1])))
        after = first + len(records) + sum(len(columns) for columns in series)
        dropped = draw(st.dictionaries(NAMES, TIMES, max_size=2))
        batch = Batch(run, journal, first, after, tuple(series), tuple(records), dropped, draw(TIMES))
        made.append(Arrival(batch, draw(st.sampled_from(["ada", "ada", "ada", "eve", None]))))
        following[journal] = after
    return made


@contextmanager
def new_store() -> Iterator[Backend]:
    with tempfile.TemporaryDirectory() as folder:
        backend = SqliteBackend(Path(folder) / "looptap.db")
        yield backend
        backend.close()


@settings(max_examples=60, deadline=None)
@given(arrivals(), st.integers(1, 12))
def test_a_group_is_its_batches_one_by_one(batches: list[Arrival], size: int) -> None:
    """The same answers, to the words of a refusal, and the same store."""
    with new_store() as together, new_store() as alone:
        answers = [
            answer for start in range(0, len(batches), size) for answer in together.write(batches[start : start + size])
        ]
        expected = [alone.write([batch])[0] for batch in batches]
        assert [(type(answer), str(answer)) for answer in answers] == [(type(one), str(one)) for one in expected]
        assert picture(together) == picture(alone)
