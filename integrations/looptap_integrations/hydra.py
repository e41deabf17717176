"""Configuration of ``hydra``: every value with its dotted key, what was overridden told from the rest, and one run per job.

Hydra calls ``on_job_start`` and ``on_job_end`` of its callbacks around each job; we look at these calls, so that the program's own
list of callbacks stays what it is.
"""

from __future__ import annotations

import re
import sys
from contextlib import ExitStack
from typing import Any

from looptap.config_objects import leaves_of
from looptap.integration import Capture, Integration
from looptap.patching import Call, Observation, Patcher
from looptap.recorder import Recorder

_OVERRIDE = re.compile(r"^(?:\+\+|\+|~)?(?P<key>[^=@]+)(?:@(?P<package>[^=]+))?(?:=|$)")


class HydraIntegration(Integration):
    requires = "hydra-core>=1.2"
    captures = (
        Capture(
            "configuration of the job: overridden values (source hydra) told from the others (source default)",
            "Callbacks.on_job_start",
            "each job",
        ),
        Capture("hydra.overrides, hydra.choices.GROUP", "Callbacks.on_job_start", "each job"),
        Capture("one run per job of a multirun", "Callbacks.on_job_start, on_job_end", "each job"),
    )
    not_captured = ("values that a resolver of the program computes: they are recorded as they are written",)

    def install(self, patch: Patcher, record: Recorder) -> None:
        self.record = record
        self._job: _Job | None = None
        callbacks: Any = sys.modules["hydra._internal.callbacks"]
        patch.observe(callbacks.Callbacks, "on_job_start", self.on_job_start)
        patch.observe(callbacks.Callbacks, "on_job_end", self.on_job_end)
        under_way = sys.modules["hydra.core.hydra_config"].HydraConfig.instance().cfg
        if under_way is not None:
            # autolog() was called inside of the job: Hydra's own part knows the whole.
            self._begin(under_way.hydra._get_parent())

    def on_job_start(self, call: Call) -> Observation:
        config = call.args[1] if len(call.args) > 1 else call.kwargs["config"]
        self._begin(config)
        yield

    def on_job_end(self, call: Call) -> Observation:
        yield
        job, self._job = self._job, None
        if job is None:
            return
        result = call.args[2] if len(call.args) > 2 else call.kwargs["job_return"]
        error = result._return_value if result.status.name == "FAILED" else None
        # Hydra prints the error of a job and leaves by sys.exit, where nobody could tell any more.
        if self.record.is_under_way() and not job.is_inside and (job.is_one_of_many or error is not None):
            self.record.end("finished" if error is None else "failed", error)
        job.scope.close()

    def _begin(self, config: Any) -> None:
        record = self.record
        job = self._job = _Job(record.is_under_way(), config.hydra.mode)
        if job.is_one_of_many:
            job.scope.enter_context(record.job())
        # Hydra may have gone to the folder of the job's output; the store stays where the program was started.
        record.folder = str(config.hydra.runtime.cwd)
        overrides = [str(word) for word in config.hydra.overrides.task]
        choices = {
            str(group): choice
            for group, choice in leaves_of(config.hydra.runtime.choices, record.redactor.is_secret).items()
            if not group.startswith("hydra/")
        }
        own = {match["package"] or match["key"] for word in overrides if (match := _OVERRIDE.match(word))}
        values = {
            key: value
            for key, value in leaves_of(config, record.redactor.is_secret).items()
            if key != "hydra" and not key.startswith("hydra.")
        }
        for source, chosen in (("default", False), ("hydra", True)):
            told = {key: value for key, value in values.items() if _is_overridden(key, own) is chosen}
            record.settings(told, source)
        if overrides:
            record.param("hydra.overrides", list(record.redactor.command(overrides)), "hydra")
        for group, choice in choices.items():
            record.param(f"hydra.choices.{group.replace('/', '.')}", choice, "hydra" if group in own else "default")


class _Job:
    """One job under way. ``is_inside``: of a run that the program began before."""

    def __init__(self, is_inside: bool, mode: Any) -> None:
        self.is_inside = is_inside
        self.is_one_of_many = getattr(mode, "name", str(mode)) == "MULTIRUN"
        self.scope = ExitStack()


def _is_overridden(key: str, overridden: set[str]) -> bool:
    """Whether this key, a group that it lies in, or a list that it is part of, was named on the command line."""
    return any(key == one or key.startswith(f"{one.replace('/', '.')}.") for one in overridden)
