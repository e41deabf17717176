"""What a call of ``fit`` was given, as settings of the run."""

from __future__ import annotations

import inspect
from typing import Any

from looptap.patching import Call

#: Data has records of its own, callbacks say themselves what they do, and output is no setting.
_BATCH_SIZE = 32
_LEFT_OUT = ("self", "x", "y", "validation_data", "sample_weight", "callbacks", "verbose")


def fit_settings(signature: inspect.Signature, call: Call) -> dict[str, Any]:
    """Arguments by name, with the defaults of those that were not given; None among them is left out."""
    try:
        bound = signature.bind(*call.args, **call.kwargs)
    except TypeError:
        return {}
    bound.apply_defaults()
    given = bound.arguments
    if (
        "batch_size" in given
        and given["batch_size"] is None
        and (given.get("y") is not None or hasattr(given["x"], "shape"))
    ):
        given["batch_size"] = _BATCH_SIZE  # what Keras takes for arrays
    return {name: value for name, value in bound.arguments.items() if name not in _LEFT_OUT and value is not None}
