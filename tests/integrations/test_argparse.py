"""argparse results: given values are told from defaults, and the program's parser works as before."""

from __future__ import annotations

import argparse
import dataclasses
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest

import looptap
from integrations.recording import Recording, recorded
from looptap.config_objects import settings_in
from looptap_integrations.argparse import ArgparseIntegration
from looptap_integrations.numpy import NumpyIntegration
from looptap_integrations.random import RandomIntegration
from programs import Programs


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


def test_parents_defaults_and_files(record: Recording, tmp_path: Path) -> None:
    """Options of a parent parser, set_defaults, a group, words from a file, and a name that is given by its beginning."""
    parent = argparse.ArgumentParser(add_help=False)
    parent.add_argument("--seed", type=int, default=0)
    made = argparse.ArgumentParser(parents=[parent], fromfile_prefix_chars="@")
    group = made.add_argument_group("optimizer").add_mutually_exclusive_group()
    group.add_argument("--learning-rate", type=float, default=0.1)
    group.add_argument("--auto", action="store_true")
    made.add_argument("--no-cuda", dest="cuda", action="store_false")
    made.add_argument("--layers", type=int, nargs="+", default=[1])
    made.set_defaults(task="train", seed=5)
    words = tmp_path / "words"
    words.write_text("--layers\n2\n4\n")
    made.parse_args([f"@{words}", "--learning", "2", "--no-cuda"])
    assert record.params_by_key() == {
        "seed": 5,
        "learning_rate": 2.0,
        "auto": False,
        "cuda": False,
        "layers": [2, 4],
        "task": "train",
    }
    assert {key for key, source in record.sources().items() if source == "argparse"} == {
        "learning_rate",
        "cuda",
        "layers",
    }


def test_nested_sub_commands(record: Recording) -> None:
    """A command of a command, with the function that it stands for."""
    outer = argparse.ArgumentParser()
    models = outer.add_subparsers(dest="command").add_parser("model")
    train = models.add_subparsers(dest="action").add_parser("train", aliases=["t"])
    train.add_argument("--lr", type=float, default=0.1)
    train.set_defaults(function=test_nested_sub_commands)
    outer.parse_args(["model", "t", "--lr", "3"])
    found = record.params_by_key()
    assert (found["command"], found["action"], found["lr"]) == ("model", "t", 3.0)
    assert found["function"] is test_nested_sub_commands
    assert record.sources()["lr"] == "argparse"
    assert len(record.written) == 4


def test_what_libraries_parse_is_theirs(record: Recording, capsys: pytest.CaptureFixture[str]) -> None:
    """A library that is given words of its own inside of the program."""
    from torch.distributed.run import parse_args

    parse_args(["--nproc-per-node", "2", "train.py", "--lr", "1"])
    assert record.written == []


def test_hugging_face_parser(record: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    """HfArgumentParser parses the program's command line with argparse; its dataclasses are not recorded once more."""
    monkeypatch.setattr(sys, "argv", ["program", "--width", "8"])
    from transformers import HfArgumentParser

    kinds: Any = ModelArguments
    (model_args,) = HfArgumentParser(kinds).parse_args_into_dataclasses()
    assert record.params_by_key() == {"width": 8, "depth": 2}
    assert record.sources() == {"width": "argparse", "depth": "default"}
    frame: Any = sys._getframe()
    assert list(settings_in(frame, record.given, lambda key: False)) == []
    model_args.depth = 3
    assert list(settings_in(frame, record.given, lambda key: False)) == [("dataclass", {"model_args.depth": 3})]


@dataclasses.dataclass
class ModelArguments:
    width: int = 4
    depth: int = 2


SCRIPT = """
import argparse
import dataclasses
import looptap
looptap.autolog()
import torch

@dataclasses.dataclass
class ModelConfig:
    width: int = 4
    activation: type = torch.nn.ReLU

class Net(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.layer = torch.nn.Linear(2, config.width)

    def forward(self, x):
        return self.layer(x)

def train(model, args):
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr)
    for _ in range(2):
        optimizer.zero_grad()
        loss = model(torch.ones(1, 2)).square().mean()
        loss.backward()
        optimizer.step()

def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--api-token", default="")
    args = parser.parse_args()
    args.lr *= 2
    train(Net(ModelConfig(width=8)), args)

main()
"""


@pytest.mark.parametrize("how", ["python", "looptap run", "torchrun"])
def test_a_script(programs: Programs, how: str) -> None:
    """Command line and config object of a script in the store: typed, with sources, without secrets, and nothing of whoever
    started it."""
    script = programs.script(SCRIPT)
    launchers = {
        "python": [],
        "looptap run": ["-m", "looptap.cli", "run", "--experiment", "lab"],
        "torchrun": ["-m", "torch.distributed.run", "--nproc-per-node", "1", "--master-port", "0"],
    }
    words = [sys.executable, *launchers[how], str(script), "--lr", "0.5", "--api-token", "x1y2z3"]
    done = programs.command(words)
    assert done.returncode == 0, done.stderr
    run = looptap.get_run("latest")
    own = {key: (value, run.param_sources[key]) for key, value in run.params.items() if "." not in key}
    assert own == {
        "lr": (1.0, "namespace"),
        "api_token": ("[redacted]", "argparse"),
        "width": (8, "dataclass"),
        "activation": ("torch.nn.modules.activation.ReLU", "dataclass"),
    }
    assert "x1y2z3" not in str(programs.record())
