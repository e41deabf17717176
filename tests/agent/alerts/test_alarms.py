"""Reading ahead of a sender that is stuck."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from agent.journal.scenes import new_writer
from looptap.alerts.alarms import Alarms
from looptap.alerts.watch import Watch
from looptap.events import Alert
from looptap.recorder import Recorder
from looptap.redaction import Redactor


def test_what_there_was_no_time_for_is_looked_at_later(tmp_path: Path) -> None:
    """A look that is over before it begins takes nothing from the journal: the loss that is NaN in it is still told."""
    writer = new_writer(tmp_path)
    told: list[Alert] = []
    recorder = Recorder(lambda: writer, Redactor())
    recorder.alert = told.append  # type: ignore[method-assign, assignment]
    run: Any = SimpleNamespace(journal=writer, job=None, rank=0, id="r1")
    alarms = Alarms(run, recorder, Watch(), None, lambda line: None, lambda: None, threading.get_ident())
    recorder.metrics({"loss": float("nan")}, 0)
    alarms._read_ahead(time.monotonic() - 1)
    for step in range(1, 50):
        recorder.metrics({"loss": 1.0}, step)
    alarms.finish(1.0)
    assert [(alert.kind, alert.step) for alert in told] == [("not_finite", 0)]
    writer.close()
