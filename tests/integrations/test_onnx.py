"""ONNX files that are written and read, and sessions of ONNX Runtime made from them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession

from integrations.recording import Recording, recorded
from looptap.serving.origins import ORIGINS
from looptap_integrations.onnx import OnnxIntegration
from looptap_integrations.onnxruntime import OnnxRuntimeIntegration


@pytest.fixture
def record() -> Iterator[Recording]:
    with recorded(OnnxIntegration, OnnxRuntimeIntegration) as recording:
        yield recording


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def scale() -> onnx.ModelProto:
    """Adds up 1,000 numbers, each times its own."""
    weights = numpy_helper.from_array(np.ones((1000, 1), np.float32), "weights")
    node = helper.make_node("MatMul", ["x", "weights"], ["y"])
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 1000])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 1])
    graph = helper.make_graph([node], "graph", [x], [y], [weights])
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 17)])


def told(record: Recording) -> list[tuple[str, str]]:
    assert all(file["kind"] == "model" and file["step"] is None for file in record.files)
    return [(os.path.basename(file["path"]), file["role"]) for file in record.files]


def origin(session: InferenceSession) -> str | None:
    file = ORIGINS.of(session)
    return None if file is None else file.name


def test_written(record: Recording, scale: onnx.ModelProto) -> None:
    """Under both names of the function, with the weights beside it; what goes into an open file or fails is none."""
    onnx.save(scale, "one.onnx")
    onnx.save_model(scale, f=Path("two.onnx"), save_as_external_data=True, location="two.bin")
    with open("open.onnx", "wb") as file:
        onnx.save(scale, file)
    with pytest.raises(FileNotFoundError):
        onnx.save(scale, "no/such/folder.onnx")
    assert told(record) == [(name, "output") for name in ("one.onnx", "two.onnx", "two.bin")]


def test_read(record: Recording, scale: onnx.ModelProto) -> None:
    """Under both names of the function."""
    with record.suppress():
        onnx.save(scale, "one.onnx")
        onnx.save(scale, "two.onnx", save_as_external_data=True, location="two.bin")
    assert onnx.load("one.onnx").graph.name == onnx.load_model(f="two.onnx").graph.name == "graph"
    with open("one.onnx", "rb") as file:
        onnx.load(file)
    assert told(record) == [(name, "input") for name in ("one.onnx", "two.onnx", "two.bin")]


def test_a_session_knows_its_file(record: Recording, scale: onnx.ModelProto) -> None:
    """The one that its weights lie in; of what is made from memory there is none."""
    with record.suppress():
        onnx.save(scale, "inside.onnx")
        onnx.save(scale, "beside.onnx", save_as_external_data=True, location="beside.bin")
    assert origin(InferenceSession("inside.onnx")) == "inside.onnx"
    session = InferenceSession(path_or_bytes=Path("beside.onnx"))
    assert origin(session) == "beside.bin"
    assert session.run(None, {"x": np.ones((2, 1000), np.float32)})[0].tolist() == [[1000.0]] * 2
    assert origin(InferenceSession(Path("inside.onnx").read_bytes())) is None
    with pytest.raises(Exception, match=r"(?i)nowhere.onnx"):
        InferenceSession("nowhere.onnx")
    with record.suppress():
        assert origin(InferenceSession("inside.onnx")) is None
    assert told(record) == [(name, "input") for name in ("inside.onnx", "beside.onnx", "beside.bin")]


def test_weights_in_several_files_have_no_origin(record: Recording, scale: onnx.ModelProto) -> None:
    """No single digest would tell two trainings apart."""
    scale.graph.initializer.append(numpy_helper.from_array(np.ones(1000, np.float32), "more"))
    with record.suppress():
        onnx.save(scale, "model.onnx", save_as_external_data=True, all_tensors_to_one_file=False)
    assert origin(InferenceSession("model.onnx")) is None
    assert told(record) == [(name, "input") for name in ("model.onnx", "more", "weights")]


def test_everything_is_undone() -> None:
    """Functions and method are the identical objects again."""
    before = [onnx.save, onnx.save_model, onnx.load, onnx.load_model, InferenceSession.__init__]
    with recorded(OnnxIntegration, OnnxRuntimeIntegration):
        assert onnx.save is not before[0]
        assert onnxruntime.InferenceSession.__init__ is not before[-1]
    assert [onnx.save, onnx.save_model, onnx.load, onnx.load_model, InferenceSession.__init__] == before
