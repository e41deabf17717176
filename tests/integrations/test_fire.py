"""fire: the arguments that it calls the program's functions with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import fire
import pytest

from integrations.recording import Recording, recorded
from looptap_integrations.argparse import ArgparseIntegration
from looptap_integrations.fire import FireIntegration


@pytest.fixture
def record() -> Iterator[Recording]:
    # fire reads its own flags with argparse.
    with recorded(FireIntegration, ArgparseIntegration) as recording:
        yield recording


def train(data: str, lr: float = 0.1, epochs: int = 3, *files: str, fast: bool = False, depth: int = 2) -> list[Any]:
    return [data, lr, epochs, files, fast, depth]


def test_arguments_of_a_function(record: Recording) -> None:
    """By name, by place, by name only and the rest; the function gets what it got before."""
    assert fire.Fire(train, ["cifar", "--epochs=5", "--fast"]) == ["cifar", 0.1, 5, (), True, 2]
    assert record.params_by_key() == {"data": "cifar", "lr": 0.1, "epochs": 5, "fast": True, "depth": 2}
    assert record.sources() == {
        "data": "fire",
        "epochs": "fire",
        "fast": "fire",
        "lr": "default",
        "depth": "default",
    }


def test_words_for_what_has_no_name(record: Recording) -> None:
    """Words fill up the arguments in order; what is left is the function's ``*files``."""
    fire.Fire(train, ["cifar", "--lr", "1", "7", "a.txt", "b.txt"])
    assert record.params_by_key()["epochs"] == 7
    assert record.params_by_key()["files"] == ["a.txt", "b.txt"]
    assert record.sources()["epochs"] == "fire"


class Trainer:
    def __init__(self, lr: float = 0.1, width: int = 8) -> None:
        self.lr = lr
        self.width = width

    def fit(self, epochs: int = 3) -> float:
        return self.lr * epochs


def test_class_and_method(record: Recording) -> None:
    """What the object is made with and what its method is called with."""
    assert fire.Fire(Trainer, ["--lr=2", "fit", "--epochs=4"]) == 8
    assert record.params_by_key() == {"lr": 2, "width": 8, "epochs": 4}
    assert record.sources() == {"lr": "fire", "width": "default", "epochs": "fire"}


def test_wrong_words_end_the_program_as_before(record: Recording) -> None:
    """fire's own exit, and nothing is recorded."""
    with pytest.raises(fire.core.FireExit):
        fire.Fire(train, [])
    assert record.written == []
