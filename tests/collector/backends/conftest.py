"""What the suites of :mod:`looptap_collector.testing` ask for, made of ``open_another`` of a file of tests: it opens the file's own
kind of store, the same one each time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from looptap_collector.backend import Backend, Store, TokenStore
from looptap_collector.testing.backend import Reopen


@pytest.fixture
def reopen(open_another: Callable[[], Store]) -> Iterator[Reopen]:
    opened: list[Store] = []

    def open_and_remember() -> Backend:
        opened.append(open_another())
        return opened[-1]

    yield open_and_remember
    for backend in opened:
        backend.close()


@pytest.fixture
def backend(reopen: Reopen) -> Backend:
    return reopen()


@pytest.fixture
def tokens(open_another: Callable[[], Store]) -> Iterator[TokenStore]:
    opened = open_another()
    yield opened
    opened.close()
