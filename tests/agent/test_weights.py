"""The file that the weights of a model lie in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tensorflow as tf
from onnx import TensorProto, helper, numpy_helper

from looptap import weights
from looptap.weights import of_saved_model, onnx_files


def model(**arrays: np.ndarray) -> onnx.ModelProto:
    """It has these weights, and does nothing."""
    node = helper.make_node("Identity", ["x"], ["y"])
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in "xy")
    initializers = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    return helper.make_model(helper.make_graph([node], "graph", [x], [y], initializers))


def names(folder: Path, name: str = "model.onnx") -> list[str]:
    return [str(Path(file).relative_to(folder)) for file in onnx_files(str(folder / name))]


@pytest.fixture
def large() -> onnx.ModelProto:
    return model(a=np.zeros(1000, np.float32), b=np.ones(1000, np.float32), small=np.ones(2, np.float32))


def test_onnx_with_its_weights_inside(tmp_path: Path, large: onnx.ModelProto) -> None:
    """A file that happens to lie beside it is not its own."""
    onnx.save(large, tmp_path / "model.onnx")
    (tmp_path / "model.onnx.data").write_bytes(b"of another")
    assert names(tmp_path) == ["model.onnx"]


@pytest.mark.parametrize("name", ["weights.bin", "inside/weights.bin", "w" * 200, "ä.bin"])
def test_onnx_with_its_weights_in_one_file(tmp_path: Path, large: onnx.ModelProto, name: str) -> None:
    """Of whatever name: a long one takes two bytes to say how long it is."""
    (tmp_path / "inside").mkdir()
    onnx.save(large, tmp_path / "model.onnx", save_as_external_data=True, location=name)
    assert names(tmp_path) == ["model.onnx", name]
    (tmp_path / name).unlink()
    assert names(tmp_path) == ["model.onnx"]


def test_onnx_with_its_weights_in_several_files(tmp_path: Path, large: onnx.ModelProto) -> None:
    onnx.save(large, tmp_path / "model.onnx", save_as_external_data=True, all_tensors_to_one_file=False)
    assert names(tmp_path) == ["model.onnx", "a", "b"]


@pytest.mark.parametrize("size", range(3, 60, 7))
def test_a_name_across_two_blocks(
    tmp_path: Path, large: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    onnx.save(large, tmp_path / "model.onnx", save_as_external_data=True, location="weights.bin")
    monkeypatch.setattr(weights, "_BLOCK_BYTES", size)
    assert names(tmp_path) == ["model.onnx", "weights.bin"]


@pytest.mark.parametrize("name", ["../secret", "inside/../../secret", "/secret"])
def test_no_model_leads_out_of_its_folder(tmp_path: Path, large: onnx.ModelProto, name: str) -> None:
    folder = tmp_path / "models"
    (folder / "inside").mkdir(parents=True)
    (tmp_path / "secret").write_bytes(b"secret")
    wanted = f"{tmp_path}/secret" if name == "/secret" else name
    unlike = "x" * len(wanted)
    onnx.save(large, folder / "model.onnx", save_as_external_data=True, location=unlike)
    assert names(folder) == ["model.onnx", unlike]
    (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes().replace(unlike.encode(), wanted.encode()))
    assert names(folder) == ["model.onnx"]


def test_what_is_no_model(tmp_path: Path) -> None:
    """Not there, a folder, or something else."""
    (tmp_path / "text").write_text("\n\blocation\x12")
    assert names(tmp_path) == names(tmp_path, ".") == onnx_files("a\0b") == []
    assert names(tmp_path, "text") == ["text"]
    assert of_saved_model(str(tmp_path)) is of_saved_model(str(tmp_path / "nowhere")) is of_saved_model("a\0b") is None


def scale(by: Any) -> Any:
    module = tf.Module()
    module.by = by
    module.__call__ = tf.function(lambda x: x * by, input_signature=[tf.TensorSpec((None,), tf.float32)])
    return module


def test_saved_models(tmp_path: Path) -> None:
    """Two trainings differ in their variables, or, where there are none, in the graph; many shards have no one digest."""
    files = {}
    for name, by in {"one": tf.Variable(1.0), "two": tf.Variable(2.0), "three": 3.0, "four": 4.0}.items():
        tf.saved_model.save(scale(by), str(tmp_path / name))
        found = of_saved_model(str(tmp_path / name))
        assert found is not None
        files[name] = Path(found)
    assert [files[name].name for name in ("one", "three")] == ["variables.data-00000-of-00001", "saved_model.pb"]
    assert len({path.read_bytes() for path in files.values()}) == 4
    (tmp_path / "one" / "variables" / "variables.data-00001-of-00002").touch()
    assert of_saved_model(str(tmp_path / "one")) is None
