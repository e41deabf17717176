"""A served model in numbers."""

from __future__ import annotations

import msgspec
import pytest

from collector.recorded import START_NS
from collector.serving.serving_runs import NEXT, NOW_NS, SECOND, VERSION, Serving, histogram, trained, window
from looptap_collector.backend import Backend
from looptap_collector.record import to_json
from looptap_collector.serving import report as reporting
from looptap_collector.serving.report import report
from looptap_collector.serving.shapes import Report


def test_two_versions(backend: Backend) -> None:
    """Each with its replicas and numbers, the one that was asked last first, in the time that was asked for only."""
    trained(backend)
    for replica in range(2):
        run = Serving(backend, f"server-{replica}", start_ns=START_NS + replica)
        run.windows(*(window(ago, seed=replica, errors={"ValueError": 1}) for ago in range(300, 200, -10)))
        run.windows(*(window(ago, version=NEXT, seed=replica) for ago in range(100, 50, -10)))
        run.windows(window(10, model="other"), window(5_000))
    found = report(backend, "intent", since_ns=NOW_NS - 1_000 * SECOND, until_ns=NOW_NS)
    assert found.complete
    newest, oldest = found.versions
    assert (newest.version, newest.requests, newest.replicas, newest.error_rate) == (NEXT, 1_000, 2, 0.0)
    assert newest.origin is None
    assert (oldest.version, oldest.requests, oldest.errors) == (VERSION, 2_000, {"ValueError": 20})
    assert oldest.origin is not None
    assert (oldest.origin.name, oldest.per_second) == ("calm-otter-12", 20.0)
    total = oldest.latency["total"]
    assert total.count == 2_000
    assert total.p50 == pytest.approx(0.00467, rel=0.05)
    assert oldest.latency["model"].p999 == pytest.approx(0.002, rel=0.011)
    assert oldest.predictions["class"].classes == {"cat": 1_200, "dog": 800}
    assert oldest.endpoints["POST /predict"].requests == 2_000
    # What the endpoint of the collector and --json say.
    assert msgspec.json.decode(to_json(msgspec.to_builtins(found)), type=Report) == found


def test_quantiles_are_those_of_all_requests(backend: Backend) -> None:
    """From p50 to p99.9 within 1.1 %, extremes and mean exact."""
    values = [1e-4 * 1.001**at for at in range(9_000)]
    run = Serving(backend, "server")
    pieces = (values[at::90] for at in range(90))
    run.windows(*(window(900 - at, latency={"total": histogram(some).encode()}) for at, some in enumerate(pieces)))
    (one,) = report(backend, "intent", since_ns=NOW_NS - 1_000 * SECOND, until_ns=NOW_NS, drift=False).versions
    total = one.latency["total"]
    assert (total.min, total.max) == (values[0], values[-1])
    for share, told in ((0.5, total.p50), (0.9, total.p90), (0.99, total.p99), (0.999, total.p999)):
        assert told == pytest.approx(values[int(share * 8_999)], rel=0.011)
    assert (one.drift, one.missing) == ([], [])


def test_more_windows_than_are_looked_at(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """The latest are, and it is said."""
    Serving(backend, "server").windows(*(window(ago) for ago in range(100, 0, -10)))
    monkeypatch.setattr(reporting, "MOST_WINDOWS", 4)
    found = report(backend, "intent", since_ns=NOW_NS - 1_000 * SECOND, until_ns=NOW_NS)
    assert not found.complete
    assert (found.versions[0].requests, found.versions[0].first_ns) == (400, NOW_NS - 40 * SECOND)


def test_a_version_that_the_program_names(backend: Backend) -> None:
    """Is traced by the digest of its weights, where that is known; the latest one counts."""
    trained(backend, "old", NEXT)
    trained(backend)
    run = Serving(backend, "server")
    run.windows(
        window(30, version="v3", digest=VERSION), window(40, version="v3", digest=NEXT), window(20, version="v3")
    )
    (one,) = report(backend, "intent", since_ns=NOW_NS - 1_000 * SECOND, until_ns=NOW_NS).versions
    assert (one.version, one.digest) == ("v3", VERSION)
    assert one.origin is not None
    assert one.origin.name == "calm-otter-12"
    assert [held.against for held in one.drift] == ["training", "training"]


def test_nobody_asked(backend: Backend) -> None:
    assert report(backend, "intent", since_ns=0, until_ns=NOW_NS).versions == []
