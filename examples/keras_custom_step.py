"""A model with a ``train_step`` of its own, on TensorFlow: an autoencoder with two losses, whose sum it descends.

``fit`` tells the running means of an epoch. The losses of each batch itself are recorded beside them: ``batch_loss``,
``batch_reconstruction_loss``, ``batch_kl_loss``, by the metrics that keep the means.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

from typing import Any

import keras
import numpy as np
import tensorflow as tf

import looptap

looptap.autolog()

WEIGHT = 0.1
BATCH_SIZE = 50


class Autoencoder(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = keras.layers.Dense(4)
        self.decoder = keras.layers.Dense(8)
        self.loss_tracker = keras.metrics.Mean(name="loss")
        self.reconstruction_tracker = keras.metrics.Mean(name="reconstruction_loss")
        self.kl_tracker = keras.metrics.Mean(name="kl_loss")

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return [self.loss_tracker, self.reconstruction_tracker, self.kl_tracker]

    def train_step(self, data: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.GradientTape() as tape:
            mean, log_variance = tf.split(self.encoder(data), 2, axis=1)
            sampled = mean + tf.exp(0.5 * log_variance) * tf.random.normal(tf.shape(mean), seed=3)
            reconstruction_loss = tf.reduce_mean((self.decoder(sampled) - data) ** 2)
            kl_loss = -0.5 * tf.reduce_mean(1 + log_variance - mean**2 - tf.exp(log_variance))
            loss = reconstruction_loss + WEIGHT * kl_loss
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        self.loss_tracker.update_state(loss)
        self.reconstruction_tracker.update_state(reconstruction_loss)
        self.kl_tracker.update_state(kl_loss)
        return {metric.name: metric.result() for metric in self.metrics}


class Prints(keras.callbacks.Callback):
    def on_train_begin(self, logs: Any = None) -> None:
        self.step = 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        print(f"step {self.step}", *(f"{name} {value!r}" for name, value in logs.items()))
        self.step += 1


keras.utils.set_random_seed(0)
x = np.random.default_rng(0).normal(size=(400, 8)).astype("float32")
model = Autoencoder()
model.compile(optimizer=keras.optimizers.Adam(0.01))
model.fit(x, batch_size=BATCH_SIZE, epochs=3, callbacks=[Prints()], verbose=0)
