"""What a compiled evaluation leaves of its rows: which, how many, and that nothing else changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import kernels

from looptap.serving.answers import MOST_ROWS
from looptap.serving.reference import MOST_BATCHES
from looptap_integrations.keras.graph_rows import MOST_BYTES, GraphRows, form_of

COMPILED = pytest.mark.parametrize("jit_compile", [None, True], ids=["plain", "xla"])


class Passes:
    """A function that keeps what it is given, of batches of any length."""

    def __init__(self, jit_compile: bool | None = None) -> None:
        self.rows: GraphRows | None = None

        @tf.function(jit_compile=jit_compile)
        def step(predicted: Any, labels: Any) -> None:
            if self.rows is None:
                self.rows = GraphRows(form_of((predicted, labels)), predicted, labels)
            self.rows.write(predicted, labels)

        self.step = step

    def take(self) -> tuple[int, list[tuple[Any, Any]]]:
        assert self.rows is not None
        return self.rows.take()


@COMPILED
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "int32", "int64", "uint8", "bool"])
def test_of_few_rows_all_are_kept(jit_compile: bool | None, dtype: str) -> None:
    """As they were, with their types (half floats as float32), whatever the last batch is short of; of the last pass alone."""
    passes = Passes(jit_compile)
    values = np.arange(80).reshape(40, 2) % (2 if dtype == "bool" else 120)
    given = tf.cast(tf.constant(values), dtype)
    for _ in range(2):
        if passes.rows is not None:
            passes.rows.begin()  # without having been taken
        for first in range(0, 40, 16):
            passes.step(given[first : first + 16], given[first : first + 16, 0])
    count, kept = passes.take()
    assert count == 3
    assert [len(predicted) for predicted, _ in kept] == [16, 16, 8]
    found = np.concatenate([predicted for predicted, _ in kept])
    assert found.dtype == ("float32" if dtype in ("float16", "bfloat16") else dtype)
    assert (found == values.astype(found.dtype)).all()
    assert (np.concatenate([labels for _, labels in kept]) == values[:, 0].astype(found.dtype)).all()
    assert passes.take() == (0, [])


@COMPILED
def test_of_many_rows_some_from_everywhere(jit_compile: bool | None) -> None:
    """Evenly over each batch; each batch with the same chance; predictions and labels of the same rows."""
    passes = Passes(jit_compile)
    counts = np.zeros(400)
    for start in range(2):
        for batch in range(400):
            rows = tf.range(100, dtype=tf.float32) + 100.0 * batch
            passes.step(rows[:, tf.newaxis], rows)
        count, kept = passes.take()
        assert count == 400, start
        assert len(kept) == MOST_BATCHES
        for predicted, labels in kept:
            assert (predicted[:, 0] == labels).all()
            assert len(labels) == MOST_ROWS
            inside = labels % 100
            assert inside[0] == 0
            assert (np.diff(inside) >= 1).all()
            assert (np.diff(inside) <= 2).all()
            counts[int(labels[0] // 100)] += 1
    # The same batches each time: a pass is drawn by its count alone.
    assert set(counts) == {0.0, 2.0}
    quarters = (counts > 0).reshape(4, 100).sum(axis=1)
    assert quarters.sum() == MOST_BATCHES
    assert (np.abs(quarters - MOST_BATCHES / 4) < 4 * np.sqrt(MOST_BATCHES * 3 / 16)).all()


def test_the_host_waits_for_no_number_of_a_gpu() -> None:
    """By the kernels that TensorFlow has for GPUs: nothing that they want in the memory of the host follows from what lies there,
    but for shapes."""
    rows = GraphRows(None, tf.zeros([4, 2]), tf.zeros([4], tf.int32))

    @tf.function
    def step(predicted: Any, labels: Any) -> None:
        rows.write(predicted, labels)

    graph = step.get_concrete_function(tf.TensorSpec([None, 2]), tf.TensorSpec([None], tf.int32)).graph
    assert any(op.type == "ResourceScatterUpdate" for op in graph.get_operations())
    waits = [op for op in graph.get_operations() if any("ReadVariableOp" in _sources(one) for one in _on_the_host(op))]
    assert waits == []


def _on_the_host(op: Any) -> list[Any]:
    """Of what goes into it, what a GPU's kernel wants to have there: all, if there is no such kernel."""
    if op.type in ("Placeholder", "Const", "NoOp", "ReadVariableOp", "Shape"):
        return []
    for kernel in kernels.get_registered_kernels_for_op(op.type).kernel:
        fits = all(op.get_attr(one.name).as_datatype_enum in one.allowed_values.list.type for one in kernel.constraint)
        if fits and kernel.device_type in ("GPU", "DEFAULT"):
            names = [argument.name for argument in op.op_def.input_arg]
            return [tensor for name, tensor in zip(names, op.inputs, strict=False) if name in kernel.host_memory_arg]
    return list(op.inputs)


def _sources(tensor: Any) -> set[str]:
    """The kinds of operations that it follows from. A shape is known before its tensor is."""
    op = tensor.op
    return {op.type}.union(*map(_sources, op.inputs)) if op.type != "Shape" else {"Shape"}


def test_names_and_shapes() -> None:
    """Several outputs come back under their names; without labels there are none."""
    passes = Passes()
    passes.step({"wants": tf.ones([3, 2]), "much": tf.constant([1.0, 2.0, 3.0])}, None)
    ((predicted, labels),) = passes.take()[1]
    assert labels is None
    assert predicted["wants"].shape == (3, 2)
    assert predicted["much"].tolist() == [1.0, 2.0, 3.0]


def test_labels_of_another_length_and_empty_batches() -> None:
    """As metrics of the program may take them: as many rows as both have, and no error."""
    passes = Passes()
    passes.step(tf.range(6), tf.range(4))
    passes.step(tf.range(0), tf.range(4))
    count, kept = passes.take()
    assert count == 2
    assert [(list(predicted), list(labels)) for predicted, labels in kept] == [([0, 1, 2, 3], [0, 1, 2, 3]), ([], [])]


def test_wide_answers_have_less_room() -> None:
    """And too wide ones none."""
    wide = tf.zeros([64, 2_000])
    passes = Passes()
    for _ in range(40):
        passes.step(wide, None)
    count, kept = passes.take()
    assert count == 40
    assert 0 < sum(predicted.nbytes for predicted, _ in kept) <= MOST_BYTES
    with pytest.raises(ValueError, match="too long"):
        GraphRows(None, tf.zeros([1, MOST_BYTES // MOST_ROWS]), None)


@pytest.mark.parametrize(
    "make",
    [
        lambda: tf.constant("text"),
        lambda: tf.constant(["text"]),
        lambda: tf.constant(1.0),
        lambda: tf.zeros([2, 3, 4]),
        lambda: tf.ragged.constant([[1.0], [2.0, 3.0]]),
        lambda: tf.sparse.eye(3),
        lambda: tf.constant([1j]),
        lambda: [tf.zeros([2]), "text"],
        lambda: None,
    ],
    ids=["text", "texts", "number", "matrices", "ragged", "sparse", "complex", "with text", "nothing"],
)
def test_what_has_no_rows_of_numbers(make: Callable[[], Any]) -> None:
    assert form_of(make()) is None
