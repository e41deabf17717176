"""Any object can be recorded: as itself where that is exact, shortened where it is not, and never by raising."""

from __future__ import annotations

import argparse
import dataclasses
import enum
import json
import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from looptap.plain import TEXT_LIMIT, number, plain, step_number


class Colour(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Config:
    lr: float
    layers: tuple[int, ...]


class Hostile:
    def __repr__(self) -> str:
        raise RuntimeError("no")

    def __float__(self) -> float:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (3, 3),
        (2**80, str(2**80)),
        (0.1, 0.1),
        ("text", "text"),
        ("lone \ud800 surrogate", "lone \\ud800 surrogate"),
        (Colour.RED, "RED"),
        (Path("a/b"), "a/b"),
        ((1, 2), [1, 2]),
        ({"a": {"b": 1}}, {"a": {"b": 1}}),
        (Config(0.1, (1, 2)), {"lr": 0.1, "layers": [1, 2]}),
        (argparse.Namespace(lr=0.1), {"lr": 0.1}),
        (np.float32(0.5), 0.5),
        (np.int64(7), 7),
        (np.zeros((2, 3)), "ndarray(2, 3; float64)"),
        (math.sqrt, "math.sqrt"),
        (Config, f"{__name__}.Config"),
        (Hostile(), f"{__name__}.Hostile"),
        (object(), "builtins.object"),
    ],
)
def test_plain(value: Any, expected: Any) -> None:
    """Known kinds have one plain form each."""
    result = plain(value)
    assert result == expected
    assert type(result) is type(expected)


def test_limits() -> None:
    """Long texts are cut and say how long they were; deep and wide structures end; a structure inside itself ends too."""
    text = plain("x" * 100_000)
    assert len(text) <= TEXT_LIMIT
    assert "100000 characters" in text
    assert len(plain(list(range(1000)))) == 100
    loop: list[Any] = []
    loop.append(loop)
    json.dumps(plain(loop))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.complex_numbers(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.sets(st.integers()),
)


@given(values)
def test_everything_can_be_written(value: Any) -> None:
    """Whatever the value, its plain form can be written to the journal and read back."""
    result = plain(value)
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(result))
    assert json.dumps(again) == json.dumps(result)


@pytest.mark.parametrize("value", ["12", b"12", None, [1], Hostile(), 10**400])
def test_no_number_is_invented(value: Any) -> None:
    """What is not one number is refused."""
    with pytest.raises((TypeError, ValueError, OverflowError, RuntimeError)):
        number(value)


def test_numbers_are_exact() -> None:
    """float32 as float64, NaN and infinities as they are."""
    assert number(np.float32(0.1)) == float(np.float32(0.1))
    assert math.isnan(number(float("nan")))
    assert number(np.inf) == math.inf
    assert step_number(3.0) == 3
    for wrong in (3.5, 2**63, "x", None, math.nan, math.inf):
        with pytest.raises((TypeError, ValueError, OverflowError)):
            step_number(wrong)
