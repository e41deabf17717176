"""The two readings of a filter, as SQL and in plain Python, find the same runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine

from collector.filters.strategies import filters, run_batches
from looptap.events import Batch
from looptap_collector.backend import Arrival, RunQuery
from looptap_collector.backends import reading, tables
from looptap_collector.backends.searching import search
from looptap_collector.backends.writing import write_arrivals
from looptap_collector.filters import RunView, evaluate, parse


@pytest.fixture(scope="module")
def connection() -> Iterator[Connection]:
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        tables.metadata.create_all(connection)
        connection.commit()
        yield connection
    engine.dispose()


def views(connection: Connection) -> list[RunView]:
    """All runs of the store, as a backend that is no SQL engine would see them."""
    return [
        RunView(
            row,
            {param.key: param.value for param in reading.params(connection, row.run, False)},
            reading.tags(connection, row.run),
            reading.series(connection, [row.run]),
        )
        for row in reading.runs(connection, None, None)
    ]


three_runs = st.tuples(*(run_batches(f"r{number}") for number in range(3)))


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(three_runs, st.lists(filters, min_size=1, max_size=30))
def test_sql_and_python_agree(connection: Connection, runs: tuple[list[Batch], ...], asked: list[str]) -> None:
    """Random filters over random runs: odd texts, values of every kind, NaN, several series of a key."""
    with connection.begin() as transaction:
        for batches in runs:
            for batch in batches:
                write_arrivals(connection, [Arrival(batch)])
        everyone = views(connection)
        for text in asked:
            tree = parse(text)
            expected = [view.row.run for view in everyone if evaluate(tree, view)]
            assert [row.run for row in search(connection, RunQuery(filter=text)).rows] == expected, text
        transaction.rollback()
