"""What every SQL engine does with a question that takes too long."""

from __future__ import annotations

import pytest
from sqlalchemy import text as statement

from looptap_collector.backend import Backend, RunQuery, TooExpensive
from looptap_collector.backends import searching, sql
from looptap_collector.testing.batches import Journal, started, write


class PatienceContract:
    def test_an_endless_question_is_given_up(self, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
        """The engine itself ends a statement that takes too long, and answers the next one on the same connection."""
        write(backend, Journal("r1", "r1").batch(started("r1")))
        real = searching.search
        digits = " UNION ALL ".join(f"SELECT {digit} AS x" for digit in range(10))
        others = ", ".join(f"({digits}) d{number}" for number in range(12))
        endless = f"SELECT COUNT(*) FROM {others} WHERE d0.x + d11.x > 17"  # 10^12 rows to look at
        monkeypatch.setattr(searching, "search", lambda connection, query: connection.execute(statement(endless)).all())
        monkeypatch.setattr(sql, "SEARCH_SECONDS", 0.3)
        with pytest.raises(TooExpensive, match="narrower"):
            backend.search(RunQuery())
        monkeypatch.setattr(searching, "search", real)
        assert [row.run for row in backend.search(RunQuery()).rows] == ["r1"]
