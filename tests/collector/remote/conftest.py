"""A collector, and the same store read over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.server.collectors import Collector, collecting
from looptap.settings import Settings
from looptap_collector.opening import open_to_read
from looptap_collector.remote import RemoteBackend


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    with collecting(tmp_path / "store") as running:
        yield running


@pytest.fixture
def remote(collector: Collector) -> Iterator[RemoteBackend]:
    """With a token that may only read."""
    backend = open_to_read(collector.address, Settings(token=collector.tokens["read"]))
    assert isinstance(backend, RemoteBackend)
    yield backend
    backend.close()
