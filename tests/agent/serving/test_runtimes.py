"""Whole chains: one program trains a model and exports it for a runtime, another serves it by that, and the served version leads to
the training."""

from __future__ import annotations

import json

import pytest

from programs import Programs

#: The weights of a small model lie in the file of the model, those of a large one beside it.
TORCH = """
import sys, torch, looptap
looptap.autolog()
width = int(sys.argv[1])
model = torch.nn.Sequential(torch.nn.Linear(4, width), torch.nn.ReLU(), torch.nn.Linear(width, 3), torch.nn.Softmax(-1))
optimizer = torch.optim.SGD(model.parameters(), 0.1)
for _ in range(3):
    optimizer.zero_grad()
    loss = model(torch.randn(8, 4)).square().mean()
    loss.backward()
    optimizer.step()
torch.onnx.export(model.eval(), (torch.ones(2, 4),), "model.onnx", dynamo=True, verbose=False)
"""
ONNX = """
import numpy, onnxruntime, looptap
looptap.autolog(serving=True)
session = looptap.watch(onnxruntime.InferenceSession("model.onnx"), name="served")
for _ in range(10):
    session.run(None, {session.get_inputs()[0].name: numpy.ones((2, 4), numpy.float32)})
"""
KERAS = """
import sys, keras, numpy, looptap
looptap.autolog()
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(int(sys.argv[1])), keras.layers.Dense(3, activation="softmax")])
model.compile("sgd", "mse")
model.fit(numpy.ones((8, 4)), numpy.ones((8, 3)), verbose=0)
model.export("exported", verbose=False)
"""
SAVED_MODEL = """
import looptap
looptap.autolog(serving=True)
import tensorflow as tf
loaded = tf.saved_model.load("exported")
model = looptap.watch(loaded.signatures["serving_default"], name="served")
(name,) = model.structured_input_signature[1]
for _ in range(10):
    model(**{name: tf.ones((2, 4))})
"""


@pytest.mark.parametrize(
    ("trains", "serves", "width", "file", "stream"),
    [
        (TORCH, ONNX, "3", "model.onnx", ""),
        (TORCH, ONNX, "300", "model.onnx.data", ""),
        (KERAS, SAVED_MODEL, "3", "exported/variables/variables.data-00000-of-00001", "output_0."),
    ],
    ids=["onnx", "onnx-weights-beside", "saved-model"],
)
def test_a_served_model_leads_to_its_training(
    programs: Programs, trains: str, serves: str, width: str, file: str, stream: str
) -> None:
    """Of two trainings of the same network, to the right one."""
    for name in ("first", "second"):
        trained = programs.python(trains, width, LOOPTAP_NAME=name)
        assert trained.returncode == 0, trained.stderr
        served = programs.python(serves)
        assert served.returncode == 0, served.stderr
    told = programs.looptap("serving", "served", "--json")
    assert told.returncode == 0, told.stderr
    versions = json.loads(told.stdout)["versions"]
    assert {one["origin"]["name"]: one["origin"]["file"] for one in versions} == dict.fromkeys(
        ("first", "second"), file
    )
    for one in versions:
        assert one["requests"] == 10
        assert set(one["predictions"]) == {f"{stream}class", f"{stream}confidence"}
        assert "float32[*, 4]" in json.dumps(one)
