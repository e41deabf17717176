"""Rows of what an evaluation that TensorFlow has compiled predicts, with their labels: written beside the program's operations.

Of each batch up to 64 rows, evenly spread; of a pass up to 128 batches, each with the same chance (Vitter 1985, algorithm R; its
numbers follow from the count of batches, so that the program's own random numbers stay what they were). As of
:mod:`looptap_integrations.rings`, nothing of the program's knows of the variables that they are kept in.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from looptap.serving.answers import MOST_ROWS
from looptap.serving.reference import MOST_BATCHES
from looptap_integrations.rings import variable

#: Of wide answers fewer batches are kept.
MOST_BYTES = 1 << 22
#: Odd factors and shifts of SplitMix64's last steps (Steele, Lea and Flood 2014), as signed numbers.
_MIXING = ((0x9E3779B97F4A7C15 - 2**64, 30), (0xBF58476D1CE4E5B9 - 2**64, 27), (0x94D049BB133111EB - 2**64, 31))
_ops = tf.raw_ops


class Column(NamedTuple):
    """What is kept of one tensor: the rows of one batch after the other, and behind them those of the last one not chosen."""

    rows: tf.Tensor
    dtype: tf.DType
    #: The type of the tensor, where numpy has it.
    told: Any


class GraphRows:
    """Of all graphs of a model whose predictions and labels have one form."""

    def __init__(self, form: Hashable, predicted: Any, labels: Any) -> None:
        """Of tensors that :func:`form_of` knows. Raises ValueError where a row is too long to be kept."""
        self.form = form
        self._structure = (predicted, labels) if labels is not None else (predicted,)
        leaves = tf.nest.flatten(self._structure)
        row_bytes = sum((leaf.shape[1] if leaf.shape.rank == 2 else 1) * _stored(leaf.dtype).size for leaf in leaves)
        self._places = min(MOST_BATCHES, MOST_BYTES // (MOST_ROWS * max(1, row_bytes)))
        if self._places == 0:
            raise ValueError(f"rows of {row_bytes} bytes are too long")
        self._columns = [self._column(leaf) for leaf in leaves]
        #: Rows of the batch at each place.
        self._taken = variable("looptap_taken", [self._places + 1], tf.int64)
        #: Batches of this pass.
        self._count = variable("looptap_batches", [], tf.int64)
        self._structure = tf.nest.map_structure(lambda leaf: None, self._structure)

    def write(self, predicted: Any, labels: Any) -> None:
        """Keep this batch, each time that the graph which is being built comes by here."""
        leaves = tf.nest.flatten((predicted, labels) if labels is not None else (predicted,))
        count = _ops.ReadVariableOp(resource=self._count, dtype=tf.int64)
        chosen = tf.minimum(_mixed(count) % (count + 1), self._places)
        place = tf.where(count < self._places, count, chosen)
        # Numbers of rows are 32-bit integers, which TensorFlow has in the memory of the host, and what follows from the count are
        # 64-bit ones, which a GPU has: the host waits for nothing. Metrics of the program may well take labels of another length.
        total = reduce(tf.minimum, [tf.shape(leaf)[0] for leaf in leaves])
        taken = tf.minimum(total, MOST_ROWS)
        numbers = tf.range(taken)
        picked = numbers * total // tf.maximum(taken, 1)
        places = place * MOST_ROWS + tf.cast(numbers, tf.int64)
        rows_there = tf.cast(taken, tf.int64)
        written = [_ops.ResourceScatterUpdate(resource=self._taken, indices=place, updates=rows_there)]
        for column, leaf in zip(self._columns, leaves, strict=True):
            rows = tf.cast(tf.gather(tf.stop_gradient(leaf), picked), column.dtype)
            written.append(_ops.ResourceScatterUpdate(resource=column.rows, indices=places, updates=rows))
        with tf.control_dependencies(written):
            _ops.AssignAddVariableOp(resource=self._count, value=tf.ones([], tf.int64))

    def begin(self) -> None:
        """What comes now is another pass. Waits for nothing."""
        with tf.init_scope():
            _ops.AssignVariableOp(resource=self._count, value=tf.zeros([], tf.int64))

    def take(self) -> tuple[int, list[tuple[Any, Any]]]:
        """How many batches the pass had, and of those that were kept predictions and labels (None without any), as arrays. It is
        over then."""
        with tf.init_scope():
            count = int(_ops.ReadVariableOp(resource=self._count, dtype=tf.int64))
            if count == 0:
                return 0, []
            taken = _ops.ReadVariableOp(resource=self._taken, dtype=tf.int64).numpy()
            columns = [
                _ops.ReadVariableOp(resource=column.rows, dtype=column.dtype).numpy().astype(column.told)
                for column in self._columns
            ]
        self.begin()
        kept = []
        for place in range(min(count, self._places)):
            first = place * MOST_ROWS
            rows = [column[first : first + taken[place]] for column in columns]
            predicted, *labels = tf.nest.pack_sequence_as(self._structure, rows)
            kept.append((predicted, labels[0] if labels else None))
        return count, kept

    def _column(self, leaf: tf.Tensor) -> Column:
        dtype = _stored(leaf.dtype)
        shape = [(self._places + 1) * MOST_ROWS, *leaf.shape[1:]]
        rows = variable(f"looptap_{'x'.join(map(str, shape))}_{dtype.name}", shape, dtype)
        told = leaf.dtype if leaf.dtype.is_integer or leaf.dtype.is_bool else dtype
        return Column(rows, dtype, np.dtype(told.as_numpy_dtype))


def form_of(values: Any) -> Hashable:
    """Equal for tensors in the same order and names whose rows have the same length and type. None where one of them is no tensor
    of rows: numbers, or vectors of one length."""
    if values is None:
        return None
    leaves = tf.nest.flatten(values)
    forms = []
    for leaf in leaves:
        if not isinstance(leaf, tf.Tensor) or _stored(leaf.dtype) is None or leaf.shape.rank not in (1, 2):
            return None
        if leaf.shape.rank == 2 and leaf.shape[1] is None:
            return None
        forms.append((*leaf.shape[1:], leaf.dtype.name))
    return str(tf.nest.map_structure(lambda leaf: 0, values)), tuple(forms)


def _mixed(count: tf.Tensor) -> tf.Tensor:
    """A number from 0 to 2^62 that looks like chance; the operations of TensorFlow for that would bring the count to the host."""
    for factor, shift in _MIXING:
        count = tf.bitwise.bitwise_xor(count * factor, tf.bitwise.right_shift(count * factor, shift))
    return tf.bitwise.bitwise_and(count, 2**62 - 1)


def _stored(dtype: tf.DType) -> tf.DType:
    """What has all values of a type; None where nothing that is a number does."""
    if dtype.is_floating:
        return tf.float64 if dtype == tf.float64 else tf.float32
    # On a GPU, TensorFlow keeps 32-bit integers in the memory of the host.
    return tf.int64 if dtype.is_integer or dtype.is_bool else None
