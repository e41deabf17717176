"""Recorded runs as Python objects and pandas tables.

::

    runs = looptap.search_runs(experiment="baseline")        # one row per run
    run = looptap.get_run("latest")
    run.params["lr"], run.metrics["loss"].last
    run.history("loss").plot(x="step", y="value")

Reading needs the collector and pandas, which training does not; both are imported when the first question is asked.
"""

from __future__ import annotations

from looptap.reading.run import ArtifactSummary, Delivery, MetricSummary, Run, get_run
from looptap.reading.table import search_runs
from looptap.reading.waiting import in_journal, runs_with_journals

__all__ = [
    "ArtifactSummary",
    "Delivery",
    "MetricSummary",
    "Run",
    "get_run",
    "in_journal",
    "runs_with_journals",
    "search_runs",
]
