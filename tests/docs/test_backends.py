"""docs/backends.md says what is, and its examples work."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from looptap_collector import stores
from looptap_collector.backend import Backend

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "backends.md").read_text(encoding="utf-8")
EXAMPLES = ROOT / "examples" / "backends"


def block(language: str) -> str:
    (only,) = re.findall(rf"^```{re.escape(language)}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    return str(only)


def methods(cls: type) -> set[str]:
    return {name for name in vars(cls) if not name.startswith("_")}


def test_methods() -> None:
    """The table has those without a body, the sentence below it all others."""
    table = re.search(r"^\| method \|.*?\n\n(.*?)are made of these", PAGE, re.DOTALL | re.MULTILINE)
    assert table
    assert set(re.findall(r"^\| `(\w+)\(", table[0], re.MULTILINE)) == Backend.__abstractmethods__
    others = set(re.findall(r"`(\w+)`", table[1]))
    assert others == methods(Backend) - Backend.__abstractmethods__


def test_the_example_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch is stored once."""
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.chdir(tmp_path)
    exec(block("python"), {})


def test_the_contract_of_an_outsider(tmp_path: Path) -> None:
    """The file of tests, in a folder that knows nothing of ours, runs all of the contract; and it notices a backend that
    forgets."""
    (tmp_path / "test_contract.py").write_text(block("python test_contract.py"))
    passed, failed = outcome(tmp_path, EXAMPLES)
    assert passed > 80
    assert failed == 0
    forgetful = (EXAMPLES / "one_file.py").read_text().replace("self._read_on()\n", "pass\n")
    (tmp_path / "one_file.py").write_text(forgetful)
    assert outcome(tmp_path, tmp_path, "-k", "another_process or stored_once") == (0, 2)


def outcome(folder: Path, package: Path, *words: str) -> tuple[int, int]:
    """How many passed and failed."""
    path = os.pathsep.join([str(package), *(entry for entry in sys.path if entry != str(ROOT / "tests"))])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--tb=no", "-p", "no:cacheprovider", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    counts = {word: int(count) for count, word in re.findall(r"(\d+) (passed|failed)", done.stdout)}
    return counts.get("passed", 0), counts.get("failed", 0)


def test_the_entry_point() -> None:
    """It is of the group that is looked into, and what it names is there."""
    (group,) = tomllib.loads(block("toml"))["project"]["entry-points"].items()
    assert group == (stores.GROUP, {"onefile": "one_file:open_one_file"})
    assert "def open_one_file(" in (EXAMPLES / "one_file.py").read_text()
