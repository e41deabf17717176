"""looptap: auto-logging for deep learning. One line, and the training run is on record::

import looptap

looptap.autolog()
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from looptap.api import (
    autolog,
    current_run,
    end_run,
    flush,
    log_artifact,
    log_dataset,
    log_metric,
    log_metrics,
    log_outcome,
    log_param,
    log_params,
    prediction_id,
    run,
    set_tag,
    start_run,
    status,
    stop,
    suppress,
    watch,
)
from looptap.integration import Integration
from looptap.settings import Settings

if TYPE_CHECKING:
    from looptap.reading import get_run, search_runs

__version__ = "0.1.0"

__all__ = [
    "Integration",
    "Settings",
    "__version__",
    "autolog",
    "current_run",
    "end_run",
    "flush",
    "get_run",
    "log_artifact",
    "log_dataset",
    "log_metric",
    "log_metrics",
    "log_outcome",
    "log_param",
    "log_params",
    "prediction_id",
    "run",
    "search_runs",
    "set_tag",
    "start_run",
    "status",
    "stop",
    "suppress",
    "watch",
]


def __dir__() -> list[str]:
    # For tab completion: also what is imported when first asked for, and nothing else.
    return list(__all__)


def __getattr__(name: str) -> Any:
    # Reading needs the collector, and training code does not: imported when first asked for.
    if name in ("get_run", "search_runs"):
        from looptap import reading

        return getattr(reading, name)
    raise AttributeError(f"module 'looptap' has no attribute {name!r}")
