"""Where points can go into cells."""

from __future__ import annotations

from pathlib import Path

import pytest

from looptap.journal.cells import are_possible
from looptap.journal.window import can_map


@pytest.fixture
def mapped(tmp_path: Path) -> None:
    if not can_map(tmp_path):
        pytest.skip("the file system of the test folder is none that is mapped")
    assert are_possible()
