"""Runs are found by filter, order and cursor, the same on every backend."""

from __future__ import annotations

import uuid
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from looptap.events import Param, RunEnded, Tag
from looptap_collector.backend import Backend, RunQuery
from looptap_collector.filters import RunView, evaluate, parse
from looptap_collector.pipeline import Pipeline
from looptap_collector.testing.batches import START_NS, Journal, points, started
from looptap_collector.testing.strategies import filters, run_batches

NAN, INF = float("nan"), float("inf")


def told(backend: Backend, run: str, *records: Any, losses: list[float] | None = None, **identity: Any) -> None:
    """A run with these records; each loss is the last value of a series of its own context."""
    journal = Journal(run, run)
    series = [
        points("loss", [1], [loss], {"rank": str(rank)} if rank else {}) for rank, loss in enumerate(losses or [])
    ]
    Pipeline(backend).accept(journal.batch(started(run, **identity), *records, series=series))


def found(backend: Backend, text: str | None = None, *order: str, **more: Any) -> list[str]:
    return [row.run for row in backend.search(RunQuery(filter=text, order=order, **more)).rows]


def paged(backend: Backend, limit: int, text: str | None, *order: str) -> list[str]:
    """All runs of a query, over as many pages as it takes."""
    runs: list[str] = []
    query = RunQuery(filter=text, order=order, limit=limit)
    while True:
        page = backend.search(query)
        assert len(page.rows) == limit or page.next is None
        runs += [row.run for row in page.rows]
        if page.next is None:
            return runs
        query = msgspec.structs.replace(query, cursor=page.next)


class SearchContract:
    @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.data(), st.lists(filters, min_size=1, max_size=20))
    def test_same_runs_as_in_plain_python(self, backend: Backend, data: st.DataObject, asked: list[str]) -> None:
        """Random filters over random runs find what their evaluation in Python finds: odd texts, values of every kind, NaN,
        several series of a key."""
        # Every example needs runs of its own in the store that they share.
        runs = [f"{uuid.uuid4().hex[:20]}-{number}" for number in range(3)]
        for run in runs:
            for batch in data.draw(run_batches(run)):
                Pipeline(backend).accept(batch)
        views = [view_of(backend, run) for run in runs]
        ours = f"id in ({', '.join(map(repr, runs))})"
        for text in asked:
            tree = parse(text)
            expected = {view.row.run for view in views if evaluate(tree, view)}
            assert set(found(backend, f"({text}) and {ours}")) == expected, text

    def test_rows_are_whole_and_newest_first(self, backend: Backend) -> None:
        """Without filter and order the page is what ``runs`` lists."""
        for number in range(5):
            told(backend, f"r{number}", time_ns=START_NS + number // 2)
        page = backend.search(RunQuery())
        assert list(page.rows) == list(backend.runs())
        assert page.next is None
        assert found(backend, limit=2) == ["r4", "r3"]

    def test_text_is_text(self, backend: Backend) -> None:
        """Wildcards, quotes and case are themselves, and so is a blank at the end."""
        for run, name in {"r1": "100%", "r2": "1000", "r3": "a_b", "r4": "aXb", "r5": "A_B", "r6": "a_b "}.items():
            told(backend, run, Param("name", name, "user", 1), Tag("name", name, 1), name=name)
        for field in ("name", "params.name", "tags.name"):
            assert found(backend, f'{field} ~ "0%"') == ["r1"]
            assert found(backend, f'{field} ~ "_b"', "id") == ["r3", "r6"]
            assert found(backend, f'{field} = "a_b"') == ["r3"]
            assert found(backend, f'{field} in ("a_b", "A_B")', "id") == ["r3", "r5"]
            assert found(backend, f'{field} = "\' OR 1=1--"') == []
            assert found(backend, f'{field} ~ "(a+)+$"') == []

    def test_params_by_their_newest_value_and_its_kind(self, backend: Backend) -> None:
        """A value that was superseded is not found; 1, true and "1" are different."""
        told(backend, "r1", Param("p", 0.1, "user", 1), Param("p", 0.2, "user", 2))
        told(backend, "r2", Param("p", True, "user", 1))
        told(backend, "r3", Param("p", "1", "user", 1))
        told(backend, "r4", Param("p", 1, "user", 1))
        told(backend, "r5", Param("p", NAN, "user", 1))
        told(backend, "r6", Param("p", INF, "user", 1))
        told(backend, "r7")
        assert found(backend, "params.p = 0.1") == []
        assert found(backend, "params.p = 0.2") == ["r1"]
        assert found(backend, "params.p = true") == ["r2"]
        assert found(backend, 'params.p = "1"') == ["r3"]
        assert found(backend, "params.p = 1") == ["r4"]
        assert found(backend, "params.p = nan") == ["r5"]
        assert found(backend, "params.p > 0.2", "id") == ["r4", "r6"]
        assert found(backend, "params.p != 1", "id") == ["r1", "r6"]
        assert found(backend, "params.p is missing") == ["r7"]
        assert found(backend, "not params.p exists") == ["r7"]

    def test_metrics_with_values_that_are_not_finite(self, backend: Backend) -> None:
        """NaN is found by ``= nan`` and by nothing else; infinities are the greatest and least numbers; 0 is -0."""
        for run, loss in {"nan": NAN, "inf": INF, "low": -INF, "zero": -0.0, "one": 1.0}.items():
            told(backend, run, losses=[loss])
        told(backend, "none")
        assert found(backend, "metrics.loss.last = nan") == ["nan"]
        assert found(backend, "metrics.loss > 0", "id") == ["inf", "one"]
        assert found(backend, "metrics.loss <= 0", "id") == ["low", "zero"]
        assert found(backend, "metrics.loss != 1", "id") == ["inf", "low", "zero"]
        assert found(backend, "metrics.loss = inf") == ["inf"]
        assert found(backend, "metrics.loss.min is missing", "id") == ["nan", "none"]

    def test_any_series_of_a_key_counts(self, backend: Backend) -> None:
        """Of several series of a key one is enough; a context chooses among them."""
        told(backend, "r1", losses=[1.0, 9.0])
        told(backend, "r2", losses=[1.0, 2.0])
        assert found(backend, "metrics.loss > 5") == ["r1"]
        assert found(backend, "metrics.loss{} > 5") == []
        assert found(backend, "metrics.loss{rank=1} < 5") == ["r2"]
        assert found(backend, "metrics.loss{rank=2} exists") == []

    def test_durations_and_times(self, backend: Backend) -> None:
        """From start to end, or to the last sign of life; times in ISO 8601; absurd ones are neither long nor short."""
        hour = 3_600 * 10**9
        told(backend, "r1", RunEnded("finished", START_NS + 2 * hour))
        told(backend, "r2", RunEnded("finished", START_NS + hour // 2))
        told(backend, "r3", RunEnded("finished", 2**63 - 1), time_ns=-(2**63))
        assert found(backend, 'duration >= "2h"') == ["r1"]
        assert found(backend, "duration < 3600") == ["r2"]
        assert found(backend, "duration is missing") == ["r3"]
        assert found(backend, 'started > "2027-01-15" and ended <= "2027-01-15T10:00:00Z"') == ["r2", "r1"]

    @pytest.mark.parametrize("limit", [1, 2, 3, 7])
    @pytest.mark.parametrize(
        ("order", "expected"),
        [
            (["metrics.loss"], "low both one two inf nan none"),
            (["-metrics.loss"], "inf both two one low none nan"),
            (["tags.team", "-params.p"], "two low one both inf nan none"),
            (["-tags.team", "id"], "both low one two inf nan none"),
            (["params.p"], "one low two both inf nan none"),
            (["name"], "inf low one both two nan none"),
            (["-duration", "-id"], "two one none nan low inf both"),
        ],
    )
    def test_pages_follow_the_order(self, backend: Backend, limit: int, order: list[str], expected: str) -> None:
        """Pages of any size make one list: in order, runs without the value last, equal ones by id in the direction of the first
        field. Of several series the one that comes first stands for the run."""
        names = {"inf": "A", "low": "B", "one": "C", "both": "a", "two": "b", "nan": "é", "none": "🦦"}
        losses = {"inf": [INF], "low": [-INF], "one": [1.0], "both": [0.5, 3.0], "two": [2.0], "nan": [NAN], "none": []}
        params = {"one": -1, "low": 2.5, "two": 3, "inf": INF, "nan": "text"}
        teams = {"two": "a", "low": "a", "one": "a", "both": "b"}
        for run in names:
            records: list[Any] = [Param("p", params[run], "user", 1)] if run in params else []
            records += [Tag("team", teams[run], 1)] if run in teams else []
            if run in ("one", "two"):
                records.append(RunEnded("finished", START_NS + (5 if run == "two" else -1)))
            told(backend, run, *records, losses=losses[run], name=names[run])
        assert paged(backend, limit, None, *order) == expected.split()

    def test_runs_that_come_meanwhile_shift_nothing(self, backend: Backend) -> None:
        """A page begins behind the last run of the one before, whatever was added or deleted in front of it."""
        for number in range(6):
            told(backend, f"r{number}", time_ns=START_NS + number)
        first = backend.search(RunQuery(limit=3))
        assert [row.run for row in first.rows] == ["r5", "r4", "r3"]
        told(backend, "r9", time_ns=START_NS + 9)
        assert found(backend, limit=3, cursor=first.next) == ["r2", "r1", "r0"]


def view_of(backend: Backend, run: str) -> RunView:
    row = backend.run(run)
    assert row is not None
    return RunView(
        row, {param.key: param.value for param in backend.params(run)}, backend.tags(run), backend.series([run])
    )
