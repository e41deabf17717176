"""What goes into a graph comes out of it: every value, in order, to the last bit; and the user's own things stay as they are."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy
import pytest
import tensorflow as tf

from looptap_integrations.rings import Ring

COMPILED = pytest.mark.parametrize("jit_compile", [None, True], ids=["plain", "xla"])
#: Infinities, NaN, a denormal, both zeros, and what has no end in binary.
VALUES = [0.1, -0.0, 0.0, float("inf"), float("-inf"), float("nan"), 1e-40, 3.4e38, -1 / 3]


def bits(values: list[float]) -> list[bytes]:
    return [numpy.float64(value).tobytes() for value in values]


@COMPILED
@pytest.mark.parametrize(
    "dtype", [tf.float32, tf.float64, tf.float16, tf.bfloat16, tf.int32], ids=lambda kind: kind.name
)
def test_values_are_exact(jit_compile: bool | None, dtype: tf.DType) -> None:
    """Of every type, from an argument of a function, as float64."""
    ring = Ring()
    values = [1, -7, 2**31 - 1] if dtype.is_integer else VALUES
    with numpy.errstate(over="ignore"):
        given = tf.constant(numpy.array(values).astype(dtype.as_numpy_dtype))

    @tf.function(jit_compile=jit_compile)
    def keep(value: tf.Tensor) -> None:
        ring.write(value)

    for value in given:
        keep(value)
    assert bits(ring.read()) == bits(given.numpy().astype(numpy.float64).tolist())
    assert ring.read() == []


def test_eager_and_graph_share_one_order() -> None:
    """Values of one element in any shape, Python's numbers, marks."""
    ring = Ring()

    @tf.function
    def inside() -> None:
        ring.write(tf.constant([[2.0]]), mark=5)

    ring.write(1.5)
    inside()
    ring.write(tf.Variable(3, dtype=tf.int64), mark=1)
    inside()
    assert ring.entries() == [(0, 1.5), (5, 2.0), (1, 3.0), (5, 2.0)]


@COMPILED
def test_as_often_as_the_program_comes_by(jit_compile: bool | None) -> None:
    """Branches, loops of a length that is known at the run only, functions in functions; nothing that is not run."""
    ring = Ring()

    @tf.function
    def inner(value: tf.Tensor) -> None:
        ring.write(value * 10)

    @tf.function(jit_compile=jit_compile)
    def outer(count: tf.Tensor) -> None:
        for index in tf.range(count):
            ring.write(tf.cast(index, tf.float32))
            if index % 2 == 0:
                inner(index)
        ring.write(tf.constant(-1.0))

    for count in (3, 0, 2):
        outer(tf.constant(count))
    assert ring.read() == [0, 0, 1, 2, 20, -1, -1, 0, 0, 1, -1]


def test_loops_over_data_keep_their_order() -> None:
    """A ``while`` whose iterations TensorFlow may run in parallel."""
    ring = Ring(4096)

    @tf.function
    def epoch(data: tf.data.Dataset) -> None:
        for value in data:
            ring.write(tf.sqrt(value))

    values = numpy.arange(2000, dtype=numpy.float32)
    epoch(tf.data.Dataset.from_tensor_slices(values))
    assert ring.read() == numpy.sqrt(values).astype(numpy.float64).tolist()


def test_what_is_overwritten_is_counted() -> None:
    ring = Ring(capacity=8)
    for value in range(5):
        ring.write(value)
    assert ring.read() == [0, 1, 2, 3, 4]
    assert ring.lost == 0
    for value in range(20):
        ring.write(value)
    assert ring.read() == list(range(12, 20))
    assert ring.lost == 12


@pytest.mark.parametrize("value", [tf.ones([2]), tf.constant("a"), tf.constant(1j), "a"])
def test_no_number_adds_nothing(value: Any) -> None:
    ring = Ring()

    @tf.function
    def function() -> int:
        before = len(tf.compat.v1.get_default_graph().get_operations())
        with pytest.raises((TypeError, ValueError)):
            ring.write(tf.convert_to_tensor(value) if isinstance(value, str) else value)
        return len(tf.compat.v1.get_default_graph().get_operations()) - before

    assert int(function()) <= 3  # constants that nobody uses
    assert ring.read() == []


def test_a_shape_that_only_the_run_knows_is_refused() -> None:
    ring = Ring()

    @tf.function(input_signature=[tf.TensorSpec([None])])
    def function(values: tf.Tensor) -> tf.Tensor:
        with pytest.raises(ValueError, match="not one number"):
            ring.write(values)
        return values

    assert function(tf.ones([3])).shape == [3]


class Model(tf.Module):
    """Two weights that are trained by a function of the module."""

    def __init__(self, ring: Ring | None, jit_compile: bool | None, loops: bool = False) -> None:
        super().__init__()
        self.weights = tf.Variable([0.3, -0.7, 1.1, 0.2])

        @tf.function(jit_compile=jit_compile, input_signature=[tf.TensorSpec([None, 4])])
        def step(inputs: tf.Tensor) -> tf.Tensor:
            loss = tf.constant(0.0)
            for _ in tf.range(3) if loops else range(1):
                with tf.GradientTape() as tape:
                    loss = tf.reduce_mean(tf.square(tf.linalg.matvec(inputs, self.weights) - 1.0))
                if ring is not None:
                    ring.write(loss)
                self.weights.assign_sub(0.1 * tape.gradient(loss, self.weights))
            return loss

        self.step = step


def inputs() -> tf.Tensor:
    return tf.constant(numpy.random.default_rng(0).normal(size=(16, 4)).astype(numpy.float32))


@COMPILED
@pytest.mark.parametrize("loops", [False, True], ids=["once", "loop"])
def test_the_numbers_are_those_without_us(tmp_path: Path, jit_compile: bool | None, loops: bool) -> None:
    """Losses and weights to the last bit; the function lists the variables that it had."""
    ring = Ring()
    ours, theirs = Model(ring, jit_compile, loops), Model(None, jit_compile, loops)
    losses = [[model.step(inputs()).numpy() for _ in range(5)] for model in (ours, theirs)]
    assert losses[0] == losses[1]
    assert (ours.weights.numpy() == theirs.weights.numpy()).all()
    assert ring.read()[2 if loops else 0 :: 3 if loops else 1] == [float(loss) for loss in losses[0]]
    concrete = ours.step.get_concrete_function()
    assert [variable is ours.weights for variable in concrete.variables] == [True]
    assert [variable is ours.weights for variable in concrete.graph.trainable_variables] == [True]
    assert len(ours.trainable_variables) == 1
    saved = tf.train.Checkpoint(model=ours).save(str(tmp_path / "checkpoint"))
    assert {name for name, _ in tf.train.list_variables(saved)} == {
        "_CHECKPOINTABLE_OBJECT_GRAPH",
        "model/weights/.ATTRIBUTES/VARIABLE_VALUE",
        "save_counter/.ATTRIBUTES/VARIABLE_VALUE",
    }


def test_replicas_write_one_after_the_other() -> None:
    """In a strategy, whose replicas are traced in threads of their own."""
    ring, devices = Ring(), tf.config.list_logical_devices("CPU")
    strategy = tf.distribute.MirroredStrategy([device.name for device in devices])

    @tf.function
    def step(value: tf.Tensor) -> None:
        strategy.run(lambda value: ring.write(value + 1, mark=7), args=(value,))

    for value in (1.0, 2.0):
        step(tf.constant(value))
    assert ring.entries() == [(7, value + 1) for value in (1.0, 2.0) for _ in devices]


LOADER = """
import sys
import tensorflow as tf
import numpy
model = tf.saved_model.load(sys.argv[1])
inputs = tf.constant(numpy.random.default_rng(0).normal(size=(16, 4)).astype(numpy.float32))
losses = [float(model.step(inputs)) for _ in range(2)]
losses += [float(value) for value in model.signatures["serving_default"](inputs).values()]
assert not any(name.startswith("looptap") for name in sys.modules)
print(*map(float.hex, losses))
"""


@COMPILED
def test_saved_models_load_without_us(tmp_path: Path, jit_compile: bool | None) -> None:
    """What a function of the saved module computes elsewhere is what it computes here. Two rings of two sizes, one function
    with both."""
    ring, other = Ring(), Ring(32)
    model = Model(ring, jit_compile, loops=True)

    def both(value: tf.Tensor) -> tf.Tensor:
        other.write(value)
        return model.step(value[None] * tf.ones([2, 4]))

    model.both = tf.function(both)
    model.both(tf.constant(1.0))
    before = model.weights.numpy()
    tf.saved_model.save(model, str(tmp_path / "model"))
    assert len(ring.read()) == 3
    assert (model.weights.numpy() == before).all()
    truth = [float(model.step(inputs())) for _ in range(3)]
    assert len(ring.read()) == 9
    done = subprocess.run(
        [sys.executable, "-c", LOADER, str(tmp_path / "model")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert [float.fromhex(word) for word in done.stdout.split()] == truth
    again = tf.saved_model.load(str(tmp_path / "model"))
    again.both(tf.constant(1.0))
    assert ring.read() == []
    assert other.read() == [1.0]


def test_reading_beside_the_training() -> None:
    """Another thread that reads all the time gets every value once, in order."""
    ring, got, over = Ring(256), [], threading.Event()

    @tf.function
    def burst(start: tf.Tensor) -> None:
        for index in tf.range(50):
            ring.write(start + index)

    def read() -> None:
        while not over.is_set():
            got.extend(ring.read())

    reader = threading.Thread(target=read)
    reader.start()
    for start in range(0, 5000, 50):
        burst(tf.constant(start))
    over.set()
    reader.join()
    got += ring.read()
    assert got == sorted(set(got))
    assert len(got) + ring.lost == 5000


def test_a_graph_keeps_its_ring() -> None:
    """When everybody else has forgotten it."""
    ring = Ring()

    def make(ring: Ring) -> Any:
        @tf.function
        def keep(value: tf.Tensor) -> tf.Tensor:
            ring.write(value)
            return value + 1

        keep(tf.constant(0.0))
        return keep.get_concrete_function(tf.TensorSpec([]))

    concrete = make(ring)
    del ring
    assert float(concrete(tf.constant(1.0))) == 2.0
