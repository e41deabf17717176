"""What the protocol makes of the methods that every backend has: the same as SQL makes of its tables."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.recorded import complete_run
from looptap_collector.backend import Backend, Compaction, MergedWindows, RunQuery
from looptap_collector.backends.sqlite import SqliteBackend
from looptap_collector.testing.backend import BackendContract, Reopen


class Derived(SqliteBackend):
    """A real store of which only the abstract methods are its own."""

    run = Backend.run
    search = Backend.search
    chart = Backend.chart
    artifacts = Backend.artifacts
    experiments = Backend.experiments
    current_params = Backend.current_params
    current_tags = Backend.current_tags
    referenced = Backend.referenced
    compact = Backend.compact
    merge_windows = Backend.merge_windows


@pytest.fixture
def reopen(tmp_path: Path) -> Iterator[Reopen]:
    opened: list[Backend] = []

    def open_another() -> Backend:
        opened.append(Derived(tmp_path / "looptap.db", busy_seconds=30))
        return opened[-1]

    yield open_another
    for backend in opened:
        backend.close()


@pytest.fixture
def backend(reopen: Reopen) -> Backend:
    return reopen()


class TestContract(BackendContract):
    pass


def test_derived_is_what_sql_says(tmp_path: Path) -> None:
    """All of it, the cursors of pages included."""
    sql = SqliteBackend(tmp_path / "looptap.db")
    derived = Derived(tmp_path / "looptap.db")
    for name in ("one", "two", "three"):
        complete_run(sql, name)
    runs = [row.run for row in sql.runs()]
    assert len(runs) == 3
    assert list(derived.experiments()) == list(sql.experiments())
    assert derived.current_params(runs) == sql.current_params(runs)
    assert derived.current_tags(runs) == sql.current_tags(runs)
    assert list(derived.referenced()) == list(sql.referenced())
    assert [list(derived.artifacts(run)) for run in runs] == [list(sql.artifacts(run)) for run in runs]
    assert [derived.run(run) for run in runs] == [sql.run(run) for run in runs]
    for order in ((), ("-metrics.loss", "name"), ("params.epochs", "tags.team"), ("-duration",), ("-git.commit",)):
        query = RunQuery(order=order, limit=2)
        page = derived.search(query)
        assert page == sql.search(query)
        assert page.next is not None
    assert derived.compact() == Compaction()
    assert derived.merge_windows() == MergedWindows()
    for backend in (sql, derived):
        backend.close()


def test_what_is_missing_is_told() -> None:
    """A backend without one of the abstract methods cannot be made."""

    class Half(Backend):
        pass

    with pytest.raises(TypeError, match=r"abstract.*write"):
        Half()  # type: ignore[abstract]
