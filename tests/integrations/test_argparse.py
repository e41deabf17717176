"""argparse results: given values are told from defaults, and the program's parser works as before."""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator

import numpy
import pytest

from integrations.recording import Recording, recorded
from looptap_integrations.argparse import ArgparseIntegration
from looptap_integrations.numpy import NumpyIntegration
from looptap_integrations.random import RandomIntegration


@pytest.fixture
def record() -> Iterator[Recording]:
    with recorded(ArgparseIntegration) as recording:
        yield recording


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser()
    made.add_argument("data", nargs="?", default="cifar")
    made.add_argument("--lr", type=float, default=0.1)
    made.add_argument("--epochs", type=int, default=3)
    made.add_argument("--fast", action="store_true")
    made.add_argument("-v", dest="verbosity", action="count", default=0)
    return made


def test_given_values_are_told_from_defaults(record: Recording) -> None:
    """Also when the given value equals the default."""
    parser().parse_args(["--lr", "0.1", "--fast", "-vv"])
    assert record.params_by_key() == {"data": "cifar", "lr": 0.1, "epochs": 3, "fast": True, "verbosity": 2}
    assert record.sources() == {
        "lr": "argparse",
        "fast": "argparse",
        "verbosity": "argparse",
        "data": "default",
        "epochs": "default",
    }


def test_positional_that_is_given(record: Recording) -> None:
    """A positional argument counts as given when there was a word for it."""
    parser().parse_args(["imagenet"])
    assert record.sources()["data"] == "argparse"


def test_unknown_words_are_the_programs_business(record: Recording) -> None:
    """parse_known_args gives back what it did not know."""
    namespace, rest = parser().parse_known_args(["--lr", "1", "--other", "x"])
    assert namespace.lr == 1.0
    assert "--other" in rest
    assert record.sources()["lr"] == "argparse"


def test_sub_parsers_are_one_result(record: Recording) -> None:
    """What a sub-parser read lies beside what its parent read."""
    outer = argparse.ArgumentParser()
    outer.add_argument("--seed", type=int, default=0)
    inner = outer.add_subparsers(dest="command").add_parser("train")
    inner.add_argument("--lr", type=float, default=0.1)
    inner.add_argument("--epochs", type=int, default=3)
    outer.parse_args(["--seed", "7", "train", "--lr", "2"])
    assert record.params_by_key() == {"seed": 7, "command": "train", "lr": 2.0, "epochs": 3}
    assert {key for key, source in record.sources().items() if source == "default"} == {"epochs"}
    assert len(record.written) == 4


def test_intermixed_arguments_are_one_result(record: Recording) -> None:
    """parse_intermixed_args parses twice, and is recorded once."""
    made = argparse.ArgumentParser()
    made.add_argument("--lr", type=float, default=0.1)
    made.add_argument("files", nargs="*")
    made.parse_intermixed_args(["a", "--lr", "2", "b"])
    assert record.params_by_key() == {"lr": 2.0, "files": ["a", "b"]}
    assert record.sources() == {"lr": "argparse", "files": "argparse"}


def test_a_wrong_command_line_ends_the_program_as_before(record: Recording, capsys: pytest.CaptureFixture[str]) -> None:
    """argparse's own exit comes out, nothing is recorded, and the next parse is right."""
    with pytest.raises(SystemExit) as caught:
        parser().parse_args(["--epochs", "many"])
    assert caught.value.code == 2
    assert "invalid int value" in capsys.readouterr().err
    assert record.written == []
    parser().parse_args([])
    assert set(record.sources().values()) == {"default"}


def test_seeds_given_by_the_program() -> None:
    """random.seed and numpy.random.seed are recorded with their first value, and seed as they did."""
    random.seed(3)
    numpy.random.seed(4)
    expected = (random.random(), numpy.random.rand())
    with recorded(RandomIntegration, NumpyIntegration) as record:
        random.seed(3)
        numpy.random.seed(4)
        assert (random.random(), numpy.random.rand()) == expected
        random.seed(99)
        random.seed()
        assert record.params_by_key() == {"seed.python": 3, "seed.numpy": 4}
