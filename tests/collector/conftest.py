from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.recorded import new_store
from looptap_collector.backend import Backend


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The folder of a store; the same as in LOOPTAP_STORE."""
    return tmp_path / "store"


@pytest.fixture
def backend(store: Path) -> Iterator[Backend]:
    """A new SQLite store in :func:`store`."""
    opened = new_store(store)
    yield opened
    opened.close()
