"""Every test has its own state folder and store, and nothing that goes wrong in our code is swallowed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
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


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--thorough", action="store_true", help="what is tried at random is tried as often as was promised"
    )


@pytest.fixture
def times(request: pytest.FixtureRequest) -> Callable[[int], int]:
    """How often something is tried at random: as often as given with ``--thorough``, a tenth of it else."""
    return lambda count: count if request.config.getoption("--thorough") else count // 10


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    return Programs(tmp_path)


#: Set where a test has the process to itself.
ALONE = "TEST_HAS_THE_PROCESS_ALONE"


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Tests marked `alone` look at their own process: one of pytest-xdist has the servers of other tests for children, which start
    and end processes as they like."""
    if pyfuncitem.get_closest_marker("alone") is None or ALONE in os.environ:
        return None
    plugins = ["-p", "pytest_timeout", "-p", "no:cacheprovider"]  # all that are installed take seconds to load
    command = [sys.executable, "-m", "pytest", "-q", *plugins, pyfuncitem.nodeid]
    environment = os.environ | {ALONE: "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=pyfuncitem.config.rootpath, env=environment)
    if done.returncode:
        pytest.fail(done.stdout + done.stderr, pytrace=False)
    return True
