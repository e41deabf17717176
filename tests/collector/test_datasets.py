"""In what the data of two runs differs."""

from __future__ import annotations

from typing import Any

from looptap.events import Dataset
from looptap_collector.datasets import compared, version_of


def dataset(name: str = "digits", fingerprint: str | None = "ab", **more: Any) -> Dataset:
    given = {"name": name, "time_ns": 1, "fingerprint": fingerprint, "algorithm": "sha256", "covers": "content", **more}
    return Dataset(**given)


def outcomes(first: list[Dataset], second: list[Dataset]) -> list[tuple[str, str, str, tuple[str, ...]]]:
    return [(one.role, one.name, one.outcome, one.fields) for one in compared(first, second)]


def test_same_and_different() -> None:
    """By the fingerprint; when it was told makes no difference, and what else differs is named."""
    assert outcomes([dataset()], [dataset(time_ns=9)]) == [("train", "digits", "same", ())]
    changed = dataset(fingerprint="cd", length=3, transform="Flip()")
    assert outcomes([dataset()], [changed]) == [("train", "digits", "different", ("length", "transform"))]
    assert outcomes([dataset(schema=1)], [dataset(schema=True)])[0][3] == ("schema",)
    nan = float("nan")
    assert outcomes([dataset(details={"a": nan})], [dataset(details={"a": nan})])[0][3] == ()


def test_unknown() -> None:
    """Without a fingerprint, or when the two are of different kinds, nobody can tell."""
    for other in (dataset(fingerprint=None), dataset(covers="names, sizes, mtimes"), dataset(algorithm="huggingface")):
        assert [one.outcome for one in compared([dataset()], [other])] == ["unknown"]
    assert [one.outcome for one in compared([dataset(fingerprint=None)], [dataset(fingerprint=None)])] == ["unknown"]


def test_only_in_one() -> None:
    """What the other run does not have; in another role it is another use."""
    found = outcomes([dataset("a"), dataset("b", "x")], [dataset("b", "x"), dataset("a", role="test")])
    assert found == [
        ("test", "a", "only in the second", ()),
        ("train", "a", "only in the first", ()),
        ("train", "b", "same", ()),
    ]


def test_renamed() -> None:
    """The same data in the same role under another name is the same, with another name."""
    assert outcomes([dataset("old")], [dataset("new")]) == [("train", "old", "same", ("name",))]
    # Of one name goes first, whatever else would fit.
    found = outcomes([dataset("a"), dataset("b", "x")], [dataset("a", "x"), dataset("c")])
    assert found == [
        ("train", "a", "different", ()),
        ("train", "b", "only in the first", ()),
        ("train", "c", "only in the second", ()),
    ]


def test_version() -> None:
    """Of name, fingerprint, and what that covers; the same in every store."""
    one = version_of(dataset())
    assert one == version_of(dataset(length=7, role="test", time_ns=5))
    assert version_of(dataset(fingerprint=None)) is None
    others = [dataset("x"), dataset(fingerprint="x"), dataset(covers="x"), dataset(algorithm="x")]
    assert len({one, *map(version_of, others)}) == 5
