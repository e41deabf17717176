"""Models are the program's: they are copied, pickled, saved and loaded while we watch, as ever, and know nothing of us."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import keras
import numpy as np

import looptap
from integrations.keras.models import Seen, data, made, watched, weights
from integrations.recording import Recording
from looptap.patching import is_watched
from looptap_integrations.keras.integration import _trainer

METHODS = ("fit", "evaluate", "predict", "train_on_batch")


def attributes(model: Any) -> set[str]:
    return set(vars(model))


def test_copies(record: Recording, tmp_path: Path) -> None:
    """Clones, pickles and files of a trained model predict what it predicts, and train on."""
    model = made()
    with record.suppress():
        alone = made()
        alone.fit(*data(), batch_size=8, verbose=0)
    model.fit(*data(), batch_size=8, verbose=0)
    assert attributes(model) == attributes(alone)
    assert len(model.weights) == len(alone.weights)
    truth = model.predict(data()[0], verbose=0)
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    model.save(tmp_path / "model.keras")
    copies = [clone, pickle.loads(pickle.dumps(model)), keras.models.load_model(tmp_path / "model.keras")]
    for copy in copies:
        assert np.array_equal(copy.predict(data()[0], verbose=0), truth)
    before = record.step
    copies[2].fit(*data(), batch_size=8, verbose=0)  # its optimizer knows how many steps came before
    assert record.generation == 1
    assert record.step == before + 5
    copies[0].compile("sgd", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    copies[0].fit(*data(), batch_size=8, verbose=0)
    assert record.generation == 2


def test_everything_comes_back() -> None:
    """The identical functions, after a fit and in the middle of one."""
    from keras.src.callbacks.callback_list import CallbackList
    from keras.src.metrics import Mean
    from keras.src.utils import python_utils

    owners = [CallbackList, _trainer(), Mean, python_utils]
    before = [dict(vars(owner)) for owner in owners]
    with watched() as record:
        assert is_watched(CallbackList.on_train_batch_end)
        assert all(is_watched(getattr(_trainer(), name)) for name in METHODS)
        made().fit(*data(), batch_size=8, verbose=0)
    assert [{**vars(owner)} for owner in owners] == before
    assert len(record.series("loss")) == 5


def test_stop_inside_of_a_fit() -> None:
    """From a callback: the fit ends as ever, nothing leads any more, and what was recorded by then is there."""
    from keras.src.callbacks.callback_list import CallbackList

    before = dict(vars(CallbackList))

    class Stops(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if batch == 1:
                looptap.stop()

    seen, alone = Seen(), made()
    alone.fit(*data(), batch_size=8, epochs=2, verbose=0)
    looptap.autolog(quiet=True)
    model = made()
    history = model.fit(*data(), batch_size=8, epochs=2, verbose=0, callbacks=[seen, Stops()])
    assert dict(vars(CallbackList)) == before
    assert weights(model) == weights(alone)
    assert len(history.history["loss"]) == 2
    found = looptap.get_run("latest").history("loss")
    assert list(zip(found["step"].tolist(), found["value"].tolist(), strict=True)) == seen.of_batches("loss")[:2]
    looptap.autolog(quiet=True)
    again = Seen()
    made().fit(*data(), batch_size=8, verbose=0, callbacks=[again])
    looptap.stop()
    found = looptap.get_run("latest").history("loss")
    assert list(zip(found["step"].tolist(), found["value"].tolist(), strict=True)) == again.of_batches("loss")
