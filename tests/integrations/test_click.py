"""click and Typer: given values are told from defaults, with the source that click itself knows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import typer

from integrations.recording import Recording, recorded
from looptap_integrations.click import ClickIntegration
from looptap_integrations.typer import TyperIntegration


@pytest.fixture
def record() -> Iterator[Recording]:
    with recorded(ClickIntegration, TyperIntegration) as recording:
        yield recording


@click.group()
@click.option("--seed", type=int, default=0)
def cli(seed: int) -> None:
    pass


@cli.command()
@click.option("--lr", type=float, default=0.1)
@click.option("--epochs", type=int, default=3)
@click.option("--layers", type=int, multiple=True)
@click.option("--fast/--slow", default=False)
@click.option("--batch", type=int, envvar="TEST_BATCH", default=8)
@click.option("--password", prompt=True, hide_input=True)
@click.option("--words", type=click.File("r"))
@click.argument("data")
def train(**_: Any) -> str:
    return "trained"


def test_given_values_are_told_from_defaults(
    record: Recording, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Options of the group and of its command, typed; the environment counts as given, a hidden answer is never kept."""
    monkeypatch.setenv("TEST_BATCH", "16")
    words = tmp_path / "words.txt"
    words.write_text("a")
    line = ["--seed", "7", "train", "--lr", "0.1", "--layers", "2", "--layers", "4", "--password", "x1y2"]
    assert cli.main([*line, "--words", str(words), "cifar"], standalone_mode=False) == "trained"
    assert record.params_by_key() == {
        "seed": 7,
        "command": "train",
        "lr": 0.1,
        "epochs": 3,
        "layers": (2, 4),
        "fast": False,
        "batch": 16,
        "password": "[redacted]",
        "words": str(words),
        "data": "cifar",
    }
    assert {key for key, source in record.sources().items() if source == "default"} == {"epochs", "fast"}
    assert set(record.sources().values()) == {"click", "default"}
    assert len(record.written) == 10


def test_default_map_counts_as_given(record: Recording) -> None:
    """It is what the user's configuration file says."""
    train.main(["--password", "x", "cifar"], standalone_mode=False, default_map={"lr": 0.5})
    assert record.params_by_key()["lr"] == 0.5
    assert (record.sources()["lr"], record.sources()["epochs"]) == ("click", "default")


def test_wrong_words_end_the_program_as_before(record: Recording) -> None:
    """click's own error comes out, and what was wrong is not recorded."""
    with pytest.raises(click.BadParameter):
        cli.main(["train", "--lr", "fast", "--password", "x", "cifar"], standalone_mode=False)
    assert "lr" not in record.params_by_key()


def test_our_own_command_line_is_no_setting(record: Recording, capsys: pytest.CaptureFixture[str]) -> None:
    """A program that calls looptap's commands has not been given their options."""
    from looptap import cli as ours

    ours.commands.main(["sync"], standalone_mode=False)
    assert record.written == []


def test_completion_is_no_run(record: Recording) -> None:
    """What a shell asks for while the user types is not recorded."""
    cli.make_context("cli", ["--seed", "3", "train"], resilient_parsing=True)
    assert record.written == []


def test_typer(record: Recording) -> None:
    """Typer's parameters, once, whichever click it stands on."""
    app = typer.Typer()
    called = []

    @app.command()
    def train(data: str, lr: float = 0.1, epochs: int = 3, fast: bool = False) -> None:
        called.append((data, lr, epochs, fast))

    app(["cifar", "--lr", "2", "--fast"], standalone_mode=False)
    assert called == [("cifar", 2.0, 3, True)]
    assert record.params_by_key() == {"data": "cifar", "lr": 2.0, "epochs": 3, "fast": True}
    assert record.sources() == {"data": "typer", "lr": "typer", "fast": "typer", "epochs": "default"}
    assert len(record.written) == 4


def test_typer_sub_commands(record: Recording) -> None:
    """Which command it was is a setting too."""
    app = typer.Typer()
    app.command("train")(_typer_train)
    app.command("test")(_typer_test)
    app(["train", "--lr", "2"], standalone_mode=False)
    assert record.params_by_key() == {"command": "train", "lr": 2.0}


def _typer_train(lr: float = 0.1) -> None:
    pass


def _typer_test() -> None:
    pass
