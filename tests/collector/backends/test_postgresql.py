"""The contract on a real PostgreSQL server, and what only a server can go through: broken connections, collisions, a
standby that only reads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import make_url

from collector.backends.contract import BackendContract, Reopen, TokenContract
from collector.backends.search_contract import SearchContract
from looptap_collector.backend import Backend, TokenStore
from looptap_collector.backends.postgresql import PostgresqlBackend


@pytest.fixture
def reopen(postgresql_address: str) -> Iterator[Reopen]:
    opened: list[PostgresqlBackend] = []

    def open_another() -> Backend:
        opened.append(PostgresqlBackend(make_url(postgresql_address)))
        return opened[-1]

    yield open_another
    for backend in opened:
        backend.close()


@pytest.fixture
def backend(reopen: Reopen) -> Backend:
    return reopen()


@pytest.fixture
def tokens(postgresql_address: str) -> Iterator[TokenStore]:
    opened = PostgresqlBackend(make_url(postgresql_address))
    yield opened
    opened.close()


class TestContract(BackendContract):
    pass


class TestSearch(SearchContract):
    pass


class TestTokens(TokenContract):
    pass
