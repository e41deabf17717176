"""The tables in docs/ say what the integrations say of themselves."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from looptap.integration import Capture, Integration
from scripts import load

SCRIPT = Path(__file__).parents[2] / "docs" / "captures.py"


@pytest.fixture(scope="module")
def captures() -> ModuleType:
    return load(SCRIPT)


def test_the_pages_are_up_to_date(captures: ModuleType) -> None:
    """Whoever changes what is captured runs docs/captures.py."""
    for path, text in captures.pages(captures.found(), captures.budget()):
        assert path.read_text() == text, "run: python docs/captures.py"


def test_every_integration_is_on_a_page(captures: ModuleType) -> None:
    """None is left out, and each says what it captures, in which call and how often."""
    text = "".join(path.read_text() for path in captures.PAGES)
    found = captures.found()
    assert {"torch", "keras", "tensorflow"} <= found.keys()
    for name, kind in found.items():
        assert f"**{name}" in text or f", {name}" in text
        assert kind.captures, name
        for capture in kind.captures:
            assert all((capture.what, capture.source, capture.when)), (name, capture)
            assert capture.what.replace("|", "\\|").replace("<", "&lt;") in text


def test_costs_are_those_of_the_budget(captures: ModuleType) -> None:
    """A cost that is a key of the budget shows what the hook is held to; any other text is shown as it is."""

    class Made(Integration):
        requires = "made>=1"
        captures = (
            Capture("a|b", "made.step", "each step", "made.step"),
            Capture("c", "made.save", "each call", "in the background"),
        )
        not_captured = ("d",)

    text = captures.page(
        "page.md", f"before\n{captures.BEGIN}\nold\n{captures.END}\nafter", {"made": Made}, {"made.step": 1500}
    )
    assert text.splitlines() == [
        "before",
        captures.BEGIN,
        "| what | from where | when | cost |",
        "|---|---|---|---|",
        "| **made** (made>=1) | | | |",
        "| a\\|b | made.step | each step | ≤ 1.5 µs |",
        "| c | made.save | each call | in the background |",
        "| *not:* d | | | |",
        captures.END,
        "after",
    ]


def test_a_page_without_a_place_for_it_is_refused(captures: ModuleType) -> None:
    """Better than a table at the wrong place."""
    with pytest.raises(SystemExit, match="page has no place"):
        captures.page("page", "no marks", {}, {})
