"""The contract on a real MariaDB server, and what is MySQL's own: names that differ in little, and broken connections."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import make_url

from collector.backends.contract import BackendContract, Reopen, TokenContract
from collector.backends.search_contract import SearchContract
from looptap_collector.backend import Backend, TokenStore
from looptap_collector.backends.mysql import MysqlBackend


@pytest.fixture
def reopen(mariadb_address: str) -> Iterator[Reopen]:
    opened: list[MysqlBackend] = []

    def open_another() -> Backend:
        opened.append(MysqlBackend(make_url(mariadb_address)))
        return opened[-1]

    yield open_another
    for backend in opened:
        backend.close()


@pytest.fixture
def backend(reopen: Reopen) -> Backend:
    return reopen()


@pytest.fixture
def tokens(mariadb_address: str) -> Iterator[TokenStore]:
    opened = MysqlBackend(make_url(mariadb_address))
    yield opened
    opened.close()


class TestContract(BackendContract):
    pass


class TestSearch(SearchContract):
    pass


class TestTokens(TokenContract):
    pass
