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
