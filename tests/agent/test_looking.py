"""An object is looked at, and none of its code runs."""

from __future__ import annotations

import enum
import functools
import math
from pathlib import Path
from typing import Any

import numpy
import pytest

from looptap import looking


class Alarm(Exception):
    pass


class Guarded:
    """Whatever would be called raises."""

    __slots__ = ("__dict__", "slot")
    shared = "of the class"

    def __init__(self) -> None:
        self.own = 1
        self.slot = 2

    @property
    def computed(self) -> int:
        raise Alarm

    def __getattr__(self, name: str) -> Any:
        raise Alarm(name)

    def __repr__(self) -> str:
        raise Alarm

    def __len__(self) -> int:
        raise Alarm

    def __iter__(self) -> Any:
        raise Alarm

    def __getitem__(self, index: int) -> Any:
        raise Alarm

    def __bool__(self) -> bool:
        raise Alarm

    def __eq__(self, other: object) -> bool:
        raise Alarm

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        raise Alarm


def test_attributes_at_rest() -> None:
    """What is there is found; what would be computed is not."""
    thing = Guarded()
    assert looking.attribute(thing, "own") == 1
    assert looking.attribute(thing, "slot") == 2
    assert looking.attribute(thing, "shared") == "of the class"
    assert looking.attribute(thing, "computed", "none") == "none"
    assert looking.attribute(thing, "absent", "none") == "none"
    assert looking.text_of(thing, "absent", "own", "shared") == "of the class"
    assert looking.sketch(thing) == "Guarded(own=1)"
    assert looking.length(thing) is None


class Lengths:
    def __init__(self) -> None:
        self.items = [1, 2, 3]
        self.size = 7
        self.inner = Inner()
        self.shape = (5, 2)


class Inner:
    items = "four"

    def __len__(self) -> int:
        return len(self.items)


class OfList(Lengths):
    def __len__(self) -> int:
        return len(self.items)


class OfNumber(Lengths):
    def __len__(self) -> int:
        return self.size


class OfConstant(Lengths):
    def __len__(self) -> int:
        return 8


class OfInner(Lengths):
    def __len__(self) -> int:
        return len(self.inner)


class OfShape(Lengths):
    def __len__(self) -> int:
        return self.shape[0]


class OfWindows(Lengths):
    def __len__(self) -> int:
        return max(0, (len(self.items) - 1) // 2 * self.size)


class OfBatches(Lengths):
    def __len__(self) -> int:
        return math.ceil(self.size / len(self.items))


class OfBatchesOfNumpy(Lengths):
    def __len__(self) -> int:
        return int(numpy.floor(self.size / float(len(self.items))))


class OfBatchesUpwards(Lengths):
    def __len__(self) -> int:
        return -(-self.size // 2)


class OtherOfModule(Lengths):
    def __len__(self) -> int:
        return math.factorial(self.size)


class Dictionary(Lengths):
    def __len__(self) -> int:
        return len(self.__dict__)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (OfList, 3),
        (OfNumber, 7),
        (OfConstant, 8),
        (OfInner, 4),
        (OfShape, 5),
        (OfWindows, 7),
        (OfBatches, 3),
        (OfBatchesOfNumpy, 2),
        (OfBatchesUpwards, 4),
    ],
)
def test_lengths_are_worked_out(kind: type, expected: int) -> None:
    """What ``len`` would give, for the ways in which data sets tell their length."""
    thing = kind()
    assert len(thing) == expected
    assert looking.length(thing) == expected


class Calls(Lengths):
    def count(self) -> int:
        raise Alarm

    def __len__(self) -> int:
        return self.count()


class Loops(Lengths):
    def __len__(self) -> int:
        return sum(1 for _ in self.items)


class Opens(Lengths):
    def __len__(self) -> int:
        with open("/nowhere") as file:
            return len(file.readlines())


class Changes(Lengths):
    def __len__(self) -> int:
        self.size += 1
        return self.size


class Computed(Lengths):
    @property
    def rows(self) -> int:
        raise Alarm

    def __len__(self) -> int:
        return self.rows


class Negative(Lengths):
    def __len__(self) -> int:
        return -3


class OfUnknown(Lengths):
    def __len__(self) -> int:
        return len(self.missing)  # type: ignore[attr-defined]


class OfGuarded(Lengths):
    def __init__(self) -> None:
        self.items = Guarded()  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self.items)


class OfItself(Lengths):
    def __len__(self) -> int:
        return len(self)


class Decorated(Lengths):
    @functools.lru_cache  # noqa: B019
    def __len__(self) -> int:
        raise Alarm


@pytest.mark.parametrize(
    "kind",
    [
        Calls,
        Loops,
        Opens,
        Changes,
        Computed,
        Negative,
        OfUnknown,
        OfGuarded,
        OfItself,
        OtherOfModule,
        Decorated,
        Lengths,
    ],
)
def test_lengths_that_have_to_be_computed(kind: type) -> None:
    """None, and nothing was called or changed."""
    thing = kind()
    assert looking.length(thing) is None
    if kind is Changes:
        assert thing.size == 7


def test_lengths_of_what_is_well_known() -> None:
    """Containers, arrays and tables; an array without dimensions has none, and neither has a generator."""
    import pandas
    import torch

    assert [looking.length(thing) for thing in ([1], (), {1: 2}, range(10**12), "abc", torch.ones(4, 2))] == [
        1,
        0,
        1,
        10**12,
        3,
        4,
    ]
    assert looking.length(numpy.ones((6, 2))) == 6
    assert looking.length(pandas.DataFrame({"a": [1, 2]})) == 2
    assert looking.length(numpy.float64(1)) is None
    assert looking.length(number for number in range(3)) is None


class Color(enum.Enum):
    RED = 1


class Normalize:
    def __init__(self, mean: list[float], how: Any = None) -> None:
        self.mean, self.how, self._cache = mean, how, object()


class Compose:
    def __init__(self, transforms: list[Any]) -> None:
        self.transforms = transforms


def test_sketches_are_the_same_in_every_process() -> None:
    """By what was set: no address, no private attribute, no call of the program's ``__repr__``."""
    one = Compose([Normalize([0.5], Color.RED), len, functools.partial(Normalize, mean=[1.0]), Guarded()])
    assert (
        looking.sketch(one)
        == "Compose(transforms=[Normalize(mean=[0.5], how=Color.RED), len, partial("
        + f"{__name__}.Normalize, mean=[1.0]), Guarded(own=1)])"
    )
    assert "<locals>.<lambda>" in looking.sketch(lambda x: x)
    assert looking.sketch({"b": 1, "a": (1, None)}) == "{'b': 1, 'a': (1, None)}"
    assert looking.sketch({3, 1, 2}) == "(1, 2, 3)"
    assert looking.sketch("a\nb") == "'a\\nb'"


def test_sketches_are_short() -> None:
    """However much is in an object, and though it holds itself."""
    circle = Compose([])
    circle.transforms = [circle] * 1_000
    deep: list[Any] = []
    for _ in range(10_000):
        deep = [deep]
    for thing in (circle, deep, "x" * 10**6, list(range(10**6)), 10**5_000, {str(n): "y" * 300 for n in range(10**4)}):
        assert len(looking.sketch(thing)) <= looking.SKETCH_LIMIT


def test_paths_are_texts(tmp_path: Path) -> None:
    """A path counts as text, bytes do not."""
    thing = Compose([])
    thing.root = tmp_path  # type: ignore[attr-defined]
    thing.raw = b"/x"  # type: ignore[attr-defined]
    assert looking.text_of(thing, "raw", "root") == str(tmp_path)
