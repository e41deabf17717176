"""Streams of a version against what they were."""

from __future__ import annotations

from typing import Any

from collector.recorded import START_NS, Recording
from collector.serving.serving_runs import NEXT, NOW_NS, VERSION, Serving, numbers, trained, window
from looptap_collector.backend import Backend
from looptap_collector.serving.drift import WEEK_NS
from looptap_collector.serving.report import report
from looptap_collector.serving.shapes import Held, VersionFields

HOUR_NS = 3_600 * 10**9


def told(backend: Backend) -> list[VersionFields]:
    return report(backend, "intent", since_ns=NOW_NS - HOUR_NS, until_ns=NOW_NS).versions


def verdicts(one: VersionFields, stream: str = "score") -> dict[str, str]:
    return {held.against: held.comparison.verdict for held in one.drift if held.stream == stream}


def serve(backend: Backend, shift: float, version: str | None = VERSION, first: int = 1_000, **more: Any) -> None:
    run = Serving(backend, f"server {version} {shift} {first}", start_ns=START_NS + first)
    run.windows(*(window(ago, version=version, shift=shift, **more) for ago in range(first, first - 300, -10)))


def test_as_in_training(backend: Backend) -> None:
    trained(backend)
    serve(backend, 0.0)
    (one,) = told(backend)
    assert verdicts(one) == {"training": "same"}
    assert verdicts(one, "class") == {"training": "same"}
    assert one.missing == ["there was no version before it in the last week", "it was not asked in the week before"]


def test_a_shift_against_training(backend: Backend) -> None:
    """Is told with the run and the split that it differs from, its size, and how sure that is."""
    trained(backend)
    serve(backend, 0.5)
    (one,) = told(backend)
    (held,) = [held for held in one.drift if (held.against, held.stream) == ("training", "score")]
    assert held.reference.startswith("validation of calm-otter-12 (")
    found = held.comparison
    assert (found.verdict, found.count, found.reference_count) in (
        ("moderate", 3_000, 4_000),
        ("large", 3_000, 4_000),
    )
    # That of N(0.5, 1) and N(0, 1).
    assert found.ks is not None
    assert found.ks.low < 0.197 < found.ks.high
    assert found.psi is not None
    assert found.psi.low < 0.25 < found.psi.high
    assert verdicts(one, "class")["training"] == "same"


def test_against_the_version_before(backend: Backend) -> None:
    """The one that was first served before this one, also where it is no longer asked."""
    serve(backend, 0.0, first=3 * 24 * 3_600)
    serve(backend, 1.0, version=NEXT)
    serve(backend, 1.0, version=None)
    for one in told(backend):
        if one.version == NEXT:
            assert verdicts(one) == {"previous": "large"}
            assert {held.reference for held in one.drift} == {f"version {VERSION[:12]}"}
            assert "no run is known to have written this version" in one.missing[0]
        else:
            assert one.version is None
            assert "nobody knows what its weights were loaded from" in one.missing[0]


def test_against_the_week_before(backend: Backend) -> None:
    """Traffic of all seven days, not that of the time itself nor what came before."""
    for day in (1, 3, 6):
        serve(backend, 0.0, first=day * 24 * 3_600)
    serve(backend, 9.0, first=8 * 24 * 3_600)
    serve(backend, 0.4)
    (one,) = told(backend)
    (held,) = [held for held in one.drift if (held.against, held.stream) == ("week", "score")]
    assert held.comparison.reference_count == 9_000
    assert held.comparison.verdict in ("moderate", "large")
    assert NOW_NS - WEEK_NS < NOW_NS - HOUR_NS


def test_the_week_before_in_long_windows(backend: Backend) -> None:
    """What was merged since is looked at, all of it."""
    for days in (3, 5):
        serve(backend, 1.0, first=days * 24 * 3_600)
    serve(backend, 0.0)
    (before,) = told(backend)
    assert backend.merge_windows().merged > 40
    (one,) = told(backend)
    assert one.drift == before.drift
    assert {held.comparison.reference_count for held in one.drift if held.against == "week"} == {6_000}


def test_features_too(backend: Backend) -> None:
    """And streams that only one side has are left out."""
    training = trained(backend)
    age = numbers([float(at % 80) for at in range(1_000)]).encode()
    training.deliver(window(80_000, split="validation", features={"age": age, "weight": age}))
    serve(backend, 0.0, features={"age": numbers([5.0] * 100).encode(), "height": age})
    (one,) = told(backend)
    found: list[Held] = [held for held in one.drift if held.kind == "features" and held.against == "training"]
    assert [(held.stream, held.comparison.verdict) for held in found] == [("age", "large")]


def test_a_training_without_an_evaluation(backend: Backend) -> None:
    run = Recording(backend, "blind")
    run.artifact("model.pt", digest=VERSION)
    serve(backend, 0.0)
    (one,) = told(backend)
    assert one.origin is not None
    assert "blind recorded no evaluation with predictions to compare with" in one.missing
