"""Config objects of the program: found by name and class, flattened, typed, bounded; looking at them runs none of their code."""

from __future__ import annotations

import argparse
import dataclasses
import enum
import sys
import types
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from omegaconf import OmegaConf
from pydantic import BaseModel, SecretStr, computed_field

from looptap.config_objects import LEAVES_LIMIT, leaves_of, settings_in
from looptap.redaction import Redactor

is_secret = Redactor().is_secret


def found(given: dict[str, Any] | None = None) -> dict[str, dict[str, Any]]:
    """What is in reach of the caller alone, by source."""
    frame: Any = sys._getframe(1)
    result: dict[str, dict[str, Any]] = {}
    for source, values in settings_in(frame, given or {}, is_secret):
        result.setdefault(source, {}).update(values)
    return result


class Mode(enum.Enum):
    FAST = 1


@dataclasses.dataclass
class OptimizerConfig:
    lr: float = 0.1
    betas: tuple[float, float] = (0.9, 0.99)


@dataclasses.dataclass
class TrainConfig:
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    epochs: int = 3
    mode: Mode = Mode.FAST
    data: Path = Path("data")
    activation: type = torch.nn.ReLU
    dtype: torch.dtype = torch.float32
    layers: list[dict[str, int]] = dataclasses.field(default_factory=lambda: [{"width": 8}, {"width": 4}])
    nothing: str | None = None

    @property
    def steps(self) -> int:
        raise AssertionError("a property was evaluated")


def test_dataclass() -> None:
    """Nested dataclasses, dicts and lists become dotted keys; the only configuration needs no name before them."""
    cfg = TrainConfig()
    assert found() == {
        "dataclass": {
            "optimizer.lr": 0.1,
            "optimizer.betas": [0.9, 0.99],
            "epochs": 3,
            "mode": Mode.FAST,
            "data": Path("data"),
            "activation": torch.nn.ReLU,
            "dtype": "torch.float32",
            "layers.0.width": 8,
            "layers.1.width": 4,
            "nothing": None,
        }
    }
    assert cfg.epochs == 3


@dataclasses.dataclass(frozen=True)
class SlottedConfig:
    __slots__ = ("depth", "width")
    depth: int
    width: int


class PydanticConfig(BaseModel):
    lr: float = 0.1
    inner: dict[str, int] = {"a": 1}
    key: SecretStr = SecretStr("x1y2")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def double(self) -> float:
        raise AssertionError("a computed field was evaluated")


@attrs.define
class AttrsConfig:
    lr: float = 0.1


class Awake(dict[str, Any]):
    """As EasyDict and its like: attributes are items."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"asked for {name}")

    def items(self) -> Any:
        raise AssertionError("asked for its items")


@pytest.mark.parametrize(
    ("value", "source", "leaves"),
    [
        (SlottedConfig(2, 8), "dataclass", {"depth": 2, "width": 8}),
        (PydanticConfig(), "pydantic", {"lr": 0.1, "inner.a": 1, "key": "[redacted]"}),
        (AttrsConfig(), "attrs", {"lr": 0.1}),
        (types.SimpleNamespace(lr=0.1, inner=types.SimpleNamespace(a=1)), "namespace", {"lr": 0.1, "inner.a": 1}),
        (argparse.Namespace(lr=0.1), "namespace", {"lr": 0.1}),
        ({"lr": 0.1, "model": {"width": 8}}, "dict", {"lr": 0.1, "model.width": 8}),
        (Awake(lr=0.1), "dict", {"lr": 0.1}),
        (
            OmegaConf.create({"lr": 0.1, "twice": "${model.width}", "model": {"width": 8}, "gone": "???"}),
            "omegaconf",
            {"lr": 0.1, "twice": 8, "model.width": 8},
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_kind(value: Any, source: str, leaves: dict[str, Any]) -> None:
    """Of each kind the fields, with its source; no property, computed field or ``__getattr__`` is asked."""
    cfg = value
    assert cfg is value
    del value
    here = {key: values for key, values in found().items() if key == source}
    assert here == {source: leaves}


def test_several_have_their_names() -> None:
    """Two configurations: each key begins with the variable's name."""
    model_args = SlottedConfig(2, 8)
    data_args = AttrsConfig(0.5)
    assert found() == {
        "dataclass": {"model_args.depth": 2, "model_args.width": 8},
        "attrs": {"data_args.lr": 0.5},
    }
    assert model_args
    assert data_args


def test_configuration_that_a_model_keeps() -> None:
    """Handed to the model and kept there; a part of a configuration in reach is not one of its own."""

    class Net(torch.nn.Module):
        def __init__(self, config: OptimizerConfig) -> None:
            super().__init__()
            self.config = config

    def made() -> Net:
        return Net(OptimizerConfig(lr=2.0))

    model = made()
    assert found() == {"dataclass": {"lr": 2.0, "betas": [0.9, 0.99]}}
    cfg = TrainConfig(optimizer=model.config)
    assert found()["dataclass"]["optimizer.lr"] == 2.0
    assert "lr" not in found()["dataclass"]
    assert cfg


def test_what_is_told_already_is_left_out() -> None:
    """A namespace that a parser made is not recorded again, except for what the program has changed since."""
    args = argparse.Namespace(lr=0.1, epochs=3)
    given = {"lr": 0.1, "epochs": 3}
    assert found(given) == {}
    args.lr *= 4
    assert found(given) == {"namespace": {"lr": 0.4}}


def test_other_object_does_not_override_the_command_line() -> None:
    """The same key with another value in an object that is no parser's result goes under the object's name."""
    data_config = AttrsConfig(lr=5.0)
    assert found({"lr": 0.1}) == {"attrs": {"data_config.lr": 5.0}}
    assert data_config


@dataclasses.dataclass
class TrainState:
    step: int = 0
    best: float = 0.0


@dataclasses.dataclass
class BatchOptions:
    x: torch.Tensor
    size: int = 3


def test_state_and_data_are_no_configuration() -> None:
    """Objects that are not called configuration, those with tensors in them, and those of libraries."""
    state = TrainState()
    options = BatchOptions(torch.ones(2))
    params = {"weight": torch.ones(2)}
    config = torch.nn.Linear(1, 1)
    counts = {"cat": 3}
    args = (1, 2)
    assert found() == {}
    for each in (state, options, params, config, counts, args):
        assert each is not None


def test_lazy_objects_are_not_woken() -> None:
    """A proxy in reach, and one inside of a configuration, sleeps on."""

    class Lazy:
        def __getattribute__(self, name: str) -> Any:
            raise AssertionError(f"asked for {name}")

    config = Lazy()
    cfg = {"lr": 0.1, "lazy": Lazy()}
    assert found() == {"dict": {"lr": 0.1}}
    assert cfg
    del config


def test_bounds() -> None:
    """Neither size nor depth nor a configuration that holds itself goes on for ever."""
    endless: dict[str, Any] = {"lr": 0.1}
    endless["again"] = endless
    assert leaves_of(endless, is_secret) == {"lr": 0.1}
    deep: dict[str, Any] = {"value": 1}
    for _ in range(50):
        deep = {"value": 1, "deeper": deep}
    assert len(leaves_of(deep, is_secret)) <= 10
    wide = {f"group{i}": {f"key{j}": j for j in range(90)} for i in range(90)}
    assert len(leaves_of(wide, is_secret)) == LEAVES_LIMIT


def test_resolvers_of_the_program_are_not_called() -> None:
    """A resolver may draw a random number: what is written is the setting. References beside it are resolved."""
    OmegaConf.register_new_resolver("test_never", lambda: 1 / 0)
    try:
        config = OmegaConf.create({"a": "${test_never:}", "b": "${a}", "c": 3, "d": "x${c}", "e": ["${c}", "???"]})
        assert leaves_of(config, is_secret) == {"a": "${test_never:}", "b": "${a}", "c": 3, "d": "x3", "e": [3]}
    finally:
        OmegaConf.clear_resolver("test_never")


def test_environment_in_omegaconf(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment variable is looked up, unless it is named like a secret."""
    monkeypatch.setenv("TEST_DATA", "/data")
    monkeypatch.setenv("TEST_API_KEY", "x1y2")
    assert leaves_of(OmegaConf.create({"a": "${oc.env:TEST_DATA}"}), is_secret) == {"a": "/data"}
    secret = OmegaConf.create({"a": "${oc.env:TEST_API_KEY}"})
    assert leaves_of(secret, is_secret) == {"a": "${oc.env:TEST_API_KEY}"}
