"""SavedModels and checkpoints of TensorFlow: each file of them once, those that a call wrote and no others."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy
import pytest
import tensorflow as tf

from integrations.recording import Recording, recorded
from looptap.serving.origins import ORIGINS
from looptap_integrations.keras import KerasIntegration
from looptap_integrations.tensorflow import TensorFlowIntegration

SAVED = ("fingerprint.pb", "saved_model.pb", "variables/variables.data-00000-of-00001", "variables/variables.index")


@pytest.fixture
def record() -> Iterator[Recording]:
    with recorded(KerasIntegration, TensorFlowIntegration) as recording:
        yield recording


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


class Scale(tf.Module):
    def __init__(self) -> None:
        super().__init__()
        self.by = tf.Variable(tf.ones((3, 1)))

    @tf.function(input_signature=[tf.TensorSpec((None, 3), tf.float32, "x")])
    def __call__(self, x: Any) -> Any:
        return {"score": x @ self.by}


def told(record: Recording) -> list[tuple[str | None, str, int | None]]:
    assert all(file["kind"] == "model" for file in record.files)
    return [(file["name"], file["role"], file["step"]) for file in record.files]


def files_of(path: str) -> list[str]:
    return [f"{path}.data-00000-of-00001", f"{path}.index"]


def test_a_saved_model(record: Recording) -> None:
    """Every file of the folder, with the step and with what its function takes and gives; loaded, it is an input."""
    scale = Scale()
    record.begin()
    record.step = 7
    tf.saved_model.save(scale, "out/scale", signatures=scale.__call__.get_concrete_function())
    assert told(record) == [(f"scale/{name}", "output", 7) for name in SAVED]
    expected = "input x float32[None, 3]; output score float32[None, 1]"
    assert {file["description"] for file in record.files} == {expected}
    record.files.clear()
    Path("out/scale/assets.extra").mkdir()
    Path("out/scale/assets.extra/mine.txt").write_text("mine")
    tf.saved_model.save(scale, export_dir="out/scale", signatures={"a": scale.__call__})
    assert "scale/assets.extra/mine.txt" not in [name for name, *_ in told(record)]
    assert {file["description"] for file in record.files} == {"a: input x float32[None, 3]"}
    with recorded(TensorFlowIntegration) as other:
        loaded = tf.saved_model.load("out/scale")
        from tensorflow.saved_model import load

        assert load(Path("out/scale")).by.shape == (3, 1)
        assert numpy.array_equal(loaded(tf.ones((2, 3)))["score"], [[3], [3]])
    inputs = ["scale/assets.extra/mine.txt", *(f"scale/{name}" for name in SAVED)]
    assert told(other) == [(name, "input", None) for name in inputs]


def test_whose_weights_a_loaded_model_has(record: Recording) -> None:
    """Those of the file with its variables; so have its signatures, and its own methods."""
    for name, score in {"one": 1.0, "two": 2.0}.items():
        model = keras.Sequential(
            [keras.Input((3,)), keras.layers.Dense(1, kernel_initializer=keras.initializers.Constant(score))]
        )
        model.export(name)
        loaded = tf.saved_model.load(name)
        signature = loaded.signatures["serving_default"]
        for one in (loaded, signature, loaded.serve):
            file = ORIGINS.of(one)
            assert file is not None
            assert Path(file.path) == Path(name, "variables", "variables.data-00000-of-00001").absolute()
    with record.suppress():
        assert ORIGINS.of(tf.saved_model.load("one")) is None


def test_a_model_of_keras_is_exported(record: Recording) -> None:
    """Keras exports by a function of TensorFlow, which is the same write; converting is none."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.export("exported")
    assert told(record) == [(f"exported/{name}", "output", None) for name in SAVED]
    assert {file["description"] for file in record.files} == {"input float32[None, 3]; output float32[None, 1]"}
    record.files.clear()
    keras.layers.TFSMLayer("exported", call_endpoint="serve")
    assert record.files == []  # the run's own
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serve", model.call, [tf.TensorSpec((None, 3), tf.float32)])
    archive.write_out("archived")
    assert told(record) == [(f"archived/{name}", "output", None) for name in SAVED]


def test_checkpoints(record: Recording) -> None:
    """Written under a name, saved under a name with a number, managed: the files of that call, and the state that names them."""
    checkpoint = tf.train.Checkpoint(by=tf.Variable(1.0))
    checkpoint.write("ckpt")
    checkpoint.save(file_prefix="ckpt")
    checkpoint.save("ckpt")
    expected = [*files_of("ckpt"), "checkpoint", *files_of("ckpt-1"), "checkpoint", *files_of("ckpt-2")]
    assert told(record) == [(f"here/{name}", "output", None) for name in expected]
    record.files.clear()
    manager = tf.train.CheckpointManager(checkpoint, "managed", max_to_keep=1, checkpoint_name="best")
    manager.save()
    manager.save(checkpoint_number=30)
    assert not os.path.exists("managed/best-3.index")
    expected = [*files_of("best-3"), "checkpoint", *files_of("best-30"), "checkpoint"]
    assert told(record) == [(f"managed/{name}", "output", None) for name in expected]


def test_restoring(record: Recording) -> None:
    """The files of the checkpoint that was read, which the program may name by its folder."""
    checkpoint = tf.train.Checkpoint(by=tf.Variable(1.0))
    with record.suppress():
        for folder in ("a", "b", "c"):
            tf.train.CheckpointManager(checkpoint, folder, max_to_keep=3).save()
        checkpoint.write("b/ckpt-10")
        tf.saved_model.save(tf.train.Checkpoint(by=checkpoint.by), "saved")
    assert record.files == []
    checkpoint.restore("a/ckpt-1").assert_consumed()
    checkpoint.read(save_path="a/ckpt-1")
    checkpoint.restore(tf.train.latest_checkpoint("b"))
    manager = tf.train.CheckpointManager(checkpoint, "c", max_to_keep=3)
    assert manager.restore_or_initialize() is not None
    checkpoint.restore(None)
    checkpoint.restore("saved")
    with pytest.raises(tf.errors.NotFoundError):
        checkpoint.read("missing/ckpt-1")
    names = [*files_of("a/ckpt-1"), *files_of("b/ckpt-2"), *files_of("c/ckpt-3"), *files_of("variables/variables")]
    assert told(record) == [(name, "input", None) for name in names]


def test_everything_is_undone() -> None:
    """Every function is the identical object again; objects that are observed still pickle and copy."""
    import tensorflow.saved_model as again

    before = _functions(again)
    with recorded(TensorFlowIntegration):
        assert all(one is not other for one, other in zip(before, _functions(again), strict=True))
        assert pickle.loads(pickle.dumps(tf.train.Checkpoint)) is tf.train.Checkpoint
    assert all(one is other for one, other in zip(before, _functions(again), strict=True))


def _functions(again: Any) -> list[Any]:
    return [
        tf.saved_model.save,
        tf.saved_model.load,
        again.load,
        tf.train.Checkpoint.write,
        tf.train.Checkpoint.save,
        tf.train.Checkpoint.read,
        tf.train.Checkpoint.restore,
        tf.train.CheckpointManager.save,
    ]
