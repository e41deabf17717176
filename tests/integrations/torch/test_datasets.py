"""What a training is fed with: roles, descriptions and fingerprints; and nothing of the program's is called for that."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch import nn
from torch.utils.data import (
    ChainDataset,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    StackDataset,
    Subset,
    TensorDataset,
    random_split,
)

import looptap.events
from integrations.recording import Recording, recorded
from looptap.describing import Description
from looptap_collector.testing.batches import Journal, started
from looptap_collector.validation import check
from looptap_integrations.numpy_files import NumpyFilesIntegration
from looptap_integrations.torch import TorchIntegration


@pytest.fixture
def record() -> Iterator[Recording]:
    with recorded(TorchIntegration, NumpyFilesIntegration) as recording:
        yield recording


class Counting(Dataset[torch.Tensor]):
    """Counts what is asked of it."""

    def __init__(self, size: int = 12) -> None:
        self.size = size
        self.calls: list[str] = []

    def __len__(self) -> int:
        self.calls.append("len")
        return self.size

    def __getitem__(self, index: int) -> torch.Tensor:
        self.calls.append(f"item {index}")
        return torch.full((3,), float(index)) + torch.rand(3) + random.random() + numpy.random.rand()


class Stream(IterableDataset[torch.Tensor]):
    def __init__(self) -> None:
        self.calls: list[str] = []

    def __len__(self) -> int:
        self.calls.append("len")
        raise RuntimeError("it would have to be downloaded")

    def __iter__(self) -> Iterator[torch.Tensor]:
        self.calls.append("iter")
        yield from torch.rand(8, 3)


class Pictures(Dataset[torch.Tensor]):
    """Of the shape that those of torchvision have."""

    def __init__(self, root: str, train: bool = True, transform: Any = None) -> None:
        self.root = root
        self.train = train
        self.transform = transform
        self.data = [torch.ones(3)] * 6

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.data[index]


class Normalize:
    def __init__(self, mean: list[float]) -> None:
        self.mean = mean


Model = nn.Linear


def train(loader: DataLoader[Any], model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for batch in loader:
        loss = model(batch[0] if isinstance(batch, list) else batch).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def model_and_optimizer() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Linear(3, 1)
    return model, torch.optim.SGD(model.parameters(), lr=1e-6)


def whole_training(datasets: list[Any]) -> list[Any]:
    """Train on the first, validate with the others; give back all that could differ with and without us."""
    torch.manual_seed(1)
    random.seed(1)
    numpy.random.seed(1)
    model, optimizer = model_and_optimizer()
    for _ in range(2):
        train(DataLoader(datasets[0], batch_size=3, shuffle=not isinstance(datasets[0], Stream)), model, optimizer)
        for dataset in datasets[1:]:
            for batch in DataLoader(dataset, batch_size=4):
                with torch.no_grad():
                    model(batch)
    return [
        [dataset.calls for dataset in datasets],
        torch.get_rng_state().tolist(),
        random.getstate(),
        str(numpy.random.get_state()),
        [parameter.tolist() for parameter in model.parameters()],
    ]


@pytest.mark.parametrize("kinds", [(Counting, Counting), (Stream, Counting), (Counting, Stream)])
def test_nothing_is_iterated(kinds: tuple[type, ...]) -> None:
    """The same calls in the same order, the same random states and the same weights, with and without us."""
    without = whole_training([kind() for kind in kinds])
    with recorded(TorchIntegration, NumpyFilesIntegration) as recording:
        assert whole_training([kind() for kind in kinds]) == without
    assert {role for role, _ in recording.datasets} == {"train", "validation"}


def test_roles(record: Recording) -> None:
    """The loader of the steps trains; those of passes without gradients validate, wherever they are turned off, and test where
    the split says so. What was looked at before the training is neither."""
    model, optimizer = model_and_optimizer()
    trained, validated, tested, later, looked_at = (TensorDataset(torch.full((6, 3), float(n))) for n in range(5))
    tested.split = "test"  # type: ignore[attr-defined]
    for batch in DataLoader(looked_at, batch_size=2):
        batch[0].mean()
    for _ in range(2):
        train(DataLoader(trained, batch_size=2), model, optimizer)
        with torch.no_grad():
            for batch in DataLoader(validated, batch_size=2):
                model(batch[0])
        for batch in DataLoader(later, batch_size=2):
            with torch.no_grad():
                model(batch[0])
    assert roles(record) == {"train": [0.0], "validation": [1.0, 3.0]}
    tested_loader = DataLoader(Named(tested), batch_size=2)
    with torch.no_grad():
        for batch in tested_loader:
            model(batch[0])
    assert [name for role, name in record.datasets if role == "test"] == ["Named"]


class Named(Dataset[Any]):
    def __init__(self, inner: TensorDataset) -> None:
        self.inner, self.split = inner, "Test"

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: int) -> Any:
        return self.inner[index]


def roles(record: Recording) -> dict[str, list[float]]:
    """Which tensors have which role: by the fingerprint of tensors full of a number."""
    numbers = {print_of(record, TensorDataset(torch.full((6, 3), float(number)))): float(number) for number in range(5)}
    found: dict[str, list[float]] = {}
    for (role, _), told in record.datasets.items():
        if told.fingerprint in numbers:
            found.setdefault(role, []).append(numbers[told.fingerprint])
    return {role: sorted(these) for role, these in found.items()}


def print_of(record: Recording, dataset: Any) -> str | None:
    (part,) = record.describers.describe(dataset).parts
    assert not isinstance(part, str)
    return getattr(part, "value", None)


def test_several_loaders_feed_one_step(record: Recording) -> None:
    """Labelled and unlabelled data, batch beside batch: both train, and neither validates."""
    model, optimizer = model_and_optimizer()
    one, other = (TensorDataset(torch.full((6, 3), float(n))) for n in range(2))
    for first, second in zip(DataLoader(one, batch_size=2), DataLoader(other, batch_size=2), strict=True):
        (model(first[0]).sum() + model(second[0]).sum()).backward()
        optimizer.step()
    assert roles(record) == {"train": [0.0, 1.0]}


def test_one_look_at_a_batch_says_nothing(record: Recording) -> None:
    """A single batch with gradients, of whatever, in the middle of a training."""
    model, optimizer = model_and_optimizer()
    one, other = (TensorDataset(torch.full((6, 3), float(n))) for n in range(2))
    loader = DataLoader(one, batch_size=2)
    for _ in range(2):
        train(loader, model, optimizer)
        next(iter(DataLoader(other, batch_size=2)))
    assert roles(record) == {"train": [0.0]}


def test_same_data_trains_and_validates(record: Recording) -> None:
    """It is told in both roles, once each, however often."""
    model, optimizer = model_and_optimizer()
    dataset = TensorDataset(torch.ones(6, 3))
    for _ in range(3):
        train(DataLoader(dataset, batch_size=2), model, optimizer)
        with torch.no_grad():
            for batch in DataLoader(dataset, batch_size=2):
                model(batch[0])
    assert sorted(record.datasets) == [("train", "TensorDataset"), ("validation", "TensorDataset")]


def test_every_run_tells_its_own(record: Recording) -> None:
    """After another run has begun, the same loader is told again."""
    model, optimizer = model_and_optimizer()
    loader = DataLoader(TensorDataset(torch.ones(6, 3)), batch_size=2)
    train(loader, model, optimizer)
    record.datasets.clear()
    record.detach()
    record.new_run()
    train(loader, model, optimizer)
    assert list(record.datasets) == [("train", "TensorDataset")]


def test_suppressed(record: Recording) -> None:
    """What nothing shall be recorded of, is not."""
    model, optimizer = model_and_optimizer()
    with record.suppress():
        train(DataLoader(TensorDataset(torch.ones(6, 3)), batch_size=2), model, optimizer)
    assert record.datasets == {}


def one_step(dataset: Any, record: Recording, **loader: Any) -> looptap.events.Dataset:
    """Train a step and give what was told of the data set."""
    model, optimizer = model_and_optimizer()
    for batch in DataLoader(dataset, **{"batch_size": 2, **loader}):
        model(batch[0] if isinstance(batch, list) else batch).sum().backward()
        optimizer.step()
        break
    record.settle(30)
    ((_, told),) = record.datasets.items()
    return told


def test_files_split_and_transform(record: Recording, tmp_path: Path) -> None:
    """Of a data set like those of torchvision."""
    root = tmp_path / "pictures"
    root.mkdir()
    (root / "a.png").write_bytes(b"123")
    told = one_step(Pictures(str(root), transform=Normalize([0.5])), record)
    assert (told.name, told.role, told.kind, told.length, told.split) == ("Pictures", "train", "torch", 6, "train")
    assert (told.root, told.transform) == (str(root), "Normalize(mean=[0.5])")
    assert told.class_name == f"{__name__}.Pictures"
    assert (told.covers, told.algorithm, told.details) == (
        "names, sizes, mtimes",
        "sha256",
        {"files": 1, "size_bytes": 3},
    )
    assert told.fingerprint is not None
    assert len(told.fingerprint) == 64


class Broken(Counting):
    def __len__(self) -> int:
        raise RuntimeError("no length")


class Blocked(Counting):
    def __len__(self) -> int:
        while True:
            pass


class Huge(Counting):
    def __len__(self) -> int:
        return 10**30


class Cheap(Counting):
    def __len__(self) -> int:
        return self.size


@pytest.mark.parametrize(
    ("kind", "length"), [(Broken, None), (Blocked, None), (Counting, None), (Cheap, 12), (Huge, None)]
)
def test_lengths(record: Recording, kind: type[Counting], length: int | None) -> None:
    """One that raises, that never returns, that counts, that is told by an attribute, or is too large: the program's own code is
    not run for it. That there is none is told."""
    dataset = kind()
    told = one_step(dataset, record, sampler=[0, 1, 2])
    assert told.length == length
    assert record.params_by_key().get("data.dataset_size") == length
    assert "len" not in dataset.calls
    if length is None:
        assert f"the length of {kind.__name__} is not recorded: its __len__ would have to be called" in record.notes


class Lazy(Dataset[torch.Tensor]):
    """Opens its file when it is first asked for an attribute that is not there."""

    def __init__(self, asked: list[str]) -> None:
        object.__setattr__(self, "asked", asked)

    def __getattr__(self, name: str) -> Any:
        self.__dict__["asked"].append(name)
        raise AttributeError(name)

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.ones(3)

    def __len__(self) -> int:
        return 4


def test_lazy_attributes_stay_unloaded(record: Recording) -> None:
    """PyTorch asks for what is not there, and nobody else does."""
    asked: list[str] = []
    assert one_step(Lazy(asked), record).length == 4
    assert set(asked) == {"__getitems__"}


def test_stream(record: Recording) -> None:
    """A stream has no length, whatever it says, and no fingerprint."""
    told = one_step(Stream(), record)
    assert (told.length, told.fingerprint, told.missing) == (
        None,
        None,
        "nothing that identifies its content is known",
    )


def described(record: Recording, dataset: Any) -> Description:
    return record.describers.describe(dataset)


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
            return super().__getitem__(index)[0] + 1

    found = described(record, Noisy(ramp(4, 3)))
    assert (found.name, found.length) == ("Noisy", 4)


def test_shards(record: Recording, tmp_path: Path) -> None:
    """Of WebDataset's kind: by the addresses, without what opens them; by the files where they are here."""

    class Shards(IterableDataset[Any]):
        __iter__ = None

        def __init__(self, urls: list[str]) -> None:
            self.pipeline = [type("Source", (), {})()]
            self.pipeline[0].urls = urls  # type: ignore[attr-defined]

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


def one_described(record: Recording, dataset: Any) -> looptap.events.Dataset:
    record.dataset(described(record, dataset))
    record.settle(30)
    ((_, told),) = record.datasets.items()
    return told


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


def test_hostile_names(record: Recording, tmp_path: Path) -> None:
    """Whatever a class or a folder is called arrives as text that every store takes."""
    name = "<img src=x onerror=alert(1)>'; DROP TABLE run; -- \x00 \ud800 \u202e" + "🦦" * 500
    kind = type(name.replace("\0", "0").replace("\ud800", ""), (Pictures,), {})
    told = one_described(record, kind("https://ada:secret@host/\ud800\n\x1b[31m" + "x" * 10_000))
    check(Journal().batch(started(), told))
    assert "secret" not in str(told)
    record.datasets.clear()
    record.dataset(Description(name, split=name, transform=name, details={name: [name] * 100}), role=name, name=name)
    for told in record.datasets.values():
        check(Journal().batch(started(), told))
