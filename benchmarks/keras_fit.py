"""What logging costs a small Keras ``fit``, on each backend.

    python benchmarks/keras_fit.py                          # looptap against its off-twin, in fresh processes that take turns
    python benchmarks/keras_fit.py --peers                  # beside MLflow's Keras autolog and the W&B callback, offline
    python benchmarks/keras_fit.py --within                 # in one process: models trained with and without it, epoch by epoch

An MLP on random data, Adam, 200 batches an epoch, no progress bar, no validation. looptap gets nothing but ``autolog()`` and
records all it can; MLflow and W&B are told to log every batch. Added time is the difference of the medians over epochs, per batch;
the table has the median over pairs of processes. ``--within`` tells small differences from the noise of a shared machine: it
takes the median over single batches, from the beginning of one to that of the next. ``off again`` is a second model without us, and
shows how far two equal ones lie apart (a hook that is switched off still costs its wrapper).

The clock is a callback that Keras may call before a batch has been computed (``async_safe``): one that may not would change how
Keras works.

The peers must be installed in the same environment: ``pip install wandb "mlflow<3.18"``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BACKENDS = ("tensorflow", "jax", "torch")
PEERS = ("wandb", "mlflow")
BATCHES, BATCH_SIZE = 200, 64
GROUPS = ("off", "on", "off again")


def model_and_data(width: int) -> tuple[Any, Any, Any]:
    import keras
    import numpy as np

    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    x = random.normal(size=(BATCHES * BATCH_SIZE, 64)).astype("float32")
    y = random.integers(0, 10, len(x)).astype("int32")
    layers = [keras.layers.Dense(width, activation="relu") for _ in range(2)]
    model = keras.Sequential([keras.Input((64,)), *layers, keras.layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.Adam(1e-3), loss=loss, metrics=["accuracy"])
    return model, x, y


def times() -> Any:
    """A callback that keeps the seconds of each epoch, and of each batch but the last of an epoch."""
    import keras

    class Times(keras.callbacks.Callback):
        async_safe = True

        def __init__(self) -> None:
            super().__init__()
            self.epochs: list[float] = []
            self.batches: list[float] = []

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.began = time.perf_counter()
            self.batch_began = 0.0

        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            now = time.perf_counter()
            if self.batch_began:
                self.batches.append(now - self.batch_began)
            self.batch_began = now

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.epochs.append(time.perf_counter() - self.began)

    return Times()


def open_logger(name: str, folder: str) -> list[Any]:
    """Callbacks that the program has to pass on."""
    if name == "looptap":
        import looptap

        looptap.autolog(store=os.path.join(folder, "store"), journal=os.path.join(folder, "journal"), quiet=True)
    elif name == "wandb":
        os.environ["WANDB_SILENT"] = "true"
        import wandb
        from wandb.integration.keras import WandbMetricsLogger

        wandb.init(mode="offline", dir=folder, project="bench")
        return [WandbMetricsLogger(log_freq="batch")]
    elif name == "mlflow":
        import mlflow

        os.chdir(folder)  # where it makes a folder mlruns
        mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
        mlflow.keras.autolog(log_every_epoch=False, log_every_n_steps=1, log_models=False, log_datasets=False)
    return []


def one(name: str, width: int, epochs: int) -> dict[str, Any]:
    """The whole fit in this process."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, contextlib.redirect_stdout(sys.stderr):
        callbacks = open_logger(name, folder)
        model, x, y = model_and_data(width)
        clock = times()
        # Two epochs for warming up.
        model.fit(x, y, batch_size=BATCH_SIZE, epochs=epochs + 2, verbose=0, callbacks=[clock, *callbacks])
        checksum = sum(float(abs(weight).sum()) for weight in model.get_weights())
    return {"batch_us": [seconds / BATCHES * 1e6 for seconds in clock.epochs[2:]], "checksum": checksum.hex()}


def within(width: int, epochs: int) -> dict[str, list[float]]:
    """Microseconds of each batch, by group."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, contextlib.redirect_stdout(sys.stderr):
        open_logger("looptap", folder)
        models = {group: model_and_data(width) for group in GROUPS}
        from looptap.session import SESSION

        patchers = [SESSION.registry.entries[name].patcher for name in ("keras", "torch", "tensorflow")]
        guards = [guard for patcher in patchers if patcher is not None for guard in patcher.guards]
        found: dict[str, list[float]] = {group: [] for group in GROUPS}
        for epoch in range(epochs + 2):
            for place in range(len(GROUPS)):
                group = GROUPS[(epoch + place) % len(GROUPS)]
                for guard in guards:
                    guard.closed = group != "on"
                model, x, y = models[group]
                clock = times()
                model.fit(x, y, batch_size=BATCH_SIZE, verbose=0, callbacks=[clock])
                if epoch >= 2:
                    found[group] += [seconds * 1e6 for seconds in clock.batches]
        for guard in guards:
            guard.closed = False
    return found


def in_process(backend: str, *words: str) -> dict[str, Any]:
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend,
        "LOOPTAP_QUIET": "1",
        "OMP_NUM_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_NUM_INTRAOP_THREADS": "1",
        "TF_NUM_INTEROP_THREADS": "1",
    }
    command = [sys.executable, __file__, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} on {backend} failed:\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def compare(backend: str, name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Pairs in the order off-on, on-off, …, so that a drift of the machine hits both alike."""
    size = (str(arguments.width), str(arguments.epochs))
    pairs: list[tuple[float, float]] = []
    for number in range(arguments.pairs):
        order = ("off", name) if number % 2 == 0 else (name, "off")
        results = {logger: in_process(backend, "--one", logger, *size) for logger in order}
        assert results["off"]["checksum"] == results[name]["checksum"], "weights differ"
        off, on = (statistics.median(results[logger]["batch_us"]) for logger in ("off", name))
        pairs.append((off, on))
    return {
        "backend": backend,
        "logger": name,
        "off_batch_us": statistics.median(off for off, _ in pairs),
        "added_batch_us": statistics.median(on - off for off, on in pairs),
        "ratio": statistics.median(on / off for off, on in pairs),
    }


def compare_within(backend: str, arguments: argparse.Namespace) -> dict[str, Any]:
    found = in_process(backend, "--one-within", str(arguments.width), str(arguments.epochs))
    median = {group: statistics.median(values) for group, values in found.items()}
    return {
        "backend": backend,
        "logger": "looptap, within",
        "off_batch_us": median["off"],
        "added_batch_us": median["on"] - median["off"],
        "ratio": median["on"] / median["off"],
        "again_batch_us": median["off again"] - median["off"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--within", action="store_true")
    parser.add_argument("--backends", nargs="*", default=list(BACKENDS))
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--width", type=int, default=256, help="of the two hidden layers")
    parser.add_argument("--one", nargs=3, metavar=("LOGGER", "WIDTH", "EPOCHS"), help="in this process; prints JSON")
    parser.add_argument("--one-within", nargs=2, metavar=("WIDTH", "EPOCHS"), help="in this process; prints JSON")
    arguments = parser.parse_args()
    if arguments.one:
        name, width, epochs = arguments.one
        print(json.dumps(one(name, int(width), int(epochs))))
        return
    if arguments.one_within:
        print(json.dumps(within(*map(int, arguments.one_within))))
        return
    rows = []
    print("| backend | logger | batch without, median | added per batch | ratio | off again |")
    print("|---|---|---|---|---|---|")
    loggers = ("looptap", *(PEERS if arguments.peers else ()))
    for backend in arguments.backends:
        for name in loggers:
            row = compare_within(backend, arguments) if arguments.within else compare(backend, name, arguments)
            rows.append(row)
            again = f"{row['again_batch_us']:+.1f} µs" if "again_batch_us" in row else ""
            print(
                f"| {backend} | {row['logger']} | {row['off_batch_us']:.0f} µs | {row['added_batch_us']:+.1f} µs"
                f" | {row['ratio']:.4f} | {again} |",
                flush=True,
            )
            if arguments.within:
                break
    (HERE / "results").mkdir(exist_ok=True)
    name = "keras_fit_within.json" if arguments.within else "keras_fit.json"
    (HERE / "results" / name).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
