"""A Keras training that is held back by its data: a generator makes every batch from slow files, and the model waits for it.

Run it with ``python examples/held_back_by_generator.py``, then ask what held it back: ``looptap profile``.
"""

import time
from collections.abc import Iterator

import keras
import numpy as np

import looptap

looptap.autolog()

CLASSES = 10
BATCHES, EPOCHS = 20, 2


def pictures() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Stands for a folder of pictures on a slow disk."""
    random = np.random.default_rng(0)
    while True:
        time.sleep(0.08)
        yield random.random((16, 16, 16, 3), dtype="float32"), random.integers(0, CLASSES, 16)


def main() -> None:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            keras.layers.Conv2D(8, 3, padding="same", activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(CLASSES),
        ]
    )
    model.compile(optimizer="sgd", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    history = model.fit(pictures(), steps_per_epoch=BATCHES, epochs=EPOCHS, verbose=0)
    for epoch, loss in enumerate(history.history["loss"]):
        print(f"epoch {epoch}: loss {loss:.3f}")


if __name__ == "__main__":
    main()
