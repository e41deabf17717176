"""A recorder of its own for every scene. Keras is imported by scenes only: in a process that has a backend for them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from integrations.recording import Recording


@pytest.fixture
def record() -> Iterator[Recording]:
    from integrations.keras.models import watched

    with watched() as recording:
        yield recording
