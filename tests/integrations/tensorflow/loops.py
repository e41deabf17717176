"""What loops in tests are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy
import pytest
import tensorflow as tf

from integrations.recording import Recording

#: As the program runs, in a graph, and compiled.
MODES: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
    "eager": lambda function: function,
    "graph": tf.function,
    "xla": tf.function(jit_compile=True),
}
in_all_modes = pytest.mark.parametrize("compiled", MODES.values(), ids=MODES.keys())
in_graphs = pytest.mark.parametrize("compiled", [MODES["graph"], MODES["xla"]], ids=["graph", "xla"])


def numbered(values: list[float]) -> list[tuple[int, float]]:
    """A value for each step from 0."""
    return list(enumerate(values))


def number(tensor: Any) -> float:
    """What the program itself reads: float32 as float64."""
    return float(numpy.asarray(tensor))


def settled(record: Recording) -> Recording:
    """With everything in it that graphs have computed until now: as somebody who looks."""
    record.is_step_under_way()
    return record


def data(count: int = 12, width: int = 3, seed: int = 0) -> tuple[tf.Tensor, tf.Tensor]:
    """Inputs and targets of a regression."""
    random = numpy.random.default_rng(seed)
    inputs = random.normal(size=(count, width)).astype(numpy.float32)
    return tf.constant(inputs), tf.constant(inputs @ numpy.ones((width, 1), numpy.float32))


class Line(tf.Module):
    """A linear model."""

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.weights = tf.Variable(tf.fill([width, 1], 0.1), name="weights")
        self.bias = tf.Variable([0.0], name="bias")

    def __call__(self, inputs: tf.Tensor) -> tf.Tensor:
        return inputs @ self.weights + self.bias

    def error(self, inputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(tf.square(self(inputs) - targets))
