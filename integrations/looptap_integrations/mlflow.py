"""MLflow: what the program logs to a run there is on record here as well."""

from __future__ import annotations

import os
from typing import Any

from looptap.integration import Capture, Integration
from looptap.patching import Call, Observation, Patcher
from looptap.recorder import Recorder

SOURCE = "mlflow"
#: Files of one log_artifacts().
_FILES = 1_000


class MlflowIntegration(Integration):
    requires = "mlflow>=2.0"
    captures = (
        Capture(
            "metrics, at their step if one is given, else at the step of the training that is under way",
            "mlflow.log_metric, log_metrics; MlflowClient.log_metric, log_batch",
            "each call",
        ),
        Capture("params", "mlflow.log_param, log_params; MlflowClient.log_param, log_batch", "each call"),
        Capture("tags", "mlflow.set_tag, set_tags; MlflowClient.set_tag, log_batch", "each call"),
        Capture(
            "files", "mlflow.log_artifact, log_artifacts; the methods of MlflowClient", "each call", "in the background"
        ),
    )
    not_captured = (
        "figures, texts, tables, dicts and models that MLflow writes itself",
        "that a call gave no step, where the program imported log_metric by name before autolog(): MLflow then says 0",
    )

    def install(self, patch: Patcher, record: Recorder) -> None:
        from mlflow import MlflowClient

        # The functions, because they say whether a step was given; and what they call, for those who call it themselves.
        for module in ("mlflow.tracking.fluent", "mlflow"):
            patch.observe(module, "log_metric", self.on_log_metric)
            patch.observe(module, "log_metrics", self.on_log_metrics)
        patch.observe(MlflowClient, "log_metric", self.on_client_metric)
        patch.observe(MlflowClient, "log_batch", self.on_batch)
        patch.observe(MlflowClient, "log_param", self.on_param)
        patch.observe(MlflowClient, "set_tag", self.on_tag)
        patch.observe(MlflowClient, "log_artifact", self.on_artifact)
        patch.observe(MlflowClient, "log_artifacts", self.on_artifacts)

    def on_log_metric(self, call: Call) -> Observation:
        with self.record.tee() as is_ours:
            yield
        if is_ours and call.error is None:
            key, value, step = _arguments(call.args, call.kwargs, "key", "value", "step")
            self.record.log_metrics({key: value}, step=step, source=SOURCE)

    def on_log_metrics(self, call: Call) -> Observation:
        with self.record.tee() as is_ours:
            yield
        if is_ours and call.error is None:
            values, step = _arguments(call.args, call.kwargs, "metrics", "step")
            self.record.log_metrics(values, step=step, source=SOURCE)

    def on_client_metric(self, call: Call) -> Observation:
        with self.record.tee() as is_ours:
            yield
        if is_ours and call.error is None:
            _, key, value, _, step = _arguments(
                call.args[1:], call.kwargs, "run_id", "key", "value", "timestamp", "step"
            )
            self.record.log_metrics({key: value}, step=step, source=SOURCE)

    def on_batch(self, call: Call) -> Observation:
        with self.record.tee() as is_ours:
            yield
        if is_ours and call.error is None:
            _, metrics, params, tags = _arguments(call.args[1:], call.kwargs, "run_id", "metrics", "params", "tags")
            for metric in metrics or ():
                self.record.log_metrics({metric.key: metric.value}, step=metric.step, source=SOURCE)
            self.record.params({param.key: param.value for param in params or ()}, SOURCE)
            for tag in tags or ():
                self._tag(tag.key, tag.value)

    def on_param(self, call: Call) -> Observation:
        with self.record.tee() as is_ours:
            yield
        if is_ours and call.error is None:
            _, key, value = _arguments(call.args[1:], call.kwargs, "run_id", "key", "value")
            self.record.param(key, value, SOURCE)

    def on_tag(self, call: Call) -> Observation:
        with self.record.tee() as is_ours:
            yield
        if is_ours and call.error is None:
            _, key, value = _arguments(call.args[1:], call.kwargs, "run_id", "key", "value")
            self._tag(key, value)

    def on_artifact(self, call: Call) -> Observation:
        # A file may be in a folder that is gone when the call has returned, but not before.
        with self.record.tee() as is_ours:
            yield
        if is_ours and call.error is None:
            _, path = _arguments(call.args[1:], call.kwargs, "run_id", "local_path")
            if os.path.isfile(path):
                self.record.file(path)
            elif os.path.isdir(path):
                self._files(path)

    def on_artifacts(self, call: Call) -> Observation:
        with self.record.tee() as is_ours:
            yield
        if is_ours and call.error is None:
            _, folder = _arguments(call.args[1:], call.kwargs, "run_id", "local_dir")
            self._files(folder)

    def _files(self, folder: Any) -> None:
        count = 0
        for place, _, names in os.walk(folder):
            for name in names:
                path = os.path.join(place, name)
                if not os.path.isfile(path):
                    continue
                if count == _FILES:
                    self.record.note(SOURCE, f"of a folder that was logged, {_FILES} files were kept")
                    return
                count += 1
                self.record.file(path, name=os.path.relpath(path, folder))

    def _tag(self, key: str, value: Any) -> None:
        """But those that MLflow sets itself."""
        if not str(key).startswith("mlflow."):
            self.record.tag(key, value)


def _arguments(args: tuple[Any, ...], kwargs: dict[str, Any], *names: str) -> list[Any]:
    """By position or name; None where one is not given."""
    return [args[place] if place < len(args) else kwargs.get(name) for place, name in enumerate(names)]
