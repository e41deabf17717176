"""Whole programs with TensorFlow: lineage of SavedModels and checkpoints from one run to the next, and the data of a loop."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import tensorflow as tf

from programs import Programs, assert_conserved

WRITES = """
import looptap
looptap.autolog(name="pretraining")
import tensorflow as tf

class Scale(tf.Module):
    def __init__(self):
        self.by = tf.Variable([[1.0], [2.0]])
    @tf.function(input_signature=[tf.TensorSpec((None, 2), tf.float32)])
    def __call__(self, x):
        return x @ self.by

def parsed(record):
    return tf.io.parse_tensor(record, tf.float32)

scale = Scale()
optimizer = tf.keras.optimizers.SGD(0.01)
train = tf.data.Dataset.list_files("records/*.tfrecord").interleave(tf.data.TFRecordDataset).map(parsed).batch(2)

@tf.function
def step(batch):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((tf.reshape(batch, (-1, 2)) @ scale.by) ** 2)
    optimizer.apply_gradients([(tape.gradient(loss, scale.by), scale.by)])
    return loss

manager = tf.train.CheckpointManager(tf.train.Checkpoint(by=scale.by), "kept", max_to_keep=None)
for _ in range(2):
    for batch in train:
        step(batch)
    manager.save()
tf.saved_model.save(scale, "served")
model = tf.keras.Sequential([tf.keras.Input((2,)), tf.keras.layers.Dense(1)])
model.save("model.keras")
"""
READS = """
import looptap
looptap.autolog(name="fine-tuning")
import tensorflow as tf
with looptap.run("fine-tuning"):
    tf.train.Checkpoint(by=tf.Variable([[0.0], [0.0]])).restore(tf.train.latest_checkpoint("kept")).assert_consumed()
    assert tf.saved_model.load("served")(tf.ones((1, 2))).shape == (1, 1)
    tf.keras.models.load_model("model.keras")
    looptap.log_metric("done", 1.0)
"""


def artifacts(record: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {item["name"]: item for item in record["artifacts"]}


def test_lineage(programs: Programs) -> None:
    """Each file has the step that it was written after, the SHA-256 of its content, and the same one where it is read."""
    (programs.folder / "records").mkdir()
    for number in range(4):
        with tf.io.TFRecordWriter(str(programs.folder / "records" / f"{number}.tfrecord")) as writer:
            writer.write(tf.io.serialize_tensor(tf.ones((2,)) * number).numpy())
    for program in (WRITES, READS):
        done = programs.python(program)
        assert done.returncode == 0, done.stderr
    pretraining = programs.record("pretraining")
    written, read = artifacts(pretraining), artifacts(programs.record("fine-tuning"))
    saved = [f"served/{path.relative_to(programs.folder / 'served')}" for path in below(programs.folder / "served")]
    inputs = [f"kept/ckpt-2{ending}" for ending in (".data-00000-of-00001", ".index")] + saved + ["model.keras"]
    assert len(saved) == 4
    assert {name: item["role"] for name, item in read.items()} == dict.fromkeys(inputs, "input")
    for name in inputs:
        content = hashlib.sha256((programs.folder / name).read_bytes()).hexdigest()
        assert written[name]["digest"] == read[name]["digest"] == content
    steps = {name: item["step"] for name, item in written.items()}
    assert (steps["kept/ckpt-1.index"], steps["kept/ckpt-2.index"], steps["served/saved_model.pb"]) == (1, 3, 3)
    assert written["model.keras"]["description"] == "input float32[None, 2]; output float32[None, 1]"
    (told,) = pretraining["datasets"]
    assert (told["role"], told["name"], told["kind"]) == ("train", "records", "tf.data")
    assert told["details"]["files"] == 4
    assert told["covers"] == "names, sizes, mtimes"
    assert told["transform"] == "interleave(TFRecordDataset), map(parsed)"
    assert_conserved(pretraining)


def below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
