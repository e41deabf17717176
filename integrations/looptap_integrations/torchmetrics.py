"""torchmetrics: what the program computes with ``compute()``."""

from __future__ import annotations

import sys
from types import FrameType

from looptap.frames import caller, local_variables, package_of
from looptap.integration import Capture, Integration
from looptap.measuring import log_measured, snake_case
from looptap.patching import Call, Observation, Patcher
from looptap.recorder import Recorder

SOURCE = "torchmetrics"


class TorchmetricsIntegration(Integration):
    requires = "torchmetrics>=1.0"
    captures = (
        Capture(
            "the values of metrics, named by the variable or the class (accuracy, validation/multiclass_f1_score);"
            " one series per key of a MetricCollection, one per class of a vector",
            "compute() of Metric and MetricCollection, called by the program",
            "each call",
        ),
    )
    not_captured = (
        "what forward() gives for a batch, metric(preds, target): that is no more than a part of the result",
        "metrics that are no numbers: curves, confusion matrices",
    )

    def install(self, patch: Patcher, record: Recorder) -> None:
        import torchmetrics
        from torchmetrics import metric

        # Each metric has a compute() of its own, made in its constructor. This is what all of them call with the result,
        # those made before us too; and not when they give the same result once more.
        patch.observe(metric, "_squeeze_if_scalar", self.on_result)
        patch.observe(torchmetrics.MetricCollection, "compute", self.on_compute)
        patch.observe(metric.CompositionalMetric, "compute", self.on_compute)
        for kind in vars(torchmetrics.wrappers).values():
            if isinstance(kind, type) and "compute" in vars(kind):
                patch.observe(kind, "compute", self.on_compute)

    def on_result(self, call: Call) -> Observation:
        with self.record.tee() as is_ours:
            yield
        if not is_ours or call.error is not None:
            return
        frame = caller(sys._getframe(1))
        if frame is None or frame.f_code.co_name != "wrapped_func" or _is_theirs(frame.f_back):
            return
        instance = local_variables(frame).get("self")
        if instance is not None:
            log_measured(self.record, call.result, snake_case(type(instance).__name__), frame.f_back, SOURCE)

    def on_compute(self, call: Call) -> Observation:
        frame = caller(sys._getframe(1))
        with self.record.tee() as is_ours:
            yield
        if is_ours and call.error is None and not _is_theirs(frame):
            log_measured(self.record, call.result, snake_case(type(call.instance).__name__), frame, SOURCE)


def _is_theirs(frame: FrameType | None) -> bool:
    """Whether a metric calls another one: forward(), wrappers, trackers."""
    return package_of(frame) in ("", "torchmetrics")
