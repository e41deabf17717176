"""TensorBoard: what the program hands to a ``SummaryWriter``, of PyTorch or of tensorboardX, is on record here as well."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from looptap.integration import Capture, Integration
from looptap.measuring import has_one_number
from looptap.patching import Call, Observation, Patcher, is_watched
from looptap.recorder import Recorder

SOURCE = "tensorboard"


class TensorBoardIntegration(Integration):
    captures = (
        Capture("scalars, under their tag and step", "SummaryWriter.add_scalar, add_scalars", "each call"),
        Capture("hyperparameters and their metrics", "SummaryWriter.add_hparams", "each call"),
        Capture(
            "of a histogram its min, max, mean, std and count (tag/min, …)",
            "SummaryWriter.add_histogram",
            "each call",
            "one pass over the values more than TensorBoard's own",
        ),
    )
    not_captured = ("images, audio, text, graphs and embeddings: they stay in TensorBoard's own files",)

    def install(self, patch: Patcher, record: Recorder) -> None:
        # One integration for both packages, woken by each.
        for name in ("torch.utils.tensorboard", "tensorboardX"):
            writer = getattr(sys.modules.get(name), "SummaryWriter", None)
            if writer is None or is_watched(writer.add_scalar):
                continue
            patch.observe(writer, "add_scalar", self.on_scalar)
            patch.observe(writer, "add_scalars", self.on_scalars)
            patch.observe(writer, "add_hparams", self.on_hparams)
            patch.observe(writer, "add_histogram", self.on_histogram)
            patch.observe(writer, "add_image", self.on_image)

    def on_scalar(self, call: Call) -> Observation:
        with self.record.tee() as is_ours:
            yield
        if is_ours and call.error is None:
            tag, value, step = _arguments(call, "tag", "scalar_value", "global_step")
            self._log({tag: value}, step)

    def on_scalars(self, call: Call) -> Observation:
        with self.record.tee() as is_ours:
            yield
        if is_ours and call.error is None:
            main, values, step = _arguments(call, "main_tag", "tag_scalar_dict", "global_step")
            self._log({f"{main}/{tag}": value for tag, value in values.items()}, step)

    def on_hparams(self, call: Call) -> Observation:
        with self.record.tee() as is_ours:
            yield
        if is_ours and call.error is None:
            settings, metrics = _arguments(call, "hparam_dict", "metric_dict")
            self.record.params(settings, SOURCE)
            self._log(metrics, call.kwargs.get("global_step"))

    def on_histogram(self, call: Call) -> Observation:
        with self.record.tee() as is_ours:
            yield
        if is_ours and call.error is None:
            tag, values, step = _arguments(call, "tag", "values", "global_step")
            self._log({f"{tag}/{name}": value for name, value in _summary(values).items()}, step)

    def on_image(self, call: Call) -> Observation:
        with self.record.tee() as is_ours:
            yield
        if is_ours:
            self.record.note(SOURCE, "images stay in TensorBoard's own files")

    def _log(self, values: Mapping[str, Any], step: Any) -> None:
        values = {key: value for key, value in values.items() if has_one_number(value)}
        if values:
            self.record.log_metrics(values, step=step, source=SOURCE)


def _arguments(call: Call, *names: str) -> list[Any]:
    """The first arguments of the method, by position or name; None where they are not given."""
    given = call.args[1:]
    return [given[place] if place < len(given) else call.kwargs.get(name) for place, name in enumerate(names)]


def _summary(values: Any) -> dict[str, Any]:
    """Where they are: on a device this is work for the device, and the numbers follow."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(values, torch.Tensor):
        with torch.no_grad():
            values = values.detach().reshape(-1).to(torch.float64 if values.is_cpu else torch.float32)
            if not values.numel():
                return {}
            lowest, highest = torch.aminmax(values)
            std, mean = torch.std_mean(values, correction=0)
        return {"min": lowest, "max": highest, "mean": mean, "std": std, "count": values.numel()}
    import numpy  # TensorBoard has it

    array = numpy.asarray(values, dtype=numpy.float64).reshape(-1)
    if not array.size:
        return {}
    return {"min": array.min(), "max": array.max(), "mean": array.mean(), "std": array.std(), "count": array.size}
