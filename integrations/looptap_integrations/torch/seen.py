"""Predictions and labels that a loss was computed from."""

from __future__ import annotations

import torch

from looptap.serving.answers import Skipped, keep
from looptap.serving.reference import Batch
from looptap_integrations.torch.losses import Seen

#: What turns the first argument of a loss function into what it stands for.
_LINKS = {
    "cross_entropy": "softmax",
    "nll_loss": "exp",
    "binary_cross_entropy_with_logits": "sigmoid",
    "binary_cross_entropy": "",
    "mse_loss": "",
    "l1_loss": "",
    "smooth_l1_loss": "",
    "huber_loss": "",
}


def seen_batch(seen: Seen) -> Batch | None:
    """None where there is nothing that a served model could be compared with: pictures, sequences, values that a device does not
    give."""
    link = _LINKS.get(seen.function)
    predicted, labels = seen.predicted, seen.labels
    if link is None or predicted.dim() > 2 or not isinstance(labels, torch.Tensor) or labels.dim() > 2:
        return None
    kept, truth = keep(predicted), keep(labels)
    return None if isinstance(kept, Skipped) else Batch(kept, truth, link)
