"""Two versions of a model that were served, held against each other by the traffic that they had: a canary beside what it is to
replace, or two arms of an experiment.

Nobody has drawn lots here: what the versions were asked is as different as it was sent to them. Where both were asked at the same
time, only that time counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import msgspec

from looptap.sketches.comparing import Comparison, Estimate, compare
from looptap.sketches.distribution import Distribution
from looptap_collector.backend import Backend, RunWindow, WindowQuery, all_windows
from looptap_collector.serving import intervals
from looptap_collector.serving.drift import KINDS
from looptap_collector.serving.report import MOST_WINDOWS
from looptap_collector.serving.streams import Stream
from looptap_collector.serving.summary import Summary, by_version, summed
from looptap_collector.windows import was_asked

BETTER, WORSE, SAME, OPEN = "better", "worse", "same", "open"
#: Less than this part of a latency is no difference, however certain.
LATENCY_MARGIN = 0.05
#: Nor is less than this part of the mean size of an error of prediction, …
OUTCOME_MARGIN = 0.01
#: … or than this share of requests or predictions.
SHARE_MARGIN = 0.001
_QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
#: Parts of a latency are told, and the whole of it counts.
_DECISIVE = ("errors", "latency total", "outcome")
_NS = 10**9


class NoVersions(LookupError):
    """There are no two versions to compare; the message says which there are."""


class Arm(msgspec.Struct, frozen=True):
    """``share``: of the requests that both had."""

    version: str | None
    requests: int
    share: float
    replicas: int


class Measured(msgspec.Struct, frozen=True):
    """``difference``: of the second from the first; of latencies as a part of the first (``is_relative``). All with intervals of
    99 %. ``unit``: share, seconds, or that of the outcome. ``verdict`` on the second: better, worse, same, or open where there is
    too little to tell."""

    name: str
    unit: str
    first: Estimate
    second: Estimate
    difference: Estimate
    is_relative: bool
    verdict: str


class StreamCompared(msgspec.Struct, frozen=True):
    """The second version's stream against the first's."""

    kind: str
    stream: str
    comparison: Comparison


class Experiment(msgspec.Struct, frozen=True, kw_only=True):
    """``at_once``: both were asked in the time from ``since_ns`` to ``until_ns``; otherwise one came after the other.

    ``verdict`` on the second, by errors, the whole latency and outcomes: worse where one of them is, else open where one of them
    is, else better or same.
    """

    model: str
    first: Arm
    second: Arm
    at_once: bool
    since_ns: int
    until_ns: int
    measured: list[Measured]
    streams: list[StreamCompared]
    verdict: str


def experiment(
    backend: Backend,
    model: str,
    *,
    since_ns: int,
    until_ns: int,
    first: str | None = None,
    second: str | None = None,
) -> Experiment:
    """Versions by the beginning of their names; the one that was asked first before the one that was asked later, unless they are
    given. Raises :class:`NoVersions`."""
    query = WindowQuery(models=(model,), since_ns=since_ns, until_ns=until_ns, limit=2_000)
    windows = list(islice(all_windows(backend, query), MOST_WINDOWS))
    versions = by_version(windows)
    one, other = _chosen(versions, first, second)
    of_first = [window for window in windows if window.window.version == one]
    of_second = [window for window in windows if window.window.version == other]
    together = _together(versions[one], versions[other])
    if together is not None:
        of_first, of_second = _within(of_first, *together), _within(of_second, *together)
    a, b = summed(of_first), summed(of_second)
    measured = list(_measured(a, b))
    begins, ends = together or (min(_begin(a), _begin(b)), max(_end(a), _end(b)))
    total = a.requests + b.requests
    return Experiment(
        model=model,
        first=Arm(one, a.requests, a.requests / total if total else 0.0, len(a.replicas)),
        second=Arm(other, b.requests, b.requests / total if total else 0.0, len(b.replicas)),
        at_once=together is not None,
        since_ns=begins,
        until_ns=ends,
        measured=measured,
        streams=list(_streams(a, b)),
        verdict=_overall([one.verdict for one in measured if one.name.startswith(_DECISIVE)]),
    )


def _chosen(
    versions: dict[str | None, Summary], first: str | None, second: str | None
) -> tuple[str | None, str | None]:
    asked = [version for version, summary in versions.items() if summary.first_ns is not None]
    ordered = sorted(asked, key=lambda version: _begin(versions[version]))
    there = ", ".join((version or "unknown")[:12] for version in ordered) or "none"

    def named(prefix: str) -> str | None:
        found = [version for version in ordered if (version or "unknown").startswith(prefix)]
        if len(found) != 1:
            many = "no version" if not found else f"{len(found)} versions"
            raise NoVersions(f"{many} that begins with {prefix!r} was asked in that time; there are: {there}")
        return found[0]

    if len(ordered) < 2:
        raise NoVersions(f"a comparison needs two versions that were asked in that time; there are: {there}")
    one = ordered[-2] if first is None else named(first)
    other = ordered[-1] if second is None else named(second)
    if one == other:
        raise NoVersions(f"a version cannot be compared with itself; there are: {there}")
    return one, other


def _together(one: Summary, other: Summary) -> tuple[int, int] | None:
    """The time in which both were asked."""
    begins, ends = max(_begin(one), _begin(other)), min(_end(one), _end(other))
    return (begins, ends) if ends > begins else None


def _within(windows: Sequence[RunWindow], begins: int, ends: int) -> list[RunWindow]:
    """Those that overlap with that time, and what came of predictions, whenever it became known."""
    return [
        one
        for one in windows
        if not was_asked(one.window)
        or (one.window.time_ns < ends and one.window.time_ns + round(one.window.seconds * _NS) > begins)
    ]


def _begin(summary: Summary) -> int:
    return summary.first_ns or 0


def _end(summary: Summary) -> int:
    return summary.last_ns or 0


def _measured(one: Summary, other: Summary) -> Iterator[Measured]:
    """What there is of both."""
    if one.requests and other.requests:
        rates = (intervals.share(min(side.failed, side.requests), side.requests) for side in (one, other))
        yield _of_shares("errors", *rates)
    for part in sorted(one.latency.keys() & other.latency.keys()):
        for name, at in _QUANTILES.items():
            first, second = (intervals.quantile(side.latency[part], at) for side in (one, other))
            if first is not None and second is not None:
                yield _of_times(f"latency {part} {name}", first, second)
    for name in sorted(one.outcomes.keys() & other.outcomes.keys()):
        told = [side.outcomes[name].whole() for side in (one, other)]
        correct = [(each.classes["yes"], each.classes["yes"] + each.classes["no"]) for each in told]
        if all(total for _, total in correct):
            yield _of_shares(f"outcome {name}", *(intervals.share(*counts) for counts in correct), is_good=True)
        first, second = map(_mean_absolute, told)
        if first is not None and second is not None:
            found, margin = intervals.difference(first, second), OUTCOME_MARGIN * first.value
            yield Measured(f"outcome {name}, mean size", "", first, second, found, False, _verdict(found, margin))


def _of_shares(name: str, first: Estimate, second: Estimate, *, is_good: bool = False) -> Measured:
    """``is_good``: more of it is better."""
    found = intervals.difference(first, second)
    return Measured(name, "share", first, second, found, False, _verdict(found, SHARE_MARGIN, is_good=is_good))


def _of_times(name: str, first: Estimate, second: Estimate) -> Measured:
    relative = intervals.relative_difference(first, second)
    found = intervals.difference(first, second) if relative is None else relative
    margin = LATENCY_MARGIN * (first.value if relative is None else 1.0)
    return Measured(name, "seconds", first, second, found, relative is not None, _verdict(found, margin))


def _verdict(difference: Estimate, margin: float, *, is_good: bool = False) -> str:
    if difference.low > -margin and difference.high < margin:
        return SAME
    if difference.low > 0 and difference.value >= margin:
        return BETTER if is_good else WORSE
    if difference.high < 0 and difference.value <= -margin:
        return WORSE if is_good else BETTER
    return OPEN


def _mean_absolute(told: Distribution) -> Estimate | None:
    return intervals.mean([(abs(bucket.low + bucket.high) / 2, bucket.count) for bucket in told.numbers.buckets()])


def _streams(one: Summary, other: Summary) -> Iterator[StreamCompared]:
    for kind in KINDS:
        known: dict[str, Stream] = getattr(one, kind)
        now: dict[str, Stream] = getattr(other, kind)
        for name in sorted(known.keys() & now.keys()):
            reference = known[name].whole()
            yield StreamCompared(kind, name, compare(now[name].like(reference), reference))


def _overall(verdicts: Sequence[str]) -> str:
    for verdict in (WORSE, OPEN, BETTER):
        if verdict in verdicts:
            return verdict
    return SAME if verdicts else OPEN
