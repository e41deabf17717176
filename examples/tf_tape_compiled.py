"""A training loop with a ``GradientTape``, compiled: the loop over the data is part of the graph, and each epoch is one call.

Every step of it has its loss and its learning rate on record, to the last bit. With ``--xla`` the step is compiled by XLA.
"""

import argparse

import keras
import numpy as np
import tensorflow as tf

import looptap

looptap.autolog()

HIDDEN = 16
BATCH_SIZE = 20

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--lr", type=float, default=0.05)
parser.add_argument("--xla", action="store_true")
arguments = parser.parse_args()

keras.utils.set_random_seed(3)
angle = np.random.default_rng(3).uniform(0, np.pi, size=200)
outer = np.arange(200) % 2
points = np.stack([np.cos(angle) * (1 - 2 * outer) + outer, np.sin(angle) * (1 - 2 * outer) + outer / 2], axis=1)
train_data = tf.data.Dataset.from_tensor_slices((points.astype("float32"), outer.astype("int32")))
train_data = train_data.shuffle(200, seed=3).batch(BATCH_SIZE)

model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(HIDDEN, "tanh"), keras.layers.Dense(2)])
schedule = keras.optimizers.schedules.CosineDecay(arguments.lr, decay_steps=10 * arguments.epochs)
optimizer = keras.optimizers.Adam(schedule)
optimizer.build(model.trainable_variables)


@tf.function(jit_compile=arguments.xla or None)
def train_step(inputs: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    with tf.GradientTape() as tape:
        logits = model(inputs, training=True)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


@tf.function
def train_epoch(data: tf.data.Dataset) -> tf.Tensor:
    losses = tf.TensorArray(tf.float32, size=0, dynamic_size=True)
    for inputs, labels in data:
        losses = losses.write(losses.size(), train_step(inputs, labels))
    return losses.stack()


step = 0
for _ in range(arguments.epochs):
    for loss in train_epoch(train_data).numpy():
        print(f"step {step} loss {float(loss)!r}")
        step += 1
