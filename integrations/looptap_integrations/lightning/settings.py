"""What was set how: the hyperparameters of the user's module, and the Trainer's settings."""

from __future__ import annotations

from typing import Any

_SETTINGS = (
    "max_epochs",
    "min_epochs",
    "max_steps",
    "min_steps",
    "accumulate_grad_batches",
    "gradient_clip_val",
    "gradient_clip_algorithm",
    "check_val_every_n_epoch",
    "val_check_interval",
    "limit_train_batches",
    "limit_val_batches",
    "overfit_batches",
    "num_devices",
    "num_nodes",
    "world_size",
    "fast_dev_run",
)


def hyperparameters(*owners: Any) -> dict[str, Any]:
    """What ``save_hyperparameters()`` has gathered in a module and a data module, as it was then."""
    found: dict[str, Any] = {}
    for owner in owners:
        initial = getattr(owner, "hparams_initial", None) or {}
        found.update((key, value) for key, value in initial.items() if key != "_class_path")  # LightningCLI's own note
    return found


def trainer_settings(trainer: Any) -> dict[str, Any]:
    settings = {name: getattr(trainer, name) for name in _SETTINGS if hasattr(trainer, name)}
    return {
        **settings,
        "precision": trainer.precision,
        "strategy": type(trainer.strategy).__name__,
        "accelerator": type(trainer.accelerator).__name__,
        "callbacks": [
            type(callback).__name__ for callback in trainer.callbacks if type(callback).__name__ != "LooptapCallback"
        ],
        "loggers": [type(logger).__name__ for logger in trainer.loggers],
    }
