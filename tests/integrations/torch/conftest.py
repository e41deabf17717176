"""A recorder of its own for every test that watches a loop."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from integrations.recording import Recording, recorded
from looptap_integrations.torch import TorchIntegration


@pytest.fixture
def record() -> Iterator[Recording]:
    torch.manual_seed(0)
    with recorded(TorchIntegration) as recording:
        yield recording


@pytest.fixture
def nothing_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has compiled nothing yet, whatever the tests before this one did. To be asked for by a mark: it comes
    before :func:`record` then."""
    monkeypatch.setattr("torch._dynamo.convert_frame.FRAME_COUNTER", 0)
