"""What runs warned of: alerts that were raised, each with its end where it has one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from looptap.events import Alert
from looptap_collector.backend import MOST_ALERTS, AlertCount, Backend

#: What is told of each.
COLUMNS = Alert.__struct_fields__


class Episode(msgspec.Struct):
    """An alert from when it was raised until it was taken back; ``recovered`` is None while it stands."""

    fired: Alert
    recovered: Alert | None = None


def of_run(backend: Backend, run: str) -> list[Alert]:
    """Oldest first."""
    return [one.alert for one in backend.alerts(runs=[run], limit=MOST_ALERTS)][::-1]


def episodes(alerts: Iterable[Alert]) -> list[Episode]:
    """Of one run, oldest first. An end without a beginning is none; one of two beginnings without an end between is the later's."""
    found: list[Episode] = []
    standing: dict[tuple[str, str | None, int], Episode] = {}
    for alert in alerts:
        which = (alert.kind, alert.key, alert.rank)
        if alert.state == "fired":
            standing[which] = Episode(alert)
            found.append(standing[which])
        elif (episode := standing.pop(which, None)) is not None:
            episode.recovered = alert
    return found


def counted(alerts: Iterable[Alert]) -> AlertCount:
    states = [alert.state for alert in alerts]
    fired = states.count("fired")
    return AlertCount(fired, max(0, fired - states.count("recovered")))


def alert_fields(alert: Alert) -> dict[str, Any]:
    return msgspec.structs.asdict(alert)


def count_fields(count: AlertCount) -> dict[str, int]:
    return msgspec.structs.asdict(count)


def in_words(count: AlertCount) -> str:
    """``2 alerts``; nothing where there is none."""
    return f"{count.fired:,} alert{'' if count.fired == 1 else 's'}" if count.fired else ""
