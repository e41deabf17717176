"""Keras' ``fit`` on any backend: a small network learns to tell two moons apart.

Run it with ``python examples/keras_fit.py`` (with ``KERAS_BACKEND=jax`` or ``torch`` on another backend than TensorFlow), then look
at the record with ``looptap show latest``.
"""

import argparse

import keras
import numpy as np

import looptap

looptap.autolog()


class Prints(keras.callbacks.Callback):
    """What the program is told itself, to compare it with the record."""

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        self.step = 0

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        logs = logs or {}
        print(f"step {self.step} loss {logs['loss']!r} accuracy {logs['accuracy']!r}")
        self.step += 1

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        logs = logs or {}
        print(f"epoch {epoch}: loss {logs['loss']:.3f}, val_loss {logs['val_loss']:.3f}")


def two_moons(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    angle = random.random(count) * np.pi
    side = random.integers(0, 2, count)
    x = np.where(side == 0, np.cos(angle), 1 - np.cos(angle))
    y = np.where(side == 0, np.sin(angle), 0.5 - np.sin(angle))
    points = np.stack([x, y], axis=1) + 0.1 * random.normal(size=(count, 2))
    return points.astype("float32"), side.astype("int32")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    keras.utils.set_random_seed(args.seed)
    x_train, y_train = two_moons(1000, seed=1)
    x_test, y_test = two_moons(200, seed=2)
    model = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(32, activation="relu"), keras.layers.Dense(2)], name="two_moons"
    )
    model.compile(
        optimizer=keras.optimizers.AdamW(args.lr),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(
        x_train,
        y_train,
        batch_size=args.batch_size,
        epochs=args.epochs,
        validation_split=0.2,
        callbacks=[Prints()],
        verbose=0,
    )
    loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
    print(f"test: loss {loss!r} accuracy {accuracy!r}")
    model.save("two-moons.keras")


if __name__ == "__main__":
    main()
