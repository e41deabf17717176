"""What ``fit`` and ``evaluate`` are fed with: arrays, data sets of whatever library, generators. Nothing is iterated, and no code
of the program is called.
"""

from __future__ import annotations

import inspect
import math
import sys
import types
import weakref
from typing import Any

from looptap import looking
from looptap.describing import Description, combined
from looptap.fingerprints import Fingerprint, digest
from looptap.guard import Guard
from looptap.integration import Capture
from looptap.patching import Call, Patcher
from looptap.recorder import Recorder
from looptap_integrations.keras.sources import watch_sources

CAPTURES = (
    Capture(
        "data sets of keras.datasets (mnist, …), by name and split, wherever they are fed to",
        "load_data, and afterwards the content of its arrays",
        "each call",
    ),
    Capture(
        "data that trains, validates and tests: arrays by shape, type and sampled content; tf.data, DataLoader, PyDataset",
        "the arguments of fit and evaluate",
        "each call, told once a run",
        "nothing is iterated; files are listed in the background",
    ),
)
NOT_CAPTURED = (
    "what a generator gives: it is told by its name",
    "what identifies the data of train_on_batch: of each model the shapes and types of the first batch are told",
)

_CALLS = ("fit", "evaluate", "train_on_batch")
_PARTS = ("x", "y", "sample_weight")
_MOST_LEAVES = 64
_SPLIT = "validation_split"


class Datasets:
    def __init__(self, record: Recorder) -> None:
        self._record = record
        self._guard = Guard("keras.datasets")
        self._generation = -1
        #: Models that were given a batch in this run.
        self._told: weakref.WeakSet[Any] = weakref.WeakSet()

    def install(self, patch: Patcher, package: Any, trainer: Any) -> None:
        """``package``: ``keras`` or ``tf_keras``. ``trainer``: the class that has ``fit`` and ``evaluate``."""
        self._signatures = {name: inspect.signature(getattr(trainer, name)) for name in _CALLS}
        patch.hook(self._record.describers.register, self.describe)
        watch_sources(patch, package, self._record.describers)

    # --- what Keras is fed with ---------------------------------------------------------------------------------------

    def trained(self, call: Call) -> None:
        """The training of this call of ``fit`` has begun."""
        if not self._guard.closed and not self._record.is_suppressed():
            with self._guard:
                self._trained(self._arguments("fit", call))

    def evaluated(self, call: Call, role: str) -> None:
        """This call of ``evaluate`` begins; its data is ``train``, ``validation`` or ``test`` by its name."""
        if not self._guard.closed and not self._record.is_suppressed():
            with self._guard:
                self._tell(self._together(self._arguments("evaluate", call)), role)

    def given(self, call: Call) -> None:
        """A call of ``train_on_batch`` is over. Of each model the first one tells."""
        generation, told = self._record.generation, self._told
        if self._generation != generation:
            self._generation = generation
            told.clear()
        if call.instance not in told and not self._guard.closed:
            told.add(call.instance)
            with self._guard:
                self._tell(_batchwise(self._together(self._arguments("train_on_batch", call))), "train")

    def _trained(self, given: dict[str, Any]) -> None:
        described = self._together(given)
        held_out, share = given.get("validation_data"), given.get(_SPLIT)
        if described is not None and isinstance(share, float) and share and held_out is None:
            self._tell(_share(described, share, is_rest=False), "train")
            self._tell(_share(described, share, is_rest=True), "validation")
            return
        self._tell(described, "train")
        if held_out is not None:
            parts = held_out if isinstance(held_out, tuple) else (held_out,)
            self._tell(self._together(dict(zip(_PARTS, parts, strict=False))), "validation")

    def _tell(self, described: Description | None, role: str) -> None:
        if described is not None:
            self._record.dataset(described, role=role)
            size = described.details.get("batch_size")
            if role == "train" and isinstance(size, int):
                self._record.param("data.batch_size", size, "keras")

    def _arguments(self, method: str, call: Call) -> dict[str, Any]:
        """By name; none for a call that Keras will refuse."""
        try:
            return self._signatures[method].bind(*call.args, **call.kwargs).arguments
        except TypeError:
            return {}

    def _together(self, given: dict[str, Any]) -> Description | None:
        """Of the arrays that belong together, or of the one data set."""
        leaves = {
            name: leaf for part in _PARTS if given.get(part) is not None for name, leaf in _leaves(part, given[part])
        }
        if not leaves:
            return None
        described = {name: self._record.describers.describe(leaf) for name, leaf in leaves.items()}
        first = next(iter(described.values()))
        if len(described) == 1:
            found = first
        else:
            found = Description(first.name, first.kind, first.class_name, first.length)
            found.schema = {name: one.schema for name, one in described.items()}
            found.parts, found.missing = combined(list(described.values()))
        known = self._record.describers.sources.of_content(found.parts)
        if known is not None:
            found.called(known)
        return found

    # --- what is Keras' own, or nobody's ------------------------------------------------------------------------------

    def describe(self, thing: Any) -> Description | None:
        """Of Keras' own data sets, of generators, and of arrays of JAX."""
        if isinstance(thing, types.GeneratorType):
            missing = "what a generator gives is not known before it is read"
            return Description(thing.__qualname__, "generator", "generator", missing=missing)
        if _is_jax(thing):
            return self._jax(thing)
        if any(kind.__name__ == "PyDataset" and kind.__module__.startswith("keras.") for kind in type(thing).__mro__):
            return self._py_dataset(thing)
        return None

    def _py_dataset(self, thing: Any) -> Description:
        """Its length is that of a pass, in batches."""
        found = self._record.describers.of_object(thing, "keras")
        settings = {
            "batches": found.length,
            "batch_size": looking.attribute(thing, "batch_size"),
            "workers": looking.attribute(thing, "_workers"),
            "use_multiprocessing": looking.attribute(thing, "_use_multiprocessing"),
            "max_queue_size": looking.attribute(thing, "_max_queue_size"),
        }
        found.length = None
        found.details = {key: value for key, value in settings.items() if type(value) in (int, bool)}
        return found

    def _jax(self, array: Any) -> Description:
        shape, dtype = list(array.shape), str(array.dtype)
        found = Description("Array", "array", "jax.Array", shape[0] if shape else None)
        found.schema = {"shape": shape, "dtype": dtype}
        if {device.platform for device in array.devices()} != {"cpu"} or not array.is_ready():
            found.missing = "only arrays in the memory of the host are looked into"
            return found
        inside = self._record.describers.describe(sys.modules["numpy"].from_dlpack(array))
        found.parts, found.missing = inside.parts, inside.missing
        return found


def _leaves(name: str, thing: Any) -> list[tuple[str, Any]]:
    """The arrays in dicts, lists and tuples, by where they are: ``x.image``."""
    if type(thing) is dict:
        inner = [(f"{name}.{key}", value) for key, value in thing.items()]
    elif type(thing) in (list, tuple) and not all(type(value) in (int, float, str, bool) for value in thing):
        inner = [(f"{name}.{place}", value) for place, value in enumerate(thing)]
    else:
        return [(name, thing)]
    return [leaf for key, value in inner[:_MOST_LEAVES] for leaf in _leaves(key, value)][:_MOST_LEAVES]


def _batchwise(described: Description | None) -> Description | None:
    """Of one batch: its arrays without how many items are in it."""
    if described is None:
        return None
    missing = "it is given batch by batch"
    found = Description(described.name, "batches", described.class_name, split=described.split, missing=missing)
    found.schema = described.schema
    parts = described.schema.values() if isinstance(described.schema, dict) else ()
    if parts and all(isinstance(part, dict) and part.get("shape") for part in parts):
        found.schema = {name: {**part, "shape": [None, *part["shape"][1:]]} for name, part in described.schema.items()}
    return found


def _share(described: Description, share: float, *, is_rest: bool) -> Description:
    """Of what is trained on, the first items, or the rest that Keras validates on."""
    role, length = "validation" if is_rest else "train", described.length
    found = Description(described.name, described.kind, described.class_name, split=described.split)
    if length is not None:
        first = math.floor(length * (1.0 - share))
        found.length = length - first if is_rest else first
    found.schema, found.missing = described.schema, described.missing
    found.details = {**described.details, _SPLIT: share, "split_of": length}
    if described.parts:
        found.parts = [*described.parts, Fingerprint(digest(role.encode(), repr(share).encode()), _SPLIT)]
    return found


def _is_jax(thing: Any) -> bool:
    return type(thing).__name__ == "ArrayImpl" and type(thing).__module__.partition(".")[0] in ("jaxlib", "jax")
