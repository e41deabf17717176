"""Models of real frameworks, trained by one program and asked by another: the version leads from the one to the other."""

from __future__ import annotations

import hashlib
import json
import sys
from typing import Any

import pytest

from programs import Programs

KERAS_TRAINING = """
import looptap
looptap.autolog()
import keras, numpy as np
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
model.compile("sgd", "sparse_categorical_crossentropy")
rows = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
model.fit(rows, rows.argmax(1) % 3, epochs=1, verbose=0)
model.save("model.keras")
"""
KERAS_SERVING = """
import looptap
looptap.autolog(serving=True)
import keras, numpy as np
model = keras.saving.load_model("model.keras")
watched = looptap.watch(model, name="served")
assert isinstance(watched, keras.Model)
rows = np.ones((5, 4), "float32")
expected = model.predict(rows, verbose=0)
assert (watched.predict(rows, verbose=0) == expected).all()
assert np.allclose(keras.ops.convert_to_numpy(watched(rows)), expected)
watched(rows, training=True)
assert (watched.predict_on_batch(rows) == expected).all()
assert len(watched.layers) == 1
"""
KERAS_EVALUATING = """
import looptap
looptap.autolog()
import keras, numpy as np
keras.utils.set_random_seed(0)
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
model.compile(keras.optimizers.Adam(0.05), "sparse_categorical_crossentropy")
rows = np.random.default_rng(0).normal(size=(2_000, 4)).astype("float32")
wants = (rows[:, 0] > 0.5).astype(int) + (rows[:, 1] > 0.5)
if keras.backend.backend() == "torch":
    model.fit(rows[:1_000], wants[:1_000], epochs=2, verbose=0, validation_data=(rows[1_000:], wants[1_000:]))
else:
    model.fit(rows[:1_000], wants[:1_000], epochs=2, verbose=0)
    model.predict(rows[1_000:], verbose=0)
model.save("model.keras")
"""
KERAS_DRIFTING = """
import sys, time
import looptap
looptap.autolog(serving=True)
import keras, numpy as np
from looptap.session import SESSION
shift = float(sys.argv[1])
model = looptap.watch(keras.saving.load_model("model.keras"), name=f"shifted by {shift:g}")
random = np.random.default_rng(1)

def ask():
    model.predict_on_batch(random.normal(shift, size=(64, 4)).astype("float32"))

ask()
SESSION.serving.wait_for_run(30)
while not any(SESSION.serving._drifts._known.values()):
    time.sleep(0.1)
for _ in range(40):
    ask()
"""
TENSORFLOW_SERVING = """
import looptap
looptap.autolog(serving=True)
import numpy as np, tensorflow as tf

class Doubling(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec((None, 3), tf.float32)])
    def double(self, rows):
        return {"rows": rows * 2}

module = Doubling()
tf.saved_model.save(module, "saved", signatures=module.double)
signature = tf.saved_model.load("saved").signatures["serving_default"]
watched = looptap.watch(signature, name="served")
assert np.array_equal(watched(rows=tf.ones((2, 3)))["rows"], np.full((2, 3), 2.0))
assert watched.structured_outputs == signature.structured_outputs
"""
TORCH_TRAINING = """
import looptap
looptap.autolog()
import torch
from safetensors.torch import save_file
model = torch.nn.Linear(4, 3)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
loss = model(torch.ones(2, 4)).sum()
loss.backward()
optimizer.step()
save_file(model.state_dict(), "model.safetensors")
torch.jit.script(model).save("scripted.pt")
torch.save({"epoch": 3, "model": model.state_dict(), "optimizer": optimizer.state_dict()}, "checkpoint.pt")
"""
CONVERTING = """
import torch
from safetensors.torch import load_file, save_file
state = torch.load("checkpoint.pt")["model"]
torch.save({f"net.{name}": tensor for name, tensor in state.items()}, "converted.pt")
save_file(load_file("model.safetensors"), "converted.safetensors", metadata={"by": "hand"})
"""
CONVERTED_SERVING = """
import io
import looptap
looptap.autolog(serving=True)
import torch
from safetensors.torch import load_file
from looptap.session import SESSION

def served(state, name):
    model = torch.nn.Linear(4, 3)
    model.load_state_dict({key.rpartition(".")[2]: tensor for key, tensor in state.items()})
    looptap.watch(model.eval(), name=name)(torch.ones(2, 4))

served(torch.load("converted.pt"), "from a part")
served(load_file("converted.safetensors"), "from another file")
with open("checkpoint.pt", "rb") as file:
    served(torch.load(io.BytesIO(file.read()))["model"], "from memory")
looptap.watch(torch.nn.Linear(4, 3).eval(), name="new")(torch.ones(2, 4))
SESSION.serving.wait_for_run(30)
"""
TORCH_SERVING = """
import looptap
looptap.autolog(serving=True)
import torch
from safetensors.torch import load_file
model = torch.nn.Linear(4, 3)
model.load_state_dict(load_file("model.safetensors"))
looptap.watch(model.eval(), name="served")(torch.ones(2, 4))
mixed = torch.nn.Linear(4, 3)
state = load_file("model.safetensors")
state["bias"] = torch.zeros(3)
mixed.load_state_dict(state)
looptap.watch(mixed.eval(), name="changed")(torch.ones(2, 4))
looptap.watch(torch.jit.load("scripted.pt").eval(), name="scripted")(torch.ones(2, 4))
"""

PRETRAINED_TRAINING = """
import looptap
looptap.autolog()
import torch
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast
with open("vocab.txt", "w") as file:
    file.write("\\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad"]))
sizes = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=7)
model = BertForSequenceClassification(BertConfig(**sizes))
optimizer = torch.optim.SGD(model.parameters(), 0.1)
loss = model(torch.ones(1, 3, dtype=torch.long), labels=torch.ones(1, dtype=torch.long)).loss
loss.backward()
optimizer.step()
model.save_pretrained("trained")
BertTokenizerFast("vocab.txt").save_pretrained("trained")
"""
PRETRAINED_SERVING = """
import looptap
looptap.autolog(serving=True)
import torch
from transformers import AutoModelForSequenceClassification, pipeline
model = AutoModelForSequenceClassification.from_pretrained("trained")
rows = torch.ones(2, 3, dtype=torch.long)
with torch.no_grad():
    assert torch.equal(looptap.watch(model, name="served")(rows).logits, model(rows).logits)
classify = pipeline("text-classification", model="trained", device="cpu")
assert looptap.watch(classify, name="pipeline")("good good") == classify("good good")
looptap.watch(classify.model.forward, name="method")(rows)
"""


def run(programs: Programs, code: str, **more: str) -> None:
    done = programs.python(code, **more)
    assert done.returncode == 0, done.stderr


def served(programs: Programs, name: str = "served") -> Any:
    told = programs.looptap("serving", name, "--json")
    assert told.returncode == 0, told.stderr
    (version,) = json.loads(told.stdout)["versions"]
    return version


def digest(programs: Programs, name: str) -> str:
    return hashlib.sha256((programs.folder / name).read_bytes()).hexdigest()


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_keras(programs: Programs, backend: str) -> None:
    pytest.importorskip("keras")
    run(programs, KERAS_TRAINING, KERAS_BACKEND=backend)
    run(programs, KERAS_SERVING, KERAS_BACKEND=backend)
    found = served(programs)
    assert (found["requests"], found["version"]) == (3, digest(programs, "model.keras"))
    assert found["origin"]["file"] == "model.keras"
    assert found["predictions"]["class"]["count"] == 15


@pytest.mark.parametrize(("backend", "told"), [("tensorflow", "predictions in training"), ("torch", "validation")])
def test_drift_of_keras(programs: Programs, backend: str, told: str) -> None:
    """From its predictions in training, or from its validation where that can be seen."""
    pytest.importorskip("keras")
    run(programs, KERAS_EVALUATING, KERAS_BACKEND=backend)
    (trained,) = programs.runs()
    said = (
        f"(version {digest(programs, 'model.keras')[:12]}, trained by {trained['name']}) have drifted from its {told}: "
    )
    for shift, has_drifted in (("0", False), ("1", True)):
        done = programs.python(KERAS_DRIFTING, shift, KERAS_BACKEND=backend)
        assert done.returncode == 0, done.stderr
        assert (said in done.stderr) is has_drifted, done.stderr
        held = served(programs, f"shifted by {shift}")["drift"]
        (of_classes,) = (one for one in held if (one["against"], one["stream"]) == ("training", "class"))
        assert (of_classes["comparison"]["verdict"] in ("moderate", "large")) is has_drifted


def test_signature_of_a_saved_model(programs: Programs) -> None:
    """Without a variable it is known by its graph; with some, by these (test_runtimes.py)."""
    pytest.importorskip("tensorflow")
    run(programs, TENSORFLOW_SERVING)
    found = served(programs)
    assert (found["requests"], found["version"]) == (1, digest(programs, "saved/saved_model.pb"))
    assert found["predictions"]["rows.class"]["count"] == 2


def test_torch(programs: Programs) -> None:
    """Weights of one file are known by it; if one array came from elsewhere, nobody knows whose they are."""
    pytest.importorskip("safetensors")
    run(programs, TORCH_TRAINING)
    run(programs, TORCH_SERVING)
    found = served(programs)
    assert (found["requests"], found["version"]) == (1, digest(programs, "model.safetensors"))
    assert found["origin"]["file"] == "model.safetensors"
    changed = served(programs, "changed")
    assert (changed["digest"], changed["origin"]) == (None, None)
    assert changed["version"] == changed["weights"] != found["weights"]
    assert served(programs, "scripted")["version"] == digest(programs, "scripted.pt")


def test_by_the_weights_themselves(programs: Programs) -> None:
    """Of a file that nobody recorded, or of none: the training that wrote them is found; what nobody wrote stays unknown."""
    pytest.importorskip("safetensors")
    run(programs, TORCH_TRAINING)
    done = programs.command([sys.executable, str(programs.script(CONVERTING))])
    assert done.returncode == 0, done.stderr
    run(programs, CONVERTED_SERVING)
    trained = next(one for one in programs.runs() if one["kind"] == "training")
    (weights,) = {
        one["weights"] for one in programs.record(trained["id"])["artifacts"] if one["name"] == "checkpoint.pt"
    }
    for name, file in (
        ("from a part", "converted.pt"),
        ("from another file", "converted.safetensors"),
        ("from memory", None),
    ):
        found = served(programs, name)
        assert found["version"] == (weights if file is None else digest(programs, file))
        assert found["weights"] == weights
        assert found["origin"]["run"] == trained["id"]
    new = served(programs, "new")
    assert (new["origin"], new["version"]) == (None, new["weights"])
    assert new["weights"] not in (None, weights)


def test_pretrained(programs: Programs) -> None:
    """A model of ``from_pretrained``, a pipeline around one, and a method of it."""
    pytest.importorskip("transformers")
    run(programs, PRETRAINED_TRAINING)
    run(programs, PRETRAINED_SERVING)
    trained = next(one for one in programs.runs() if one["kind"] == "training")
    for name in ("served", "pipeline", "method"):
        found = served(programs, name)
        assert (found["requests"], found["version"]) == (1, digest(programs, "trained/model.safetensors"))
        assert (found["origin"]["run"], found["origin"]["file"]) == (trained["id"], "trained/model.safetensors")
    assert served(programs, "pipeline")["predictions"]["score.value"]["count"] == 1
