"""Every test has its own state folder and store, and nothing that goes wrong in our code is swallowed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from programs import Programs

# Contracts are no test files by name; a failure there shows the values all the same.
pytest.register_assert_rewrite("collector.backends")


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("LOOPTAP_"):
            monkeypatch.delenv(name)
    # Of a process of pytest-xdist: what goes into a pipe is as wide as it likes.
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setenv("LOOPTAP_STRICT", "1")
    # Runs have the series that their test is about; those of resources ask for it.
    monkeypatch.setenv("LOOPTAP_RESOURCES", "0")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("LOOPTAP_STORE", str(tmp_path / "store"))


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    return Programs(tmp_path)
