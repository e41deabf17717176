"""The table of resources in docs/ says what the readers say of themselves."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest

from looptap.resources.reader import UNITS, Metric
from scripts import load

SCRIPT = Path(__file__).parents[2] / "docs" / "resource_metrics.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load(SCRIPT)


def test_the_page_is_up_to_date(script: ModuleType) -> None:
    """Whoever changes what a reader reads runs docs/resource_metrics.py."""
    text = script.PAGE.read_text()
    assert script.page(text, script.found()) == text, "run: python docs/resource_metrics.py"


def test_every_metric_has_a_unit(script: ModuleType) -> None:
    """One of those that there are, and a name of the family that all of them share, told by one reader in one way."""
    found = script.found()
    assert {"process", "host", "sampler"} <= found.keys()
    told: dict[str, Metric] = {}
    for metric in (metric for own in found.values() for metric in own):
        assert metric.unit in UNITS
        assert re.fullmatch(r"system(\.[a-z0-9_]+|\.N)+", metric.name)
        assert metric.meaning
        assert told.setdefault(metric.name, metric) == metric


def test_a_page_without_a_place_for_it_is_refused(script: ModuleType) -> None:
    """Better than a table at the wrong place."""
    with pytest.raises(SystemExit, match="no place for the table"):
        script.page("no marks", {})
