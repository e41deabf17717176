"""Any value in few words: what is copied, what is cut, and what never gets out."""

from __future__ import annotations

import dataclasses
import enum
import json
import types
import uuid
import warnings
from collections import OrderedDict, defaultdict, namedtuple
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
import PIL.Image
import pydantic
import pytest
import tensorflow as tf
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from looptap.redaction import REDACTED, Redactor
from looptap.serving.values import TEXT, Cut, _first_values, copied, told

WIDE = Cut(TEXT, 50)
redactor = Redactor()


def named(value: Any) -> str:
    """Of a case: its text is not to be asked for."""
    return type(value).__name__


def seen(value: Any, cut: Cut = WIDE) -> Any:
    found = told(copied(value), cut, redactor)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    return found


class Colour(enum.Enum):
    RED = "password"


@dataclasses.dataclass
class Question:
    text: str
    api_key: str = "hunter2"


@dataclasses.dataclass(slots=True)
class Slotted:
    text: str


class Asked(pydantic.BaseModel):
    text: str
    key: pydantic.SecretStr = pydantic.SecretStr("hunter2")


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (-3, -3),
        (2**63, str(2**63)),
        (10**5_000, "int of 16,610 bits"),
        (1.5, 1.5),
        (float("nan"), "NaN"),
        (float("-inf"), "-Infinity"),
        ("é🦦", "é🦦"),
        ("a\0b\ud800", "a b\\ud800"),
        ((1, [2, {3}]), [1, [2, [3]]]),
        (Point(1, 2), [1, 2]),
        ({"a": {1: None}, (1, 2): "x"}, {"a": {"1": None}, "tuple": "x"}),
        (OrderedDict(a=1), {"a": 1}),
        (defaultdict(int, b=2), {"b": 2}),
        (types.SimpleNamespace(a=1), {"a": 1}),
        (Question("hello"), {"text": "hello", "api_key": REDACTED}),
        (Slotted("hello"), {"text": "hello"}),
        (Asked(text="hello"), {"text": "hello", "key": "pydantic.types.SecretStr"}),
        (Colour.RED, "Colour.RED"),
        (Decimal("1.50"), "1.50"),
        (date(2026, 1, 2), "2026-01-02"),
        (timedelta(seconds=1), "0:00:01"),
        (datetime(2026, 1, 2, 3), "2026-01-02 03:00:00"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Path("a/b"), "a/b"),
        (1 + 2j, "(1+2j)"),
        (b"secret bytes", {"kind": "bytes", "length": 12}),
        (bytearray(3), {"kind": "bytearray", "length": 3}),
        (memoryview(b"abcd").cast("H"), {"kind": "memoryview", "length": 4}),
        (PIL.Image.new("RGB", (4, 3)), {"kind": "Image", "size": [4, 3]}),
        (object(), "object"),
        (len, "builtin_function_or_method"),
        ((n for n in range(3)), "generator"),
        (Colour, "enum.EnumType" if hasattr(enum, "EnumType") else "enum.EnumMeta"),
    ],
    ids=named,
)
def test_what_is_told(value: Any, expected: Any) -> None:
    assert seen(value) == expected


@pytest.mark.parametrize(
    ("array", "shape", "dtype", "values"),
    [
        (np.arange(6, dtype=np.int16).reshape(2, 3), [2, 3], "int16", [0, 1, 2, 3, 4, 5]),
        (np.arange(24).reshape(2, 3, 4).transpose(2, 0, 1), [4, 2, 3], "int64", None),
        (np.zeros((0, 3)), [0, 3], "float64", []),
        (np.array([1.0, np.nan, np.inf]), [3], "float64", [1.0, "NaN", "Infinity"]),
        (np.array(["a", "b"]), [2], "str32", ["a", "b"]),
        (np.array([b"ab"]), [1], "bytes16", [{"kind": "bytes", "length": 2}]),
        (np.array([None, "x"], object), [2], "object", [None, "x"]),
        (np.ma.masked_array([1, 2], [False, True]), [2], "int64", [1, None]),
        (np.array(["2026-01-02"], "datetime64[D]"), [1], "datetime64[D]", ["2026-01-02"]),
        (torch.arange(6.0, requires_grad=True).reshape(2, 3), [2, 3], "float32", [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]),
        (torch.arange(6).reshape(2, 3).T, [3, 2], "int64", [0, 3, 1, 4, 2, 5]),
        (torch.tensor([1.5], dtype=torch.bfloat16), [1], "bfloat16", [1.5]),
    ],
)
def test_arrays(array: Any, shape: list[int], dtype: str, values: list[Any] | None) -> None:
    """By shape and type, with their first numbers in the order of rows."""
    expected = array.reshape(-1).tolist() if values is None else values
    assert seen(array) == {"shape": shape, "dtype": dtype, "values": expected}


def test_an_array_of_tensorflow() -> None:
    assert seen(tf.constant([[1, 2]])) == {"shape": [1, 2], "dtype": "int32", "values": [1, 2]}


@pytest.mark.parametrize("shape", [(3, 40), (100, 3), (1, 3, 224, 224), (1_000,), (7, 1, 9, 2), (1, 1, 1, 60)])
def test_long_arrays(shape: tuple[int, ...]) -> None:
    """Only as much is copied as is told."""
    array = np.random.default_rng(0).normal(size=shape)
    found = seen(array)
    assert found["values"][:50] == array.reshape(-1)[:50].tolist()
    assert found["values"][50:] == [f"… ({array.size:,} items)"]
    assert seen(torch.tensor(array)) == found
    assert seen(array, Cut(16, 1))["values"] == [array.flat[0], f"… ({array.size:,} items)"]


@pytest.mark.parametrize("shape", [(100, 200, 3), (50, 50, 50), (9, 1, 1, 9), (300,)])
def test_what_is_copied_of_an_array(shape: tuple[int, ...]) -> None:
    """Is not more than twice of what is told, whatever its shape."""
    sizes: list[int] = []

    class Array:
        def __init__(self) -> None:
            self.shape = shape

        def __getitem__(self, part: Any) -> Any:
            found = np.arange(np.prod(shape)).reshape(shape)[part]
            sizes.append(found.size)
            return found

    first, length = _first_values(Array())
    assert first == list(range(50))
    assert length == np.prod(shape)
    assert max(sizes) <= 100


def masked() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is a prototype
        return torch.masked.masked_tensor(torch.ones(2, 3), torch.ones(2, 3, dtype=torch.bool))


# Made in the test: an array of TensorFlow or JAX begins their threads and fixes their devices, for all tests of the process.
@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.ones(2, 3, device="meta"),
        masked,
        lambda: torch.eye(3).to_sparse(),
        lambda: jnp.ones((2, 3)),
        lambda: tf.Variable([[1.0]]),
        lambda: tf.ragged.constant([[1], [2, 3]]),
    ],
    ids=["meta", "masked", "sparse", "jax", "variable", "ragged"],
)
def test_arrays_that_are_not_here(make: Callable[[], Any], recwarn: pytest.WarningsRecorder) -> None:
    """Nothing is fetched from anywhere, nor tried."""
    array = make()
    found = seen(array)
    assert set(found) == {"shape", "dtype"}
    assert not recwarn.list
    assert len(found["shape"]) == 2


@pytest.mark.parametrize(
    ("scalar", "expected"),
    [(np.float32(0.5), 0.5), (np.int64(3), 3), (torch.tensor(2.5), 2.5), (np.array(7), 7), (np.bool_(True), True)],
)
def test_single_numbers(scalar: Any, expected: Any) -> None:
    assert seen(scalar) == expected


def test_an_odd_number_of_numpy() -> None:
    """It says that it is itself."""
    assert seen(np.longdouble(1)) == "numpy.longdouble"


def test_tables() -> None:
    """By column, so that columns have the names that secrets are known by."""
    table = pd.DataFrame({"age": range(9), "password": ["hunter2"] * 9, 3: [b"x"] * 9})
    more = "… (9 items)"
    assert seen(table) == {
        "age": [0, 1, 2, 3, 4, more],
        "password": REDACTED,
        "3": [{"kind": "bytes", "length": 1}] * 5 + [more],
    }
    assert seen(table["age"]) == list(range(9))


class Hostile:
    """All that it does is wrong."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"it was asked for {name}")

    def __repr__(self) -> str:
        raise AssertionError("it was asked for its text")

    __str__ = __repr__
    __len__ = __iter__ = __hash__ = __eq__ = __bool__ = __repr__  # type: ignore[assignment]


class HostileText(str):
    def __str__(self) -> str:
        raise AssertionError("it was asked for its text")

    __len__ = __getitem__ = encode = isascii = replace = __format__ = __str__  # type: ignore[assignment]


class HostileNumber(int):
    def __int__(self) -> int:
        raise AssertionError("it was asked for its number")

    __index__ = __str__ = __repr__ = __float__ = __int__  # type: ignore[assignment]


class HostileDict(dict[Any, Any]):
    def items(self) -> Any:
        raise AssertionError("it was asked for its items")

    __iter__ = __len__ = keys = __getitem__ = items  # type: ignore[assignment]


class HostileList(list[Any]):
    def __iter__(self) -> Any:
        raise AssertionError("it was asked for its items")

    __len__ = __getitem__ = __iter__  # type: ignore[assignment]


class HostileBytes(bytes):
    def __len__(self) -> int:
        raise AssertionError("it was asked for its length")


class HostileModel(pydantic.BaseModel):
    text: str

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def computed(self) -> str:
        raise AssertionError("it was computed")

    def __iter__(self) -> Any:
        raise AssertionError("it was asked for its fields")


class HostileArray(np.ndarray[Any, Any]):
    @property  # type: ignore[misc]
    def shape(self) -> Any:
        raise AssertionError("it was asked for its shape")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Hostile(), f"{__name__}.Hostile"),
        (HostileText("hello"), "hello"),
        (HostileNumber(3), 3),
        (HostileDict({HostileText("a"): Hostile()}), {"a": f"{__name__}.Hostile"}),
        (HostileList([HostileNumber(1)]), [1]),
        (HostileBytes(b"abc"), {"kind": "HostileBytes", "length": 3}),
        (HostileModel(text="x"), {"text": "x"}),
        (np.zeros(3).view(HostileArray), f"{__name__}.HostileArray"),
    ],
    ids=named,
)
def test_no_code_of_the_program_is_called(value: Any, expected: Any) -> None:
    assert seen(value) == expected


SECRET = "ghp_" + "a1" * 18


@pytest.mark.parametrize(
    "value",
    [
        SECRET,
        "x" * (TEXT - 10) + " " + SECRET,
        "x" * (TEXT - 40) + " https://me:ghp_a1a1a1@host/",
        {SECRET: 1},
        {"outer": [{"dbPassword": "ghp_a1"}]},
        {"Authorization": ["Bearer", "ghp_a1"]},
        {"token": {"inner": "ghp_a1"}},
        {"credentials": np.array(["ghp_a1"])},
        {"secret": 123, "api_key": b"ghp_a1"},
        [("authorization", "ghp_a1"), ["X-Api-Key", "ghp_a1"]],
        np.array([SECRET]),
        pd.DataFrame({"password": ["ghp_a1"], "note": [SECRET]}),
        Question(SECRET, "ghp_a1"),
    ],
)
@pytest.mark.parametrize("cut", [WIDE, Cut(100, 5), Cut(16, 1)])
def test_secrets(value: Any, cut: Cut) -> None:
    """Not even a part of one, wherever the text is cut; of those known by their names nothing."""
    found = json.dumps(seen(value, cut))
    assert "ghp_" not in found
    assert "123" not in found


def test_whether_there_is_one_is_no_secret() -> None:
    """As of params."""
    assert seen({"token": None, "auth": True, "password": 0}) == {"token": None, "auth": True, "password": REDACTED}


def test_words_of_the_program_for_secrets() -> None:
    assert told(copied({"patient": "x", "other": "y"}), WIDE, Redactor(["patient"])) == {
        "patient": REDACTED,
        "other": "y",
    }


def test_what_is_cut_is_told() -> None:
    assert seen("x" * 5_000) == "x" * TEXT + "… (5,000 characters)"
    assert seen("x" * 20, Cut(16, 1)) == "x" * 16 + "… (20 characters)"
    assert seen([1] * 1_000)[-1] == "… (1,000 items)"
    assert seen({str(n): n for n in range(60)})["…"] == "(60 keys)"
    assert seen({"k" * 300: 1}) == {"k" * 100 + "… (300 characters)": 1}
    assert seen(list(range(50))) == list(range(50))


def test_what_never_ends() -> None:
    """Has an end here."""
    around: list[Any] = []
    around.append(around)
    deep: Any = "x"
    for _ in range(50_000):
        deep = [deep]
    wide = [[[[1] * 50] * 50] * 50] * 50
    for value in (around, deep, wide):
        found = json.dumps(seen(value))
        assert len(found) < 10_000
        assert "[" * 16 not in found  # a store takes no deeper ones


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.complex_numbers()
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner, inner),
    max_leaves=200,
)


@given(value=anything, cut=st.sampled_from([WIDE, Cut(100, 5), Cut(16, 1)]))
@settings(max_examples=200, deadline=None)
def test_anything(value: Any, cut: Cut) -> None:
    """Is JSON, in UTF-8."""
    json.dumps(seen(value, cut), ensure_ascii=False).encode()
