"""Drifts that replicas of a model have told, each once.

Every worker of a server looks at its own answers and raises its own alert; of a model that drifts, all of them do. Kind, model,
version and stream (the key of the alert) are the same then, and the times overlap: this is one drift, from when the first has
raised it until the last has taken it back, or is gone.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from looptap.events import DRIFT, drift_key
from looptap_collector.alerts import Episode, episodes
from looptap_collector.backend import MOST_ALERTS, Backend, RunAlert


class Drift(msgspec.Struct):
    """``fired`` is the first alert, of the run ``runs[0]``; ``recovered`` the last one that took it back, with its run, None where
    none did. ``until_ns`` is None while a process that lives says that it drifts. ``runs``: one for each replica."""

    fired: RunAlert
    recovered: RunAlert | None
    until_ns: int | None
    runs: list[str]


def drifts(backend: Backend, told: Iterable[RunAlert]) -> list[Drift]:
    """Of these alerts, of any kind and as a backend gives them, the drifts; the first that was told comes first."""
    by_run: dict[str, list[RunAlert]] = {}
    for one in told:
        if one.alert.kind == DRIFT:
            by_run.setdefault(one.run, []).append(one)
    found: list[Drift] = []
    latest: dict[str | None, Drift] = {}
    each = [(run, episode) for run, some in by_run.items() for episode in episodes(one.alert for one in reversed(some))]
    for run, episode in sorted(each, key=lambda one: (one[1].fired.time_ns, one[0])):
        over = None if episode.recovered is None else RunAlert(run, episode.recovered)
        until_ns = _until(backend, run, episode)
        known = latest.get(episode.fired.key)
        if known is None or (known.until_ns is not None and episode.fired.time_ns > known.until_ns):
            latest[episode.fired.key] = Drift(RunAlert(run, episode.fired), over, until_ns, [run])
            found.append(latest[episode.fired.key])
            continue
        if run not in known.runs:
            known.runs.append(run)
        known.until_ns = None if until_ns is None or known.until_ns is None else max(until_ns, known.until_ns)
        if over is not None and (known.recovered is None or over.alert.time_ns >= known.recovered.alert.time_ns):
            known.recovered = over
    return found


def drifts_of(backend: Backend, runs: Iterable[str], model: str, version: str) -> list[Drift]:
    """Of a version of a model, as these runs told."""
    told = backend.alerts(runs=list(runs), kind=DRIFT, limit=MOST_ALERTS)
    begin = drift_key(model, version)
    return drifts(backend, [one for one in told if (one.alert.key or "").startswith(begin)])


def replicas_of(backend: Backend, run: str, own: Iterable[Episode]) -> dict[int, int]:
    """How many replicas tell the same, by the time of each drift among the run's own alerts."""
    keys = {episode.fired.key for episode in own if episode.fired.kind == DRIFT}
    if not keys:
        return {}
    told = [one for one in backend.alerts(kind=DRIFT, limit=MOST_ALERTS) if one.alert.key in keys]
    shared = [one for one in drifts(backend, told) if run in one.runs]
    return {
        episode.fired.time_ns: len(one.runs)
        for episode in own
        for one in shared
        if one.fired.alert.key == episode.fired.key
        and one.fired.alert.time_ns <= episode.fired.time_ns
        and (one.until_ns is None or episode.fired.time_ns <= one.until_ns)
    }


def each_once(backend: Backend, told: Iterable[RunAlert]) -> list[tuple[RunAlert, int]]:
    """The alerts, the latest first, each with the number of replicas that told it: of a drift, when it was first raised, and when
    it was last taken back."""
    told = list(told)
    found = [(one, 1) for one in told if one.alert.kind != DRIFT]
    for drift in drifts(backend, told):
        found.append((drift.fired, len(drift.runs)))
        if drift.recovered is not None and drift.until_ns is not None:
            found.append((drift.recovered, len(drift.runs)))
    return sorted(found, key=lambda one: -one[0].alert.time_ns)


def _until(backend: Backend, run: str, episode: Episode) -> int | None:
    if episode.recovered is not None:
        return episode.recovered.time_ns
    row = backend.run(run)
    if row is None or row.status == "running":
        return None
    return max(episode.fired.time_ns, row.ended_ns or row.heartbeat_ns or 0)
