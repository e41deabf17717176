"""Data sets and tensors of TensorFlow: what they are made of, without iterating them."""

from __future__ import annotations

import os
from typing import Any

import tensorflow

from looptap import looking
from looptap.describing import Description
from looptap.fingerprints import SAMPLED, Fingerprint, digest
from looptap.integration import Capture
from looptap.patching import Patcher
from looptap.recorder import Recorder
from looptap_integrations.tensorflow.paths import add_files
from looptap_integrations.tensorflow.pipelines import Pipeline, cardinality, read
from looptap_integrations.tensorflow.tensors import array_of, texts_of

CAPTURES = (
    Capture(
        "tf.data pipelines: element spec, cardinality, operations, batch size, options, files; what identifies their sources",
        "the data that fit, evaluate or a loop is given; log_dataset",
        "once a run",
        "nothing is iterated; files are listed in the background",
    ),
    Capture("tensors: shape, type, values at a few places", "the same", "once a run"),
    Capture(
        "whether a data set of a loop of the program's own trains, validates or tests",
        "Dataset.__iter__, its next batch, the steps in between",
        "each batch",
        "looked at once for each data set, 100 of them at most",
    ),
)
NOT_CAPTURED = (
    "data sets that a tf.function goes over itself, and arrays that a loop of the program's own takes batches from",
    "what a generator in a pipeline gives, and files whose names are made while it runs",
    "the content of tensors on a device: reading it would wait",
)

OPERATIONS = "operations"
_CARDINALITIES = {-1: "infinite", -2: "unknown"}
_MOST_LEAVES = 100
_MOST_SORTED_BYTES = 2**23
#: Texts that are looked at, of many.
_PLACES = 255


class Datasets:
    def __init__(self, record: Recorder) -> None:
        self._record = record

    def install(self, patch: Patcher) -> None:
        patch.hook(self._record.describers.register, self.describe)

    def describe(self, thing: Any) -> Description | None:
        """None for what is not TensorFlow's."""
        # Of tf.distribute: the same data, of which each replica gets its part.
        inner = looking.attribute(thing, "_original_dataset")
        if isinstance(inner, tensorflow.data.Dataset):
            thing = inner
        if isinstance(thing, tensorflow.data.Dataset):
            return self._pipeline(thing)
        return self._tensor(thing) if issubclass(type(thing), (tensorflow.Tensor, tensorflow.Variable)) else None

    # --- private ------------------------------------------------------------------------------------------------------

    def _pipeline(self, dataset: Any) -> Description:
        pipeline = read(dataset, self._record.describers)
        found = Description(_name(pipeline), "tf.data", "tensorflow.data.Dataset", pipeline.length)
        found.schema = schema(dataset.element_spec)
        count = cardinality(dataset)
        found.details = {
            "cardinality": _CARDINALITIES.get(count, count) if count is not None else None,
            "batch_size": pipeline.batch_size,
            "operations": pipeline.operations,
            "options": _options(dataset.options()) if tensorflow.executing_eagerly() else None,
        }
        found.details = {key: value for key, value in found.details.items() if value not in (None, {}, [])}
        maps = [text for text in _flat(pipeline.operations) if text.startswith(("map(", "flat_map(", "interleave("))]
        found.transform = ", ".join(maps) or None
        self._identify(found, pipeline)
        return found

    def _identify(self, found: Description, pipeline: Pipeline) -> None:
        for source in pipeline.known:
            found.parts += source.parts
            found.details |= source.details
        splits = {source.split for source in pipeline.known}
        found.split = splits.pop() if len(splits) == 1 else None
        if pipeline.paths:
            add_files(found, pipeline.paths)
        inside = [self._content(tensor, pipeline.paths) for tensor in pipeline.tensors]
        reasons = [one.missing for one in inside if one.missing]
        for one in inside:
            found.parts += one.parts
        if (known := self._record.describers.sources.of_content(found.parts)) is not None:
            found.called(known)
        found.missing = pipeline.missing or next(iter(reasons), None)
        if found.missing is None and not found.parts:
            found.missing = "nothing that identifies its content is known"
        if found.missing is not None:
            found.parts = []
        elif pipeline.selections:
            found.parts.append(Fingerprint(digest(*(text.encode() for text in pipeline.selections)), OPERATIONS))

    def _content(self, tensor: Any, paths: list[str]) -> Description:
        """Labels of files are taken in the order of the paths: Keras shuffles both of them, each time anew."""
        array = array_of(tensor) if paths and tensor.shape[0] == len(paths) else None
        if array is None or array.nbytes > _MOST_SORTED_BYTES:
            return self._tensor(tensor)
        return self._record.describers.describe(array[sorted(range(len(paths)), key=paths.__getitem__)])

    def _tensor(self, tensor: Any) -> Description:
        kind = "Variable" if issubclass(type(tensor), tensorflow.Variable) else "Tensor"
        found = Description(kind, "array", f"tensorflow.{kind}")
        found.schema = {"shape": _shape(tensor.shape), "dtype": tensor.dtype.name}
        found.length = tensor.shape[0] if tensor.shape.rank else None
        if (texts := texts_of(tensor)) is not None:
            sample = [texts[place * (len(texts) - 1) // _PLACES] for place in range(_PLACES + 1)]
            told = [str(len(texts)), *sample]
            found.parts = [Fingerprint(digest(*(text.encode("utf-8", "surrogateescape") for text in told)), SAMPLED)]
            return found
        array = array_of(tensor)
        if array is None:
            found.missing = "only tensors in the memory of the host are looked into"
            return found
        inside = self._record.describers.describe(array)
        found.parts, found.missing = inside.parts, inside.missing
        return found


def schema(spec: Any) -> Any:
    """The element spec as plain data: for each tensor its shape and type, in the structure of the elements."""
    if isinstance(spec, dict):
        return {str(key): schema(value) for key, value in list(spec.items())[:_MOST_LEAVES]}
    if hasattr(spec, "_fields"):
        return {key: schema(getattr(spec, key)) for key in spec._fields}
    if isinstance(spec, (tuple, list)):
        return [schema(value) for value in spec[:_MOST_LEAVES]]
    shape, dtype = getattr(spec, "shape", None), getattr(spec, "dtype", None)
    if dtype is None:
        return type(spec).__name__
    told = {"shape": _shape(shape), "dtype": dtype.name}
    return (
        told if isinstance(spec, tensorflow.TensorSpec) else {"kind": type(spec).__name__.removesuffix("Spec"), **told}
    )


def _shape(shape: Any) -> list[int | None] | None:
    return None if shape is None or shape.rank is None else list(shape)


def _name(pipeline: Pipeline) -> str:
    if pipeline.known:
        return pipeline.known[0].name
    names = list(dict.fromkeys(pipeline.names))
    if "files" in names:
        return os.path.basename(os.path.commonpath([os.path.abspath(path) for path in pipeline.paths])) or "files"
    return " + ".join(names) or "tf.data"


def _options(options: Any) -> dict[str, Any]:
    """Those that were set."""
    told: dict[str, Any] = {}
    for key, value in (looking.attribute(options, "_options") or {}).items():
        if (inner := looking.attribute(value, "_options")) is not None:
            told |= {f"{key}.{name}": setting for name, setting in _options(value).items()} if inner else {}
        elif type(value) in (bool, int, float, str):
            told[key] = value
    return told


def _flat(operations: list[Any]) -> list[str]:
    return [text for item in operations for text in (_flat(item) if isinstance(item, list) else [item])]
