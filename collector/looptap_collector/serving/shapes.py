"""What is told of a served model, as plain data. Latencies in seconds; shares and rates from 0 to 1; None is what is not known."""

from __future__ import annotations

import msgspec

from looptap.sketches.comparing import Comparison
from looptap.sketches.distribution import Distribution
from looptap.sketches.histogram import Histogram


class Quantiles(msgspec.Struct, frozen=True):
    """Least, greatest, count and mean are exact, the others within 1.1 %."""

    count: int
    mean: float | None
    min: float | None
    p50: float | None
    p90: float | None
    p99: float | None
    p999: float | None
    max: float | None

    @classmethod
    def of(cls, histogram: Histogram) -> Quantiles:
        shares = (0.0, 0.5, 0.9, 0.99, 0.999, 1.0)
        return cls(len(histogram), histogram.mean, *map(histogram.quantile, shares))


class StreamFields(msgspec.Struct, frozen=True):
    """``classes``: the most frequent first. ``apart``: values that replicas counted in another way, which are not in the others."""

    count: int
    numbers: Quantiles | None
    classes: dict[str, int]
    other: int
    nan: int
    above: int
    below: int
    null: int
    apart: int

    @classmethod
    def of(cls, whole: Distribution, apart: int) -> StreamFields:
        ordered = sorted(whole.classes.items(), key=lambda item: (-item[1], item[0]))
        return cls(
            len(whole),
            Quantiles.of(whole.numbers) if len(whole.numbers) else None,
            dict(ordered),
            whole.other,
            whole.nan,
            whole.above,
            whole.below,
            whole.null,
            apart,
        )


class Data(msgspec.Struct, frozen=True):
    """``version`` is that of ``looptap dataset``; None without a fingerprint."""

    role: str
    name: str
    fingerprint: str | None
    version: str | None


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """The training that wrote the weights: its run, the file, its code and its data."""

    run: str
    name: str
    experiment: str
    status: str
    file: str
    step: int | None
    time_ns: int
    git_commit: str | None
    git_dirty: bool | None
    data: list[Data]


class EndpointFields(msgspec.Struct, frozen=True):
    requests: int
    errors: int
    latency: Quantiles


class Held(msgspec.Struct, frozen=True):
    """One stream held against what it was. ``against``: ``training``, ``previous`` (version) or ``week``; ``reference`` says in
    words what that is; ``kind``: predictions or features."""

    against: str
    reference: str
    kind: str
    stream: str
    comparison: Comparison


class DriftAlert(msgspec.Struct, frozen=True):
    """A drift that ``replicas`` processes have told while they served, from ``since_ns`` until ``until_ns``, or still."""

    message: str
    key: str
    severity: str
    since_ns: int
    until_ns: int | None
    replicas: int


class VersionFields(msgspec.Struct, frozen=True, kw_only=True):
    """``missing``: what could not be compared, and why."""

    version: str | None
    digest: str | None
    weights: str | None
    origin: Origin | None
    first_ns: int | None
    last_ns: int | None
    replicas: int
    runs: list[str]
    requests: int
    per_second: float | None
    errors: dict[str, int]
    error_rate: float | None
    in_flight: float | None
    in_flight_max: int
    latency: dict[str, Quantiles]
    endpoints: dict[str, EndpointFields]
    batch: Quantiles | None
    shapes: dict[str, int]
    predictions: dict[str, StreamFields]
    outcomes: dict[str, StreamFields]
    labels: dict[str, StreamFields]
    features: dict[str, StreamFields]
    skipped: dict[str, int]
    resources: dict[str, tuple[float, float]]
    drift: list[Held]
    missing: list[str]
    alerts: list[DriftAlert]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Of windows that began at ``since_ns`` or later and before ``until_ns``; the version that was asked last comes first.
    ``complete`` is false when there were more windows than were looked at, the latest."""

    model: str
    since_ns: int
    until_ns: int
    complete: bool
    versions: list[VersionFields]
