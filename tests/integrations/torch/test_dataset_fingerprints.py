"""What identifies data: tensors, arrays, parts and combinations of other data, shards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch.utils.data import (
    ChainDataset,
    ConcatDataset,
    Dataset,
    IterableDataset,
    StackDataset,
    Subset,
    TensorDataset,
    random_split,
)

from integrations.recording import Recording, recorded
from integrations.torch.feeding import Stream, described, one_described
from looptap_integrations.numpy_files import NumpyFilesIntegration
from looptap_integrations.torch import TorchIntegration


@pytest.fixture
def record() -> Iterator[Recording]:
    with recorded(TorchIntegration, NumpyFilesIntegration) as recording:
        yield recording


def prints(record: Recording, dataset: Any) -> list[Any]:
    found = described(record, dataset)
    assert found.parts or found.missing
    return found.parts


def ramp(*shape: int) -> torch.Tensor:
    return torch.arange(float(torch.Size(shape).numel())).reshape(shape)


def test_tensors(record: Recording) -> None:
    """By shape, type and values at a few places: of an equal tensor, however it lies in memory, the same."""
    base = ramp(40, 30)
    same = [base.clone(), base.t().contiguous().t(), torch.stack([base, base], 2)[:, :, 1], base.requires_grad_()]
    expected = prints(record, TensorDataset(base.detach()))
    for tensor in same:
        assert prints(record, TensorDataset(tensor)) == expected
    changed = base.detach().clone()
    changed[39, 29] += 1
    for other in (changed, base.detach().double(), ramp(30, 40), ramp(41, 30), base.detach().bfloat16()):
        assert prints(record, TensorDataset(other)) != expected
    # The same bytes as another type are other data.
    assert prints(record, torch.zeros(4)) != prints(record, torch.zeros(4, dtype=torch.int32))
    found = described(record, TensorDataset(base.detach(), torch.ones(40, dtype=torch.int64)))
    assert (found.length, found.name) == (40, "TensorDataset")
    assert found.schema == [{"shape": [40, 30], "dtype": "float32"}, {"shape": [40], "dtype": "int64"}]


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor(3.0),
        torch.ones(0, 5),
        torch.ones(5, dtype=torch.bool),
        torch.ones(5, dtype=torch.complex64).conj(),
        torch.ones(5, dtype=torch.float16),
        torch.ones(3, 1).expand(3, 10**9),
    ],
)
def test_any_plain_tensor(record: Recording, tensor: torch.Tensor) -> None:
    """Without a dimension, empty, of any type, and larger than any memory."""
    (part,) = prints(record, tensor)
    assert (part.covers, len(part.value)) == ("sampled content", 64)


def test_tensors_that_are_not_looked_into(record: Recording) -> None:
    """On a device, sparse, or of a class of the program's own: there is no fingerprint, and why."""

    class Own(torch.Tensor):
        @classmethod
        def __torch_function__(cls, *words: Any, **more: Any) -> Any:
            raise AssertionError

    for tensor, why in (
        (torch.ones(3, device="meta"), "it is on meta, and reading it would wait"),
        (torch.ones(3).to_sparse(), "only plain tensors are looked into"),
        (torch.ones(3).as_subclass(Own), "a Own is not looked into"),
    ):
        found = described(record, tensor)
        assert (found.parts, found.missing) == ([], why)
    assert described(record, TensorDataset(torch.ones(3), torch.ones(3, device="meta"))).parts == []


def test_arrays_of_a_data_set(record: Recording) -> None:
    """What a data set of the program's own keeps in memory identifies it."""

    class Own(Dataset[Any]):
        def __init__(self, x: Any, y: Any) -> None:
            self.x, self.y, self.note = x, y, "text"

        def __getitem__(self, index: int) -> Any:
            raise AssertionError

    one = described(record, Own(ramp(5, 2), numpy.arange(5)))
    assert one.schema == {"x": {"shape": [5, 2], "dtype": "float32"}, "y": {"shape": [5], "dtype": "int64"}}
    assert one.parts == prints(record, Own(ramp(5, 2), numpy.arange(5)))
    assert one.parts != prints(record, Own(ramp(5, 2), numpy.arange(5)[::-1]))


def test_subsets(record: Recording) -> None:
    """The data set inside, and which of its items."""
    base = TensorDataset(ramp(20, 3))
    found = described(record, Subset(base, [1, 5, 7]))
    assert (found.name, found.length, found.details["subset_of"]) == ("TensorDataset", 3, 20)
    assert [part.covers for part in prints(record, Subset(base, [1, 5, 7]))] == ["sampled content", "indices"]
    assert prints(record, Subset(base, [1, 5, 7])) == prints(record, Subset(base, (1, 5, 7)))
    for other in ([1, 5, 8], [5, 1, 7], [1, 5]):
        assert prints(record, Subset(base, other)) != found.parts
    assert len(prints(record, Subset(Subset(base, [1, 5, 7]), [0]))) == 3
    split = [random_split(base, [15, 5], torch.Generator().manual_seed(seed))[1] for seed in (0, 0, 1)]
    assert prints(record, split[0]) == prints(record, split[1]) != prints(record, split[2])


def test_many_indices(record: Recording) -> None:
    """Of very many, some at fixed places and their number; those of a stranger's kind are not looked at."""
    base = TensorDataset(ramp(2, 2))
    many = list(range(200_000))
    assert prints(record, Subset(base, many))[1].covers == "sampled indices"
    assert prints(record, Subset(base, many)) == prints(record, Subset(base, list(many)))
    assert prints(record, Subset(base, many)) != prints(record, Subset(base, many[:-1]))
    assert prints(record, Subset(base, range(10**12)))[1].covers == "indices"

    class Indices:
        def __len__(self) -> int:
            raise AssertionError

        def __getitem__(self, index: int) -> int:
            raise AssertionError

    for odd in (Indices(), ["a"], [2**70], [1.5]):
        found = described(record, Subset(base, odd))  # type: ignore[arg-type]
        assert (found.parts, found.missing) == ([], "its indices are not looked at")


def test_several_in_one(record: Recording) -> None:
    """One after the other, with what each is."""
    one, other = TensorDataset(ramp(4, 3)), TensorDataset(ramp(6, 3))
    found = described(record, ConcatDataset([one, other]))
    assert (found.length, [part["length"] for part in found.details["parts"]]) == (10, [4, 6])
    assert found.parts == prints(record, one) + prints(record, other)
    assert found.parts != prints(record, ConcatDataset([other, one]))
    stacked = described(record, StackDataset(one, one))
    assert stacked.length == 4
    stream = Stream()
    chained = described(record, ChainDataset([stream, stream]))
    assert (chained.length, chained.parts) == (None, [])
    assert chained.missing == "nothing that identifies its content is known"
    assert stream.calls == []


def test_own_kind_of_subset(record: Recording) -> None:
    """One that has changed what it gives is not taken for what it inherits."""

    class Noisy(TensorDataset):
        def __getitem__(self, index: int) -> Any:
            return super().__getitem__(index)[0] + 1  # type: ignore[no-untyped-call]

    found = described(record, Noisy(ramp(4, 3)))
    assert (found.name, found.length) == ("Noisy", 4)
    assert (found.parts, found.missing) == ([], "nothing that identifies its content is known")


def test_shards(record: Recording, tmp_path: Path) -> None:
    """Of WebDataset's kind: by the addresses, without what opens them; by the files where they are here."""

    class Shards(IterableDataset[Any]):
        __iter__ = None  # type: ignore[assignment]

        def __init__(self, urls: list[str]) -> None:
            self.pipeline = [type("Source", (), {})()]
            self.pipeline[0].urls = urls

    far = [f"https://ada:secret@host/x-{number}.tar?X-Amz-Signature=abc{number}" for number in range(3)]
    found = described(record, Shards(far))
    assert found.details["shards"] == 3
    assert "secret" not in str(found)
    assert "abc0" not in str(found)
    again = [url.replace("abc", "fresh").replace("secret", "newer") for url in far]
    assert prints(record, Shards(again)) == found.parts
    assert prints(record, Shards(far[::-1])) != found.parts
    near = [tmp_path / f"{number}.tar" for number in range(2)]
    for path in near:
        path.write_bytes(b"tar")
    told = one_described(record, Shards([str(path) for path in near]))
    assert (told.covers, told.details["files"]) == ("content", 2)


def nest(depth: int) -> Any:
    inner: Any = TensorDataset(torch.ones(2, 2))
    for _ in range(depth):
        inner = Subset(inner, [0])
    return inner


def circle() -> Any:
    inner: Any = Subset(TensorDataset(torch.ones(2, 2)), [0])
    inner.dataset = inner
    return inner


@pytest.mark.parametrize(
    "make", [lambda: nest(10_000), circle, lambda: ConcatDataset([TensorDataset(torch.ones(1))] * 10_000)]
)
def test_hostile_nesting_ends(record: Recording, make: Callable[[], Any]) -> None:
    """However deep or wide: no fingerprint, and why."""
    found = described(record, make())
    assert found.parts == []
    assert found.missing
