"""Sessions of ONNX Runtime that are watched: each output by its name, each question by its shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

import looptap
from looptap.events import Window
from looptap.sketches import distribution, histogram

Counted = Callable[[], list[Window]]


def session(*inputs: str) -> onnxruntime.InferenceSession:
    """Gives the sum of its inputs as ``logits``, and ``probabilities`` of that."""
    nodes = [
        helper.make_node("Sum", list(inputs), ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
    ]
    every = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", 3]) for name in inputs}
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", 3]) for name in ("logits", "probabilities")
    ]
    graph = helper.make_graph(nodes, "graph", list(every.values()), outputs)
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 17)])
    return onnxruntime.InferenceSession(model.SerializeToString())


ROWS = np.array([[0.0, 5.0, 1.0], [9.0, 1.0, 1.0]], np.float32)


def classes(window: Window) -> dict[str, dict[str, int]]:
    found = {name: distribution.decode(told) for name, told in window.predictions.items()}
    return {name: dict(one.classes) for name, one in found.items() if one.classes}


def test_every_output(counted: Counted) -> None:
    """A list of arrays has an item for each output, not for each row; what the program gets is that very list."""
    plain = session("x")
    watched = looptap.watch(plain, name="onnx")
    assert isinstance(watched, onnxruntime.InferenceSession)
    answer = watched.run(None, {"x": ROWS})
    assert [part.tolist() for part in answer] == [part.tolist() for part in plain.run(None, {"x": ROWS})]
    (window,) = counted()
    assert (window.model, window.requests, window.skipped) == ("onnx", 1, {})
    assert classes(window) == {"logits.class": {"1": 1, "0": 1}, "probabilities.class": {"1": 1, "0": 1}}
    assert "probabilities.confidence" in window.predictions
    assert window.shapes == {"float32[*, 3]": 1}
    assert histogram.decode(window.batch or b"").max == 2.0


@pytest.mark.parametrize("names", [["probabilities"], ("probabilities",)])
def test_the_only_output_is_the_answer(counted: Counted, names: Any) -> None:
    """It has no name, as in the training that it is compared with."""
    watched = looptap.watch(session("x"))
    watched.run(names, {"x": ROWS})
    watched.run(output_names=names, input_feed={"x": ROWS})
    (window,) = counted()
    assert classes(window) == {"class": {"1": 2, "0": 2}}
    assert window.shapes == {"float32[*, 3]": 2}


def test_outputs_in_the_order_of_the_question(counted: Counted) -> None:
    watched = looptap.watch(session("x"))
    watched.run(["probabilities", "logits"], {"x": np.ones((1, 3), np.float32) * ROWS[:1]})
    (window,) = counted()
    assert {name for name in window.predictions if name.endswith("confidence")} == {"probabilities.confidence"}


def test_several_inputs(counted: Counted) -> None:
    """By name; the rows are those of the first."""
    watched = looptap.watch(session("a", "b"), features=["a"])
    watched.run(["logits"], {"a": ROWS, "b": ROWS})
    (window,) = counted()
    assert window.shapes == {"a float32[*, 3], b float32[*, 3]": 1}
    assert histogram.decode(window.batch or b"").max == 2.0
    assert set(window.features) == {"a.class"}


def test_columns_of_the_only_input(counted: Counted) -> None:
    looptap.watch(session("x"), features=["age", "income", "height"]).run(None, {"x": ROWS})
    (window,) = counted()
    assert set(window.features) == {"age.value", "income.value", "height.value"}


def test_buffers_and_values(counted: Counted) -> None:
    """Are counted with their time; what is in them may lie on a device."""
    watched = looptap.watch(session("x"))
    binding = watched.io_binding()
    binding.bind_cpu_input("x", ROWS)
    binding.bind_output("logits")
    watched.run_with_iobinding(binding)
    assert binding.copy_outputs_to_cpu()[0].tolist() == ROWS.tolist()
    value = onnxruntime.OrtValue.ortvalue_from_numpy(ROWS)
    assert watched.run_with_ort_values(["logits"], {"x": value})[0].numpy().tolist() == ROWS.tolist()
    (window,) = counted()
    assert (window.requests, window.predictions) == (2, {})
    assert window.skipped == {"in buffers of its own": 1, "unknown kind": 1}


def test_errors(counted: Counted) -> None:
    watched = looptap.watch(session("x"))
    with pytest.raises(Exception, match="INVALID_ARGUMENT") as raised:
        watched.run(None, {"x": np.ones((1, 2), np.float32)})
    with pytest.raises(ValueError, match="x"):
        watched.run(None, {})
    (window,) = counted()
    assert window.errors == {type(raised.value).__name__: 1, "ValueError": 1}
