"""Models and weights that Keras writes and reads: each file once, with its step and what the model takes and gives."""

from __future__ import annotations

import hashlib
import inspect
import io
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy
import pytest
import tensorflow.keras.models as of_tensorflow

from integrations.recording import Recording, recorded
from looptap_integrations.keras import KerasIntegration
from programs import Programs

#: Keras writes a folder, too, since 3.4.
HAS_FOLDERS = "zipped" in inspect.signature(keras.Model.save).parameters
FOLDER = [f"unzipped/{name}" for name in ("config.json", "metadata.json", "model.weights.h5")] if HAS_FOLDERS else []
TAKES, GIVES = "input float32[None, 3]", "output float32[None, 1]"


@pytest.fixture
def record() -> Iterator[Recording]:
    with recorded(KerasIntegration) as recording:
        yield recording


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@keras.saving.register_keras_serializable("tests")
class Own(keras.Model):
    """Of a class of the program's, which Keras knows less of."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.dense = keras.layers.Dense(1)

    def call(self, x: Any) -> Any:
        return self.dense(x)


def sequential() -> Any:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def told(record: Recording) -> list[tuple[str, str, int | None, str | None]]:
    assert all(file["kind"] == "model" for file in record.files)
    return [
        (file["name"] or os.path.basename(file["path"]), file["role"], file["step"], file["description"])
        for file in record.files
    ]


def test_every_way_to_write(record: Recording) -> None:
    """Each file once, with the step, whichever name of the function the program uses."""
    model = sequential()
    record.begin()
    record.step = 4
    model.save("method.keras")
    model.save(filepath=Path("keyword.h5"))
    keras.saving.save_model(model, "function.keras")
    keras.models.save_model(model, filepath="module.keras")
    model.save_weights("method.weights.h5")
    if HAS_FOLDERS:
        model.save("unzipped", zipped=False)
    description = f"{TAKES}; {GIVES}"
    files = ["method.keras", "keyword.h5", "function.keras", "module.keras", "method.weights.h5"]
    assert told(record) == [(name, "output", 4, description) for name in [*files, *FOLDER]]


def test_shards(record: Recording) -> None:
    """Weights in several files are all on record, and those beside them that were there before are not."""
    if "max_shard_size" not in inspect.signature(keras.Model.save_weights).parameters:
        pytest.skip("from Keras 3.10 on")
    model = sequential()
    Path("large_00007.weights.h5").write_text("of another time")
    model.save_weights("large.weights.json", max_shard_size=1.2e-8)
    names = [name for name, *_ in told(record)]
    shards = sorted(name for name in os.listdir(".") if name.endswith(".weights.h5") and "00007" not in name)
    assert len(shards) > 1
    assert names == sorted([*(f"{Path.cwd().name}/{name}" for name in shards), "large.weights.json"])
    with recorded(KerasIntegration) as other:
        os.remove("large_00007.weights.h5")
        model.load_weights("large.weights.json")
    assert [(name, role) for name, role, *_ in told(other)] == [(name, "input") for name in names]


def test_what_a_model_takes_and_gives(record: Recording) -> None:
    """Several inputs by name; of a class of the program's the shapes that it was called with; of what was not built nothing."""
    image, meta = keras.Input((8, 8, 1), name="image"), keras.Input((2,), dtype="int32", name="meta")
    joined = keras.layers.Concatenate()([keras.layers.Flatten()(image), keras.layers.Embedding(4, 3)(meta)[:, 0]])
    keras.Model([image, meta], [keras.layers.Dense(2)(joined), joined]).save("several.keras")
    own = Own()
    own(numpy.ones((5, 3), "float32"))
    own.save("own.keras")
    keras.Sequential([keras.layers.Dense(1)]).save("unbuilt.keras")
    assert [description for *_, description in told(record)] == [
        "input image: float32[None, 8, 8, 1], meta: int32[None, 2]; output float32[None, 2], float32[None, 67]",
        "input [None, 3]",
        None,
    ]


def test_checkpoints_of_a_fit(record: Recording) -> None:
    """What callbacks write is written by the model, once; the best one says so."""
    model = sequential()
    best = keras.callbacks.ModelCheckpoint("best.keras", monitor="loss", save_best_only=True, verbose=0)
    every = keras.callbacks.ModelCheckpoint("{epoch}.weights.h5", save_weights_only=True)
    backup = keras.callbacks.BackupAndRestore("backup", delete_checkpoint=False)
    model.fit(numpy.ones((4, 3)), numpy.ones((4, 1)), epochs=2, verbose=0, callbacks=[best, every, backup])
    files = [(name, description) for name, _, _, description in told(record)]
    assert sorted(files) == sorted(
        [
            *[("best.keras", f"best loss; {TAKES}; {GIVES}")] * 2,
            *((f"{epoch}.weights.h5", f"{TAKES}; {GIVES}") for epoch in (1, 2)),
            *[("latest.weights.h5", f"{TAKES}; {GIVES}")] * 2,
        ]
    )


def test_every_way_to_read(record: Recording) -> None:
    """What is read is an input, once; a file of the run itself is none."""
    model = sequential()
    with record.suppress():
        model.save("whole.keras")
        model.save("old.h5")
        if HAS_FOLDERS:
            model.save("unzipped", zipped=False)
        model.save_weights("only.weights.h5")
        model.save_weights("other.weights.h5")
        os.mkdir("only_00000.weights.h5")
    assert record.files == []
    for load in (keras.models.load_model, keras.saving.load_model):
        found = load("whole.keras")
        assert numpy.array_equal(found.layers[0].kernel, model.layers[0].kernel)
    keras.models.load_model(filepath=Path("old.h5"), compile=False)
    if HAS_FOLDERS:
        keras.models.load_model("unzipped")
    model.load_weights("only.weights.h5")
    model.load_weights("old.h5")
    model.save("own.keras")
    keras.models.load_model("own.keras")
    assert [(name, role) for name, role, *_ in told(record)] == [
        *((name, "input") for name in ("whole.keras", "old.h5", *FOLDER, "only.weights.h5")),
        ("own.keras", "output"),
    ]


def test_names_of_tensorflow(record: Recording) -> None:
    """``tf.keras`` is another package with the same functions."""
    with record.suppress():
        sequential().save("model.keras")
    of_tensorflow.load_model("model.keras")
    assert [(name, role) for name, role, *_ in told(record)] == [("model.keras", "input")]


def test_names_that_are_imported_later(programs: Programs) -> None:
    """A module that is imported later has the functions too: they are observed, and are themselves in the end."""
    done = programs.python(
        """
        import looptap
        looptap.autolog()
        import keras
        keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)]).save("model.keras")
        import tensorflow.keras.models as models
        assert models.__name__ == "tensorflow.keras.models"
        with looptap.run("reads"):
            models.load_model("model.keras")
            looptap.log_metric("done", 1.0)
        looptap.stop()
        assert models.load_model is keras.models.load_model is keras.saving.load_model
        assert not hasattr(keras.models.load_model, "__wrapped__")
        """
    )
    assert done.returncode == 0, done.stderr
    assert [(item["name"], item["role"]) for item in programs.record("reads")["artifacts"]] == [
        ("model.keras", "input")
    ]


def test_errors_are_the_users(record: Recording) -> None:
    """What cannot be written or read raises as without us, and is no file of the run."""
    Path("broken.keras").write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match="Invalid filepath extension"):
        sequential().save("no_ending")
    with pytest.raises((OSError, ValueError)):
        keras.models.load_model("missing.keras")
    with pytest.raises((OSError, ValueError)):
        keras.models.load_model("broken.keras")
    with pytest.raises(TypeError):
        sequential().save()
    with pytest.raises((TypeError, ValueError, OSError)):
        sequential().save(io.BytesIO())
    assert record.files == []


def test_everything_is_undone_and_pickles() -> None:
    """While observed, functions and models pickle and copy; afterwards every function is the identical object."""
    before = _functions()
    with recorded(KerasIntegration):
        during = _functions()
        assert all(one is not other for one, other in zip(before, during, strict=True))
        assert pickle.loads(pickle.dumps(keras.models.load_model)) is keras.models.load_model
        copy = keras.models.clone_model(pickle.loads(pickle.dumps(sequential())))
        assert copy.count_params() == 4
    assert all(one is other for one, other in zip(before, _functions(), strict=True))
    assert "save" in vars(keras.Model)


def _functions() -> list[Any]:
    import tensorflow

    return [
        keras.Model.save,
        keras.Model.save_weights,
        keras.Model.load_weights,
        keras.Model.export,
        keras.saving.save_model,
        keras.models.load_model,
        tensorflow.keras.models.load_model,
        keras.callbacks.ModelCheckpoint.on_epoch_end,
    ]


PROGRAM = """
import looptap
looptap.autolog()
import keras, numpy
assert keras.backend.backend() == "torch"
with looptap.run("pretraining"):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(numpy.ones((8, 3)), numpy.ones((8, 1)), batch_size=2, epochs=2, verbose=0)
    model.save("pretrained.keras")
with looptap.run("fine-tuning"):
    tuned = keras.models.load_model("pretrained.keras")
    tuned.fit(numpy.ones((8, 3)), numpy.ones((8, 1)), batch_size=2, verbose=0)
    tuned.save_weights("tuned.weights.h5")
"""


def test_lineage(programs: Programs) -> None:
    """The model that one run writes and another one reads has one SHA-256, that of the file; so on another backend."""
    done = programs.python(PROGRAM, KERAS_BACKEND="torch")
    assert done.returncode == 0, done.stderr
    content = hashlib.sha256((programs.folder / "pretrained.keras").read_bytes()).hexdigest()
    first, second = programs.record("pretraining")["artifacts"], programs.record("fine-tuning")["artifacts"]
    assert [(item["name"], item["role"], item["digest"]) for item in first] == [("pretrained.keras", "output", content)]
    assert [(item["name"], item["role"]) for item in second] == [
        ("pretrained.keras", "input"),
        ("tuned.weights.h5", "output"),
    ]
    assert second[0]["digest"] == content
    assert second[1]["description"] == f"{TAKES}; {GIVES}"
