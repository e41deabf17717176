"""The data that a training is fed with: what a DataLoader's data set is, and whether it trains, validates or tests.

No item is fetched and no code of the data set is called. A tensor in the memory of the host is identified by its shape, its type
and values at a few fixed places; one on a device by nothing, because reading it would wait.
"""

from __future__ import annotations

import weakref
from array import array
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.utils import data

from looptap import looking
from looptap.describing import Description, combined, of_path, split_of
from looptap.fingerprints import SAMPLED, Fingerprint, digest
from looptap.guard import Guard
from looptap.recorder import Recorder
from looptap_integrations.torch.passes import Pass

INDICES = "indices"
SAMPLED_INDICES = "sampled indices"
#: A list of so many is hashed in about a millisecond.
_WHOLE_INDICES = 16_384
_SAMPLED_INDICES = 1_024
#: Rows of a tensor that are looked at, and places in each: of a file in memory few pages.
_ROWS, _COLUMNS = 16, 32
_MOST_PARTS = 64
_MOST_URLS = 1_000
_MOST_DEPTH = 8
_GIVING = ("__getitem__", "__iter__", "__len__")
_MOST_KNOWN = 1_000
#: One batch may be looked at for any reason.
_SEVERAL = 2
_TEST = {"test", "testing"}


class Fed:
    """Of one data set in this run: in which roles it was told."""

    __slots__ = ("began_at", "described", "passing", "reference", "roles")

    def __init__(self, reference: weakref.ref[Any] | None) -> None:
        self.reference = reference
        self.described: Description | None = None
        self.roles: set[str] = set()
        #: The last pass over it, and the training step at its first batch.
        self.passing: Pass | None = None
        self.began_at = -1


class Stretch(NamedTuple):
    """Batches of one pass with none of another in between."""

    fed: Fed
    feeding: Pass
    step: int
    fetched: int


class Datasets:
    def __init__(self, record: Recorder, is_backward_pending: Callable[[], bool]) -> None:
        """``is_backward_pending``: whether something was backwarded since the last step."""
        self._record = record
        self._is_backward_pending = is_backward_pending
        self._guard = Guard("torch.datasets")
        self._fed: dict[int, Fed] = {}
        self._generation = -1
        self._stretch: Stretch | None = None

    # --- what a loader is for ---------------------------------------------------------------------------------------

    def switched(self, feeding: Pass | None) -> None:
        """Another pass than before has given the program a batch. Without gradients that is to validate."""
        record = self._record
        if feeding is not None and not (self._guard.closed or record.is_suppressed() or record.covers("data")):
            with self._guard:
                self._switched(feeding)

    def trains(self, feeding: Pass | None) -> None:
        """A step was taken with a batch of this pass."""
        if feeding is None or feeding.loader is None or self._guard.closed or self._record.is_suppressed():
            return
        with self._guard:
            fed = self._of(feeding.loader)
            if fed is not None and "train" not in fed.roles:
                self._tell(fed, feeding.loader, is_training=True)

    def length(self, loader: Any) -> int | None:
        """Of the data set of this loader, where that can be told without its code."""
        with self._guard:
            fed = self._of(loader)
            if fed is not None:
                fed.described = fed.described or self._described(loader)
                return fed.described.length
        return None

    def finish(self) -> None:
        with self._guard:
            self._look_back()

    def _switched(self, feeding: Pass) -> None:
        self._look_back()
        step = self._record.step
        fed = self._of(feeding.loader) if step >= 0 else None
        if fed is None:
            return
        if fed.passing is not feeding:
            fed.passing, fed.began_at = feeding, step
        if not torch.is_grad_enabled():
            self._tell(fed, feeding.loader, is_training=False)
        elif step > fed.began_at and "train" not in fed.roles:
            # Between two of its batches a step was taken, with another loader's batch coming last: both feed the training.
            self._tell(fed, feeding.loader, is_training=True)
        elif not fed.roles:
            # What it is for shows at the end of the pass, when the data set may be gone.
            fed.described = fed.described or self._described(feeding.loader)
            self._stretch = Stretch(fed, feeding, step, feeding.fetched - 1)

    def _look_back(self) -> None:
        """Several batches with neither a step nor a backward pass, in a training that has begun, were to validate, too."""
        stretch, self._stretch = self._stretch, None
        if stretch is None or self._generation != self._record.generation:
            return
        fed, feeding, step, fetched = stretch
        if fed.roles or fed.described is None or self._record.step != step or self._is_backward_pending():
            return
        if feeding.fetched - fetched >= _SEVERAL:
            self._told(fed, _evaluation(fed.described))

    def _of(self, loader: Any) -> Fed | None:
        if self._generation != self._record.generation:
            self._generation = self._record.generation
            self._fed.clear()
            self._stretch = None
        dataset = looking.attribute(loader, "dataset", looking.MISSING)
        if dataset is looking.MISSING:
            return None
        known = self._fed.get(id(dataset))
        if known is not None and (known.reference is None or known.reference() is dataset):
            return known
        if len(self._fed) >= _MOST_KNOWN:
            self._fed.clear()
        try:
            fed = Fed(weakref.ref(dataset))
        except TypeError:  # a list, say
            fed = Fed(None)
        self._fed[id(dataset)] = fed
        return fed

    def _tell(self, fed: Fed, loader: Any, *, is_training: bool) -> None:
        if fed.described is None:
            fed.described = self._described(loader)
        self._told(fed, "train" if is_training else _evaluation(fed.described))

    def _told(self, fed: Fed, role: str) -> None:
        if role not in fed.roles and fed.described is not None:
            fed.roles.add(role)
            self._record.dataset(fed.described, role=role)

    def _described(self, loader: Any) -> Description:
        dataset = looking.attribute(loader, "dataset")
        described = self._record.describers.describe(dataset)
        is_sized = not issubclass(type(dataset), data.IterableDataset) and hasattr(type(dataset), "__len__")
        if described.length is None and is_sized:
            name = type(dataset).__name__
            self._record.note("data", f"the length of {name} is not recorded: its __len__ would have to be called")
        return described

    # --- what a data set is -----------------------------------------------------------------------------------------

    def describe(self, thing: Any) -> Description | None:
        """None for what is not PyTorch's."""
        return self._describe(thing, 0)

    def _describe(self, thing: Any, depth: int) -> Description | None:
        if depth > _MOST_DEPTH:
            return Description(type(thing).__name__, "torch", missing="data sets in data sets, too deep to look into")
        if issubclass(type(thing), torch.Tensor):
            return _tensor(thing)
        if issubclass(type(thing), data.DataLoader):
            return self._inner(looking.attribute(thing, "dataset"), depth)
        if not issubclass(type(thing), data.Dataset):
            return self._list(thing)
        if _is(thing, data.Subset):
            return self._subset(thing, depth)
        if _is(thing, data.ConcatDataset, data.ChainDataset, data.StackDataset):
            return self._several(thing, depth)
        if _is(thing, data.TensorDataset):
            return self._tensors(thing)
        if (urls := _urls(thing)) is not None:
            return self._shards(thing, urls)
        found = self._record.describers.of_object(thing, "torch")
        if issubclass(type(thing), data.IterableDataset):
            found.length = None
        return found

    def _inner(self, thing: Any, depth: int) -> Description:
        """Of a data set in another one, which may be of another framework."""
        if issubclass(type(thing), (data.Dataset, torch.Tensor, list, tuple)):
            found = self._describe(thing, depth + 1)
            if found is not None:
                return found
        return self._record.describers.describe(thing)

    def _list(self, thing: Any) -> Description | None:
        """Items in memory, which may be anything: they are counted, not looked at."""
        if type(thing) not in (list, tuple):
            return None
        missing = "its items are not looked at"
        return Description("list", "object", looking.class_name(thing), len(thing), missing=missing)

    def _subset(self, thing: Any, depth: int) -> Description:
        found = self._inner(looking.attribute(thing, "dataset"), depth)
        indices = looking.attribute(thing, "indices")
        of_all, found.length = found.length, looking.length(indices)
        found.details = {**found.details, "subset_of": of_all}
        picked = _indices(indices)
        if picked is None:
            found.parts, found.otherwise = [], []
            found.missing = found.missing or "its indices are not looked at"
        elif found.parts:
            found.parts = [*found.parts, picked]
            found.otherwise = [*found.otherwise, picked] if found.otherwise else []
            found.details["indices"] = picked.value[:16]
        return found

    def _several(self, thing: Any, depth: int) -> Description:
        inside = looking.attribute(thing, "datasets", ())
        if type(inside) is dict:
            inside = list(inside.values())
        found = Description(type(thing).__name__, "torch", looking.class_name(thing))
        if type(inside) not in (list, tuple) or len(inside) > _MOST_PARTS:
            found.missing = f"more than {_MOST_PARTS} data sets in one, or none that are known yet"
            return found
        parts = [self._inner(part, depth) for part in inside]
        found.parts, found.missing = combined(parts)
        found.details = {
            "parts": [
                {"name": part.name, "length": part.length, "root": part.root, "split": part.split} for part in parts
            ]
        }
        lengths = [part.length for part in parts]
        if issubclass(type(thing), data.StackDataset):
            found.length = lengths[0] if lengths else None
        elif not issubclass(type(thing), data.IterableDataset):
            found.length = (
                sum(known) if len(known := [one for one in lengths if one is not None]) == len(parts) else None
            )
        splits = {part.split for part in parts}
        found.split = splits.pop() if len(splits) == 1 else None
        return found

    def _tensors(self, thing: Any) -> Description:
        tensors = looking.attribute(thing, "tensors", ())
        found = Description(type(thing).__name__, "torch", looking.class_name(thing))
        if (
            type(tensors) is not tuple
            or len(tensors) > _MOST_PARTS
            or not all(isinstance(one, torch.Tensor) for one in tensors)
        ):
            found.missing = "its tensors are not looked at"
            return found
        parts = [_tensor(one) for one in tensors]
        found.length = parts[0].length if parts else None
        found.schema = [part.schema for part in parts]
        found.parts, found.missing = combined(parts)
        return found

    def _shards(self, thing: Any, urls: list[str]) -> Description:
        """Of WebDataset's kind."""
        found = Description(type(thing).__name__, "urls", looking.class_name(thing), split=split_of(thing))
        found.details = {"urls": [self._record.redactor.text(url) for url in urls[:_MOST_PARTS]], "shards": len(urls)}
        # Without what opens them: a signature in an address is another one tomorrow.
        plain = [self._record.redactor.text(url).partition("?")[0].encode() for url in urls]
        found.parts = [Fingerprint(digest(*plain), "urls")]
        local = [of_path(url.removeprefix("file:")) for url in urls[:_MOST_URLS]]
        if len(urls) <= _MOST_URLS and all(one.kind == "file" for one in local):
            found.parts, found.otherwise = [part for one in local for part in one.parts], found.parts
        return found


def _is(thing: Any, *kinds: type) -> bool:
    """One of these kinds, and not one that has made its own of it: what it gives could be something else."""
    return any(
        issubclass(type(thing), kind)
        and all(getattr(type(thing), name, None) is getattr(kind, name, None) for name in _GIVING)
        for kind in kinds
    )


def _evaluation(described: Description) -> str:
    return "test" if described.split is not None and described.split.lower() in _TEST else "validation"


def _urls(thing: Any) -> list[str] | None:
    places = [thing]
    pipeline = looking.attributes(thing).get("pipeline")
    if type(pipeline) is list:
        places += pipeline[:_MOST_PARTS]
    for place in places:
        urls = looking.attributes(place).get("urls")
        if type(urls) is str:
            return [urls]
        if type(urls) in (list, tuple) and urls and all(type(url) is str for url in urls):
            return list(urls)
    return None


def _indices(indices: Any) -> Fingerprint | None:
    """Of all of them, or of some at fixed places where there are many."""
    if issubclass(type(indices), torch.Tensor):
        part = _tensor(indices)
        print_ = next((one for one in part.parts if isinstance(one, Fingerprint)), None)
        return None if print_ is None else print_._replace(covers=SAMPLED_INDICES)
    if type(indices) is range:
        return Fingerprint(digest(repr(indices).encode()), INDICES)
    if type(indices) not in (list, tuple):
        return None
    is_whole = len(indices) <= _WHOLE_INDICES
    chosen = indices if is_whole else [indices[at] for at in _places(len(indices), _SAMPLED_INDICES)]
    if not set(map(type, chosen)) <= {int}:
        return None
    try:
        numbers = array("q", chosen)
    except OverflowError:
        return None
    return Fingerprint(digest(str(len(indices)).encode(), numbers.tobytes()), INDICES if is_whole else SAMPLED_INDICES)


def _places(count: int, most: int) -> list[int]:
    """At most so many places among so many, the first and the last included, evenly spread."""
    if count <= most:
        return list(range(count))
    return [number * (count - 1) // (most - 1) for number in range(most)]


def _tensor(tensor: torch.Tensor) -> Description:
    found = Description(type(tensor).__name__, "array", looking.class_name(tensor))
    # The class's own: a subclass of the program's may compute them.
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter):
        found.missing = f"a {type(tensor).__name__} is not looked into"
        return found
    shape, dtype = list(tensor.shape), str(tensor.dtype).removeprefix("torch.")
    found.schema = {"shape": shape, "dtype": dtype}
    found.length = shape[0] if shape else None
    if not tensor.is_cpu:
        found.missing = f"it is on {tensor.device.type}, and reading it would wait"
        return found
    if tensor.layout is not torch.strided or tensor.is_quantized:
        found.missing = "only plain tensors are looked into"
        return found
    told = f"{dtype} {shape}".encode()
    found.parts = [Fingerprint(digest(told, _sample(tensor)), SAMPLED)]
    return found


def _sample(tensor: torch.Tensor) -> bytes:
    """The bytes of the values at fixed places."""
    if tensor.numel() == 0:
        return b""
    with torch.no_grad():
        plain = tensor.detach()
        shape = plain.shape if plain.dim() > 0 else (1,)
        rows = _places(shape[0], _ROWS)
        width = plain.numel() // shape[0]
        columns = _places(width, _COLUMNS)
        places = [row * width + column for row in rows for column in columns]
        # By its strides: to lay a tensor out anew would copy all of it.
        where = []
        for size in reversed(shape):
            where.append(torch.tensor([place % size for place in places], device="cpu"))
            places = [place // size for place in places]
        values = plain.reshape(1)[where[0]] if plain.dim() == 0 else plain[tuple(reversed(where))]
        return bytes(values.resolve_conj().resolve_neg().contiguous().view(torch.uint8).tolist())
