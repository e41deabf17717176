"""All that is told of a served model in some time."""

from __future__ import annotations

from collections import Counter
from itertools import islice

from looptap_collector.backend import Backend, WindowQuery, all_windows
from looptap_collector.serving.drift import Baselines, held_against
from looptap_collector.serving.drifts import drifts_of
from looptap_collector.serving.origins import origin_of, reference_of
from looptap_collector.serving.shapes import (
    DriftAlert,
    EndpointFields,
    Held,
    Quantiles,
    Report,
    StreamFields,
    VersionFields,
)
from looptap_collector.serving.streams import Streams
from looptap_collector.serving.summary import Summary, by_version

#: So many windows are looked at, the latest ones: a day of two replicas.
MOST_WINDOWS = 20_000
_AT_ONCE = 2_000


def report(backend: Backend, model: str, *, since_ns: int, until_ns: int, drift: bool = True) -> Report:
    """Without a version where nobody asked the model in that time. ``drift`` is what takes longest: with it, the week before is
    read, too."""
    query = WindowQuery(models=(model,), since_ns=since_ns, until_ns=until_ns, limit=_AT_ONCE)
    windows = list(islice(all_windows(backend, query), MOST_WINDOWS + 1))
    baselines = Baselines(backend, model, since_ns, until_ns) if drift else None
    versions = by_version(windows[:MOST_WINDOWS])
    return Report(
        model=model,
        since_ns=since_ns,
        until_ns=until_ns,
        complete=len(windows) <= MOST_WINDOWS,
        versions=[
            _told(backend, version, summary, baselines, _alerts(backend, model, version, summary, since_ns, until_ns))
            for version, summary in versions.items()
        ],
    )


def _told(
    backend: Backend, version: str | None, summary: Summary, baselines: Baselines | None, alerts: list[DriftAlert]
) -> VersionFields:
    # What the program calls a version may be a digest, too.
    origin = origin_of(backend, summary.digest, summary.weights, version)
    held: list[Held] = []
    missing: list[str] = []
    if baselines is not None:
        reference = reference_of(backend, version, origin)
        held, missing = held_against(baselines, version, summary, origin, reference)
    return VersionFields(
        version=version,
        digest=summary.digest,
        weights=summary.weights,
        origin=origin,
        first_ns=summary.first_ns,
        last_ns=summary.last_ns,
        replicas=len(summary.replicas),
        runs=sorted(summary.runs),
        requests=summary.requests,
        per_second=summary.per_second,
        errors=_frequent(summary.errors),
        error_rate=summary.error_rate,
        in_flight=summary.in_flight,
        in_flight_max=summary.in_flight_max,
        latency={part: Quantiles.of(found) for part, found in sorted(summary.latency.items())},
        endpoints={
            name: EndpointFields(endpoint.requests, endpoint.errors, Quantiles.of(endpoint.total))
            for name, endpoint in sorted(summary.endpoints.items())
        },
        batch=Quantiles.of(summary.batch) if len(summary.batch) else None,
        shapes=_frequent(summary.shapes),
        predictions=_streams(summary.predictions),
        outcomes=_streams(summary.outcomes),
        labels=_streams(summary.labels),
        features=_streams(summary.features),
        skipped=_frequent(summary.skipped),
        resources=summary.resources,
        drift=held,
        missing=missing,
        alerts=alerts,
    )


def _alerts(
    backend: Backend, model: str, version: str | None, summary: Summary, since_ns: int, until_ns: int
) -> list[DriftAlert]:
    """Those that stood in that time."""
    name = version or summary.digest or summary.weights
    return [
        DriftAlert(
            one.fired.alert.message,
            one.fired.alert.key or "",
            one.fired.alert.severity,
            one.fired.alert.time_ns,
            one.until_ns,
            len(one.runs),
        )
        for one in (drifts_of(backend, sorted(summary.runs), model, name) if name else ())
        if one.fired.alert.time_ns < until_ns and (one.until_ns is None or one.until_ns >= since_ns)
    ]


def _frequent(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _streams(streams: Streams) -> dict[str, StreamFields]:
    return {name: StreamFields.of(stream.whole(), stream.apart()) for name, stream in sorted(streams.items())}
