"""Numbers out of TensorFlow graphs: a ring of rows that a graph writes into beside the user's operations, and that we read.

A ring is two bare resource variables, made outside of whatever graph is being built. Nothing of the user's knows of them: they are
no ``tf.Variable``, so that no function lists them among its variables, no tape watches them and no checkpoint has them. What
:meth:`Ring.write` adds to a graph are operations that XLA compiles too, and that TensorFlow's automatic control dependencies
run in the order of the program: in branches, in loops, in functions called by functions, as often as the program comes by.

Numbers are moved, not converted, so that no unit that flushes or rounds comes near them: what is read is what was computed.
A user may save what holds a ring: the SavedModel then has a small variable of its own in the place of it, and loads anywhere.
"""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import numpy
import tensorflow as tf
from tensorflow.python.ops import resource_variable_ops

from looptap.frames import local_variables, outward

#: 128 KiB; how much it is makes no difference to a step.
_CAPACITY = 8192
_ops = tf.raw_ops


class Entry(NamedTuple):
    #: What the writer gave with the value.
    mark: int
    #: float16, bfloat16 and float32 as float64, exactly.
    value: float


class Ring:
    """Keeps the last ``capacity`` values. Several graphs may write into one; :meth:`entries` has them in the order of running.

    Two graphs that run at the same time in two threads want a ring each.
    """

    def __init__(self, capacity: int = _CAPACITY) -> None:
        self._capacity = capacity
        #: How many rows were written.
        self._count = variable("looptap_count", [], tf.int64)
        #: Of each row its number (as float32: what it is rounded to, no other row in the ring is), the mark and the width of
        #: its value, and that, in one half or in both.
        self._rows = variable(f"looptap_rows_{capacity}", [capacity, 4], tf.float32, initial=-1)
        #: How many were read, or lost.
        self._read = 0
        #: Values that were overwritten before they were read, so far.
        self.lost = 0

    @property
    def device(self) -> str:
        """Where it lies: XLA compiles for no other device what writes into it."""
        return str(self._rows.device)

    def write(self, value: Any, mark: int = 0) -> None:
        """Keep this number each time the program comes by here: at once, or when the graph that is being built runs.

        ``value`` is a real number: a tensor of one element, by its static shape, or what becomes such. Raises TypeError or
        ValueError for anything else, before anything is written. ``mark`` is an integer from 0 to 8 million.
        """
        value = _one_number(value)
        number = _ops.ReadVariableOp(resource=self._count, dtype=tf.int64)
        head = tf.cast(number, tf.float32)
        if value.dtype == tf.float64:
            row = tf.concat([tf.stack([head, 2.0 * mark + 1.0]), tf.bitcast(value, tf.float32)], axis=0)
        else:
            row = tf.stack([head, 2.0 * mark, value, 0.0])
        written = _ops.ResourceScatterUpdate(resource=self._rows, indices=number % self._capacity, updates=row)
        with tf.control_dependencies([written]):
            _ops.AssignAddVariableOp(resource=self._count, value=tf.ones([], tf.int64))

    def entries(self) -> list[Entry]:
        """What was written since it was last asked for, in order. On a device, waits until that has computed what it was given."""
        with tf.init_scope():
            count = int(_ops.ReadVariableOp(resource=self._count, dtype=tf.int64))
            if count == self._read:
                return []
            first = max(self._read, count - self._capacity)
            numbers = numpy.arange(first, count)
            slots = tf.constant(numbers % self._capacity)
            rows = _ops.ResourceGather(resource=self._rows, indices=slots, dtype=tf.float32).numpy()
        heads = numbers.astype(numpy.float32)
        # The ring went on while we looked: a row may have been overwritten, or may not be there yet.
        is_late = rows[:, 0] < heads
        if is_late.any():
            rows, heads = rows[: is_late.argmax()], heads[: is_late.argmax()]
        end = first + len(rows)
        rows = rows[rows[:, 0] == heads]
        self.lost += end - self._read - len(rows)
        self._read = end
        kinds = rows[:, 1].astype(int)
        doubles = numpy.ascontiguousarray(rows[:, 2:]).view(numpy.float64)[:, 0]
        values = numpy.where(kinds & 1, doubles, rows[:, 2].astype(numpy.float64))
        return [Entry(mark, value) for mark, value in zip((kinds >> 1).tolist(), values.tolist(), strict=True)]

    def read(self) -> list[float]:
        """The values of :meth:`entries`."""
        return [entry.value for entry in self.entries()]


def has_ring(concrete: Any) -> bool:
    """Whether this ConcreteFunction writes into any ring."""
    return any(isinstance(getattr(tensor, "_cached_variable", None), _InSaved) for tensor in concrete.captured_inputs)


class _InSaved:
    """What stands for a variable of a ring in a function that the user saves.

    TensorFlow (``wrap_cached_variables``) asks whatever a function has captured for ``_cached_variable``, calls that, and takes
    what its ``read_value()`` gives in the place of what was captured.
    """

    def __init__(self, name: str, shape: list[int], dtype: Any) -> None:
        self._name = name
        self._shape = shape
        self._dtype = dtype

    def __call__(self) -> _InSaved:
        return self

    def read_value(self) -> tf.Tensor:
        view = _under_export()
        if view is not None:
            return self._saved_with(view).handle
        zeros = tf.zeros(self._shape, self._dtype)
        handle = resource_variable_ops.eager_safe_variable_handle(zeros, self._shape, None, self._name, True)
        with tf.control_dependencies([_ops.AssignVariableOp(resource=handle, value=zeros)]):
            return tf.identity(handle)

    def _saved_with(self, view: Any) -> Any:
        """The variable of this name among what is saved, one for all functions there: XLA makes none inside of them."""
        list(view.list_children(view.root))
        children = view._children_cache[view.root]
        if self._name not in children:
            with tf.init_scope():
                # Not tf.Variable, of which a strategy makes one for each replica.
                children[self._name] = resource_variable_ops.ResourceVariable(
                    tf.zeros(self._shape, self._dtype), trainable=False, name=self._name
                )
        return children[self._name]


def _under_export() -> Any:
    """TensorFlow's view of what is being saved, where that is how we were called."""
    for frame in outward(sys._getframe(1)):
        for value in local_variables(frame).values():
            if type(value).__name__ == "_AugmentedGraphView":
                return value
    return None


def variable(name: str, shape: list[int], dtype: Any, initial: int = 0) -> tf.Tensor:
    """The handle of a new variable; it lives as long as anybody has the handle, and a graph that captured it does."""
    with tf.init_scope():
        values = tf.fill(shape, tf.cast(initial, dtype))
        handle = resource_variable_ops.eager_safe_variable_handle(values, shape, None, name, False)
        _ops.AssignVariableOp(resource=handle, value=values)
    handle._cached_variable = _InSaved(name, shape, dtype)
    return handle


def _one_number(value: Any) -> tf.Tensor:
    """As float32 or float64, whichever has it exactly."""
    value = tf.stop_gradient(tf.convert_to_tensor(value))
    if value.shape.rank != 0:
        if value.shape.num_elements() != 1:
            raise ValueError(f"not one number, by its shape: {value.shape}")
        value = tf.reshape(value, [])
    if value.dtype in (tf.float32, tf.float64):
        return value
    if value.dtype.is_floating:
        return tf.cast(value, tf.float32)
    if value.dtype.is_integer or value.dtype.is_bool:
        return tf.cast(value, tf.float64)
    raise TypeError(f"no real number: {value.dtype.name}")
