"""What a ``tf.data`` pipeline is made of: its sources and what is done with them, read backwards from its end.

Nothing is iterated and nothing computed: a pipeline is a chain of objects that keep what they were made with. What is no constant
in the memory of the host is left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import tensorflow

from looptap import looking
from looptap.describing import Describers
from looptap.fingerprints import digest
from looptap.sources import Source
from looptap_integrations.tensorflow.paths import are_paths
from looptap_integrations.tensorflow.tensors import constant, texts_of

_MOST_NODES = 256
_MOST_DEPTH = 128
#: By class: how it is called, and what it was given, beside functions. A parallel one is the same as one that is not.
_OPERATIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "_BatchDataset": ("batch", ("_batch_size",)),
    "_PaddedBatchDataset": ("padded_batch", ("_batch_size",)),
    "_RebatchDataset": ("rebatch", ("_batch_sizes",)),
    "_ShuffleDataset": ("shuffle", ("_buffer_size",)),
    "_RepeatDataset": ("repeat", ("_count",)),
    "_TakeDataset": ("take", ("_count",)),
    "_SkipDataset": ("skip", ("_count",)),
    "_ShardDataset": ("shard", ("_num_shards", "_index")),
    "_PrefetchDataset": ("prefetch", ("_buffer_size",)),
    "_WindowDataset": ("window", ("_size", "_shift", "_stride")),
    "_RangeDataset": ("range", ("_start", "_stop", "_step")),
    "_LoadDataset": ("load", ("_path",)),
    "_TensorSliceDataset": ("from_tensor_slices", ()),
    "_TensorDataset": ("from_tensors", ()),
    "_DirectedInterleaveDataset": ("sample_from_datasets", ()),
    "_OptionsDataset": ("with_options", ()),
    "CacheDataset": ("cache", ()),
    "ParallelInterleaveDataset": ("interleave", ()),
}
_FRAMEWORKS = ("tensorflow.", "keras.", "tf_keras.")
#: What leaves some of the items out: another choice of the same data is other data.
_SELECTING = {"take", "skip", "shard", "filter", "take_while", "window", "unique", "sample_from_datasets"}
#: What changes neither the number of items, nor, put together in batches, which they are.
_KEEPING = {"batch", "padded_batch", "shuffle", "repeat", "prefetch", "with_options", "cache", "map"}
_BATCHING = {"batch", "padded_batch", "rebatch"}
_WITHOUT_END = -1


@dataclass
class Pipeline:
    #: What was done, from the sources on; of several pipelines that come together, a list for each of them.
    operations: list[Any] = field(default_factory=list)
    batch_size: int | None = None
    #: How many items, counted before they were put together in batches.
    length: int | None = None
    #: How the sources are called: names of readers or of operations.
    names: list[str] = field(default_factory=list)
    #: Sources that lie in memory: tensors, each along its first dimension.
    tensors: list[Any] = field(default_factory=list)
    #: Files that are read.
    paths: list[str] = field(default_factory=list)
    #: Of a library of data sets.
    known: list[Source] = field(default_factory=list)
    #: What was chosen of the sources.
    selections: list[str] = field(default_factory=list)
    #: Why there is more to it than was looked at.
    missing: str | None = None


def read(dataset: Any, describers: Describers) -> Pipeline:
    """Of a ``tf.data.Dataset``."""
    found = Pipeline()
    found.operations = _Reading(found, describers).walk(dataset, 0)
    found.length = _length(dataset)
    return found


class _Reading:
    def __init__(self, found: Pipeline, describers: Describers) -> None:
        self.found = found
        self.describers = describers
        self.nodes = 0

    def walk(self, node: Any, depth: int) -> list[Any]:
        """The operations up to this one."""
        self.nodes += 1
        if (source := self.describers.sources.of(node)) is not None:
            self.found.known.append(source)
            return [source.name]
        if self.nodes > _MOST_NODES or depth > _MOST_DEPTH:
            self.found.missing = f"more than {_MOST_NODES} data sets in one"
            return []
        if not is_plain(node):
            self.found.missing = f"a {type(node).__name__} is not looked into"
            return [type(node).__name__]
        name, text = operation(node)
        if name in _BATCHING and self.found.batch_size is None:
            size = constant(vars(node).get("_batch_size"))
            self.found.batch_size = size if type(size) is int else None
        if name == "from_generator":
            self.found.names.append(name)
            self.found.missing = "what a generator gives is not known before it is read"
            return [text]
        inputs = [self.walk(one, depth + 1) for one in _inputs(node)]
        if not inputs:
            self._source(node, name)
        elif "_filenames" in vars(node):  # a reader
            self.found.names[-1:] = [name]
        if name in _SELECTING:
            self.found.selections.append(_selection(node, text))
        return [*inputs[0], text] if len(inputs) == 1 else [*inputs, text]

    def _source(self, node: Any, name: str) -> None:
        found = self.found
        found.names.append(name)
        if name == "load":
            if isinstance(path := constant(vars(node).get("_path")), str):
                found.paths.append(path)
            return
        for tensor in vars(node).get("_tensors") or ():
            texts = texts_of(tensor) or []
            if are_paths(texts):
                found.paths += texts
                found.names[-1] = "files"
            elif tensor.shape.rank:
                found.tensors.append(tensor)
            # Else it is one number: where a counter begins, or what a function makes data of.


def is_plain(node: Any) -> bool:
    """Of TensorFlow's own classes, whose attributes are known."""
    return type(node).__module__.startswith("tensorflow.python.data.")


def operation(node: Any) -> tuple[str, str]:
    """How this is called, and with what it was given: ``shuffle``, ``shuffle(1000)``."""
    kind = type(node).__name__
    name, given = _OPERATIONS.get(kind) or _OPERATIONS.get(kind.replace("Parallel", "", 1)) or (_name(kind), ())
    told = [value for key in given if (value := constant(vars(node).get(key))) is not None]
    if name in ("repeat", "prefetch") and told == [-1]:
        told = [] if name == "repeat" else ["auto"]
    function = _function(node)
    module = getattr(function, "__module__", None) or ""
    if module == "tensorflow.python.data.ops.from_generator_op":
        return "from_generator", "from_generator"
    if module.startswith(_FRAMEWORKS):
        # The function of a framework that it was made in says more than the one that was made there.
        told.append(function.__qualname__.partition(".")[0].removesuffix("V2"))
    elif function is not None:
        told.append(looking.sketch(function))
    return name, f"{name}({', '.join(map(str, told))})" if told else name


def _name(kind: str) -> str:
    """``_ParallelFlatMapDataset`` → flat_map; a reader is called by its class: ``TFRecordDataset``."""
    if not kind.startswith("_"):
        return kind.removesuffix("V2").removesuffix("V1")
    plain = kind.removeprefix("_").removeprefix("Parallel").removesuffix("Dataset")
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", plain).lower()


def _function(node: Any) -> Any:
    """What the items are put through, or chosen by."""
    wrapped = vars(node).get("_map_func") or vars(node).get("_predicate")
    return None if wrapped is None else vars(wrapped).get("_func")


def _inputs(node: Any) -> list[Any]:
    inside = vars(node)
    if hasattr(inside.get("_filenames"), "_inputs"):  # of a reader, which may not own up to it
        return [inside["_filenames"]]
    # Of data sets that are mixed: beside them there is one of random numbers.
    return list(inside["_data_inputs"] if "_data_inputs" in inside else node._inputs())


def _selection(node: Any, text: str) -> str:
    """With what a function does, as far as its own code tells."""
    code = getattr(_function(node), "__code__", None)
    return text if code is None else f"{text} {digest(code.co_code, repr(code.co_names).encode())[:16]}"


def _length(dataset: Any) -> int | None:
    """Of what is put together in batches, shuffled and repeated; None where it is not known without reading."""
    node = dataset
    while is_plain(node) and operation(node)[0] in _KEEPING and len(inputs := _inputs(node)) == 1:
        node = inputs[0]
    count = cardinality(node)
    is_batched = any("batch" in operation(one)[0] for one in _below(node))
    return count if count is not None and count >= 0 and not is_batched else None


def _below(node: Any) -> list[Any]:
    found: list[Any] = []
    waiting = [node]
    while waiting and len(found) < _MOST_NODES:
        one = waiting.pop()
        if is_plain(one):
            found.append(one)
            waiting += _inputs(one)
    return found


def cardinality(dataset: Any) -> int | None:
    """How many elements it gives: -1 for no end, -2 where that is not known; None in a graph, where it is not known now."""
    return int(dataset.cardinality()) if tensorflow.executing_eagerly() else None
