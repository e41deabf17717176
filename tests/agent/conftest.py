from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.collectors import TOKEN, Collector, serving
from agent.journal.scenes import new_writer
from faultproxy import FaultProxy
from looptap.journal.writer import JournalWriter
from looptap.settings import Settings


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    """A collector that is up, over a store of its own."""
    with serving(tmp_path / "collector") as found:
        yield found


@pytest.fixture
def proxy(collector: Collector) -> Iterator[FaultProxy]:
    """The network to :func:`collector`."""
    with FaultProxy("127.0.0.1", collector.port) as found:
        yield found


@pytest.fixture
def settings() -> Settings:
    """Of an agent that is let in."""
    return Settings(token=TOKEN)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[JournalWriter]:
    """Of a journal with the start of its run in it."""
    writer = new_writer(tmp_path / "journal")
    yield writer
    writer.close()
