"""Every example of docs/filters.md works."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

import looptap
from collector.recorded import complete_run, new_store
from looptap.cli import commands

PAGE = (Path(__file__).parents[2] / "docs" / "filters.md").read_text(encoding="utf-8")


def examples(language: str) -> list[str]:
    blocks = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert blocks, language
    return [line for block in blocks for line in block.splitlines()]


@pytest.fixture(autouse=True)
def store(tmp_path: Path) -> Path:
    """The store that LOOPTAP_STORE names, with one run."""
    folder = tmp_path / "store"
    backend = new_store(folder)
    complete_run(backend)
    backend.close()
    return folder


#: Of the run in the store. Told by hand, so that an example that silently finds nothing is noticed.
FINDS = {
    "metrics.loss{} < 1",
    'name ~ "otter" and (params.epochs >= 3 or params.seed is missing)',
    'not params.optimizer = "SGD"',
    'params.optimizer not in ("SGD", "Adam")',
    'script ~ "train.py"',
    'started >= "2026-01-01" and started < "2026-02-01T00:00:00+01:00"',
    "metrics.lr{group=1} < 1e-3",
}


@pytest.mark.parametrize("text", examples("filter"))
def test_filters(text: str) -> None:
    """Each line of a filter block finds the example run, or does not, as one would think."""
    assert len(looptap.search_runs(filter=text)) == (text in FINDS)


def test_what_finds_is_on_the_page() -> None:
    """The list above has no example that the page has not."""
    assert set(examples("filter")) >= FINDS


@pytest.mark.parametrize("text", examples("order"))
def test_orders(text: str) -> None:
    """Each line of an order block orders."""
    assert len(looptap.search_runs(order=text)) == 1


@pytest.mark.parametrize("line", examples("python"))
def test_python(line: str) -> None:
    """Each line of Python gives a table."""
    assert list(eval(line, {"looptap": looptap})["name"]) == []


@pytest.mark.parametrize("line", examples("sh"))
def test_shell(line: str) -> None:
    """Each command succeeds."""
    program, *arguments = shlex.split(line)
    assert program == "looptap"
    result = CliRunner().invoke(commands, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert "calm-otter-12" in result.stdout


def test_error() -> None:
    """The error is told as the page shows it."""
    shown = re.search(r"^```\n\$ (.*?)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert shown
    result = CliRunner().invoke(commands, shlex.split(shown[1])[1:])
    assert result.exit_code == 2
    first, *rest = shown[2].splitlines()
    told = result.stderr.splitlines()
    assert told[0].startswith(first.removesuffix(" …"))
    assert told[1:] == rest
