"""Runs small programs in fresh processes, as a user would, and reads what they left in the store."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from looptap.cli import commands

#: Of the setting ``disable``: `looptap doctor` imports whatever has an integration, which takes half a minute here.
ALL_INTEGRATIONS = ",".join(point.name for point in metadata.entry_points(group="looptap.integrations"))


@dataclass
class Programs:
    """A folder to work in, with a store and a state folder of its own."""

    folder: Path
    #: What takes longer hangs.
    seconds: float = 120

    @property
    def store(self) -> Path:
        return self.folder / "store"

    def environment(self, **more: str) -> dict[str, str]:
        return {
            **os.environ,
            "LOOPTAP_STORE": str(self.store),
            "LOOPTAP_STRICT": "1",
            "XDG_STATE_HOME": str(self.folder / "state"),
            "PYTHONUNBUFFERED": "1",
            **more,
        }

    def script(self, code: str, name: str = "program.py") -> Path:
        path = self.folder / name
        path.write_text(textwrap.dedent(code))
        return path

    def python(self, code: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run the code as ``python program.py ARGUMENTS``; keyword arguments are environment variables."""
        return self.command([sys.executable, str(self.script(code)), *arguments], **more)

    def looptap(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        return self.command([sys.executable, "-m", "looptap.cli", *words], **more)

    def command(self, words: list[str], **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words, capture_output=True, text=True, cwd=self.folder, env=self.environment(**more), timeout=self.seconds
        )

    def start(self, code: str, *, launched: bool = False, **more: str) -> subprocess.Popen[str]:
        """Start it and return at once, by itself or as ``looptap run`` does; its output is piped."""
        launcher = ["-m", "looptap.cli", "run"] if launched else []
        return subprocess.Popen(
            [sys.executable, *launcher, str(self.script(code))],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env=self.environment(**more),
            # Tests that were started in the background ignore Ctrl-C, and so would whatever they start.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def record(self, run: str = "latest") -> dict[str, Any]:
        """The whole record of a run, by the command that users have; what a dead process left is delivered first."""
        found: dict[str, Any] = self._asked("show", run, "--json")
        return found

    def runs(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._asked("runs", "--json")
        return found

    def _asked(self, *words: str) -> Any:
        """In this process: hundreds of tests ask, and a process takes ten times as long to start as to answer."""
        before = os.getcwd()
        os.chdir(self.folder)
        try:
            done = CliRunner().invoke(commands, words, prog_name="looptap", env=self.environment())
        finally:
            os.chdir(before)
        assert done.exit_code == 0, (done.stderr, done.exc_info)
        return json.loads(done.stdout)


def assert_conserved(record: dict[str, Any]) -> None:
    """emitted = stored + in journal + dropped."""
    delivery = record["delivery"]
    assert delivery["emitted"] == delivery["stored"] + delivery["in_journal"] + sum(delivery["dropped"].values())
