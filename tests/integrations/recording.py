"""A recorder that keeps everything in memory, under the real patcher: what an integration writes, without journal and store."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from looptap.describing import Description
from looptap.events import Context, Dataset, JournalRecord, Window
from looptap.integration import Integration
from looptap.noticed import Verdict
from looptap.patching import Patcher
from looptap.recorder import Recorder
from looptap.redaction import Redactor


class Recording(Recorder):
    """A run is under way from the first record on, as with the real one."""

    def __init__(self) -> None:
        super().__init__(lambda: None, Redactor(), renew=self.new_run)
        #: (key, step, value, context) in the order of writing.
        self.points: list[tuple[str, int, float, Context]] = []
        self.written: list[tuple[str, Any, str]] = []
        self.tags: list[tuple[str, str]] = []
        self.files: list[dict[str, Any]] = []
        self.notes: list[str] = []
        #: By role and name, as told last.
        self.datasets: dict[tuple[str, str], Dataset] = {}
        self.windows: list[Window] = []
        #: What was no number or no step.
        self.refused: list[str] = []

    def begin(self) -> None:
        if self.generation == 0 and not self.is_suppressed():
            self.new_run()

    def is_under_way(self) -> bool:
        return self.generation > 0

    def log_metrics(
        self,
        values: Mapping[str, Any],
        step: Any = None,
        context: Context | None = None,
        time_ns: int | None = None,
        source: str = "user",
    ) -> None:
        """As the real one, whose journal we have not."""
        begin = self._begin
        self._journal = object()  # type: ignore[assignment]
        try:
            super().log_metrics(values, step, context, time_ns, source)
        finally:
            self._journal, self._begin = None, begin

    def new_run(self) -> None:
        self.generation += 1
        self.step = -1
        self._told.steps.clear()

    def metrics(
        self, values: Mapping[str, float], step: int, context: Context | None = None, time_ns: int | None = None
    ) -> None:
        if self.is_suppressed():
            return
        self.begin()
        if context is None:
            values = self._told.apart_from(values, step)
        for key, value in values.items():
            assert type(value) is float, (key, value)
            self.points.append((key, step, value, dict(context or {})))

    def _refuse(self, journal: Any, reason: str, what: str, error: Exception, count: int = 1) -> None:
        self.refused.append(what)

    def param(self, key: str, value: Any, source: str) -> None:
        self.written.append((key, value, source))

    def tag(self, key: str, value: str) -> None:
        self.tags.append((key, value))

    def file(self, path: Any, **facts: Any) -> None:
        """By the rule of the real one for files that are seen twice."""
        where, found = os.path.abspath(path), os.stat(path)
        asked = (facts.get("name"), facts.get("role", "output"), facts.get("kind"))
        if not self.is_suppressed() and self._files.noticed.look(where, found, *asked) is Verdict.NEWS:
            self.files.append({"path": str(path), **facts})

    def dataset(self, described: Description, *, role: str = "train", name: str | None = None) -> None:
        self._journal = object()  # type: ignore[assignment]
        try:
            super().dataset(described, role=role, name=name)
        finally:
            self._journal = None

    def _write(self, record: JournalRecord) -> None:
        if isinstance(record, Dataset):
            self.datasets[record.role, record.name] = record
        else:
            super()._write(record)

    def window(self, window: Window) -> None:
        self.windows.append(window)

    def note(self, topic: str, message: str) -> None:
        self.notes.append(message)

    def series(self, key: str, **context: str) -> list[tuple[int, float]]:
        """(step, value) of one series."""
        return [(step, value) for name, step, value, where in self.points if name == key and where == context]

    def values(self, key: str, **context: str) -> list[float]:
        return [value for _, value in self.series(key, **context)]

    def names(self) -> set[str]:
        """All keys but those of the times, which most loops have."""
        return {key for key, *_ in self.points if not key.startswith(("time.", "epoch_time."))}

    def params_by_key(self) -> dict[str, Any]:
        return {key: value for key, value, _ in self.written}

    def sources(self) -> dict[str, str]:
        return {key: source for key, _, source in self.written}


def are_close(series: list[tuple[int, float]], truth: Iterable[tuple[int, float]], within: float = 1e-6) -> bool:
    """Whether a series has these steps, and values that differ by a millionth at most: sums that were made in another order."""
    wanted = list(truth)
    return [step for step, _ in series] == [step for step, _ in wanted] and all(
        math.isclose(value, other, rel_tol=within) for (_, value), (_, other) in zip(series, wanted, strict=True)
    )


@contextmanager
def recorded(*kinds: type[Integration]) -> Iterator[Recording]:
    """Install these integrations, give the recorder, and undo everything at the end; the run has ended by then."""
    recording = Recording()
    installed: list[tuple[Integration, Patcher]] = []
    try:
        for kind in kinds:
            patcher, integration = Patcher(kind.__name__), kind()
            integration.record = recording
            installed.append((integration, patcher))
            integration.install(patcher, recording)
            assert patcher.missing == []
        yield recording
        for integration, _ in installed:
            integration.finish()
    finally:
        for _, patcher in reversed(installed):
            patcher.undo()
