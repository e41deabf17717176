"""Files of tf-keras, which is Keras 2: it writes folders and checkpoints of TensorFlow, too."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
import tf_keras

from integrations.recording import Recording, recorded
from looptap.serving.origins import ORIGINS
from looptap_integrations.keras import KerasIntegration, TfKerasIntegration

DESCRIPTION = "input float32[None, 3]; output float32[None, 1]"
SAVED = ("fingerprint.pb", "keras_metadata.pb", "saved_model.pb", "variables/variables.data-00000-of-00001")


@pytest.fixture
def record() -> Iterator[Recording]:
    with recorded(KerasIntegration, TfKerasIntegration) as recording:
        yield recording


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def sequential() -> Any:
    model = tf_keras.Sequential([tf_keras.layers.Dense(1, input_shape=(3,))])
    model.compile("sgd", "mse")
    return model


def told(record: Recording) -> list[tuple[str, str]]:
    assert all(file["kind"] == "model" for file in record.files)
    return [(file["name"] or os.path.basename(file["path"]), file["role"]) for file in record.files]


def test_every_way_to_write_and_read(record: Recording) -> None:
    """Files, a folder, a checkpoint; what is read is told by the same names."""
    model = sequential()
    model.save("model.keras")
    model.save("model.h5")
    model.save("folder")
    model.save_weights("only.h5")
    model.save_weights("ckpt")
    tf_keras.models.save_model(model, "function.keras")
    saved = [f"folder/{name}" for name in (*SAVED, "variables/variables.index")]
    checkpoint = ["here/ckpt.data-00000-of-00001", "here/ckpt.index"]
    written = ["model.keras", "model.h5", *saved, "only.h5", "here/checkpoint", *checkpoint, "function.keras"]
    assert told(record) == [(name, "output") for name in written]
    assert {file["description"] for file in record.files} == {DESCRIPTION}
    with recorded(KerasIntegration, TfKerasIntegration) as other:
        for path in ("model.keras", "model.h5", "folder"):
            loaded = tf_keras.models.load_model(path)
            assert numpy.array_equal(loaded.layers[0].kernel, model.layers[0].kernel)
            origin = ORIGINS.of(loaded)
            assert origin is not None
            assert origin.path.endswith((path, "folder/variables/variables.data-00000-of-00001"))
        model.load_weights("only.h5")
        model.load_weights("ckpt")
    read = ["model.keras", "model.h5", *saved, "only.h5", *checkpoint]
    assert told(other) == [(name, "input") for name in read]


def test_checkpoints_of_a_fit(record: Recording) -> None:
    """Each epoch's checkpoint is of that epoch, and none is told twice."""
    path = "epoch_{epoch}"
    callback = tf_keras.callbacks.ModelCheckpoint(path, save_weights_only=True, save_best_only=True, monitor="loss")
    sequential().fit(numpy.ones((4, 3)), numpy.ones((4, 1)), epochs=2, verbose=0, callbacks=[callback])
    each = ["checkpoint", "epoch_{}.data-00000-of-00001", "epoch_{}.index"]
    assert told(record) == [(f"here/{name}".format(epoch), "output") for epoch in (1, 2) for name in each]
    assert {file["description"] for file in record.files} == {f"best loss; {DESCRIPTION}"}
