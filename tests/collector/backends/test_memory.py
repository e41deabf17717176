"""The contract in memory, where all connections are one."""

from __future__ import annotations

import pytest

from looptap_collector.backend import Backend, TokenStore
from looptap_collector.backends.memory import MemoryBackend
from looptap_collector.testing.backend import BackendContract, Reopen, TokenContract


@pytest.fixture
def backend() -> Backend:
    return MemoryBackend()


@pytest.fixture
def reopen(backend: Backend) -> Reopen:
    return lambda: backend


@pytest.fixture
def tokens() -> TokenStore:
    return MemoryBackend()


class TestContract(BackendContract):
    pass


class TestTokens(TokenContract):
    pass
