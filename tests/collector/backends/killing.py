"""Programs that are killed before a given statement of theirs to a store."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from sqlalchemy import event

from looptap_collector.backends.sql import SqlBackend

_TESTS = Path(__file__).parents[2]


def die_before(statement: int, backend: SqlBackend) -> None:
    """For the program: ``kill -9`` instead of the statement of this number, counted from here on from 1."""
    left = statement

    def count(*_: object) -> None:
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(backend._engine, "before_cursor_execute", count)


def run_until_killed(program: str, *arguments: str) -> None:
    """For the test: a new process with this code; ``sys.argv[1:]`` are the arguments. Nothing but its death is right."""
    paths = os.pathsep.join([str(_TESTS), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run([sys.executable, "-c", program, *arguments], env={**os.environ, "PYTHONPATH": paths})
    assert done.returncode == -signal.SIGKILL
