"""Functions that train and were traced before we watched: their graphs have nothing of ours in them, and never will."""

from __future__ import annotations

import gc
from typing import Any

import tensorflow as tf
from tensorflow.python.eager import context

from looptap.recorder import Recorder
from looptap_integrations.rings import has_ring

#: What updates a variable by a gradient, in optimizers and by hand.
_UPDATES = ("ResourceApply", "ResourceSparseApply", "AssignSubVariableOp")


def note_functions(record: Recorder) -> None:
    """Say which there are. Where anything has run before, looks through all objects of the process, which takes about 0.1 s."""
    if context.context_safe() is None:
        return
    kind = type(tf.function(note_functions))
    functions = [thing for thing in gc.get_objects() if type(thing) is kind]
    names = sorted({name for function in functions if (name := _of_training(function)) is not None})
    if names:
        record.note(
            "tensorflow",
            f"traced before autolog(), so that its losses are not seen: {', '.join(names)}. Call autolog() before the first step",
        )


def _of_training(function: Any) -> str | None:
    """The name of a function that has been traced and trains, and in which nothing of ours is."""
    if function.experimental_get_tracing_count() == 0:
        return None
    original = function.python_function
    if str(getattr(original, "__module__", "")).partition(".")[0] in ("keras", "tf_keras"):
        return None  # what Keras traces in fit() is seen in other ways
    for concrete in function._list_all_concrete_functions():
        if not has_ring(concrete) and any(name.startswith(_UPDATES) for name in _operations(concrete)):
            return str(getattr(original, "__qualname__", "a function")).rpartition("<locals>.")[2]
    return None


def _operations(concrete: Any) -> set[str]:
    """Types of its operations, and of the functions that it calls."""
    definition = concrete.graph.as_graph_def()
    inner = (node for function in definition.library.function for node in function.node_def)
    return {node.op for node in (*definition.node, *inner)}
