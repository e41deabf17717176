"""The table of hostile inputs names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "security.md"


def test_every_named_test_exists() -> None:
    """Each `file::function` of the page is a test under tests/, or in the contract suite."""
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", PAGE.read_text(encoding="utf-8"))
    assert len(named) > 60  # a merge has not emptied the page
    for file, function in named:
        path = TESTS / file if (TESTS / file).exists() else TESTS.parent / file
        assert re.search(rf"^ *def {function}\(", path.read_text(encoding="utf-8"), re.MULTILINE), (
            file,
            function,
        )


def test_all_44_have_a_row() -> None:
    """No number of the hostile inputs is left out."""
    rows = re.findall(r"^\| (\d+)(?:–(\d+))? \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    covered = [number for first, last in rows for number in range(int(first), int(last or first) + 1)]
    assert covered == list(range(1, 45))
