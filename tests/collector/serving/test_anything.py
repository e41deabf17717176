"""Whatever windows a store took: everything that tells of them tells something."""

from __future__ import annotations

import io
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from looptap.events import Example, Rejected, Window
from looptap.sketches.distribution import Distribution
from looptap.sketches.histogram import Histogram
from looptap_collector.backend import WindowQuery
from looptap_collector.backends.memory import MemoryBackend
from looptap_collector.pipeline import Pipeline
from looptap_collector.record import to_json
from looptap_collector.server.exposition import exposed
from looptap_collector.server.measures import Measures
from looptap_collector.serving.examples import examples
from looptap_collector.serving.experiment import NoVersions, experiment
from looptap_collector.serving.otlp import request_of
from looptap_collector.serving.report import report
from looptap_collector.serving.terminal import comparison_picture, examples_picture, models_table, picture
from looptap_collector.terminal import console
from looptap_collector.testing.batches import Journal, started

WORD = 2**63
texts = st.sampled_from(["", "a", "total", "correct", "\x1b[31m", "ü\n", "%", "ab" * 32])
counts = st.sampled_from([0, 1, 7, 1_000, 2**37])
floats = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([0.0, 1.0, 0.5, 5e-324, 1.7e308])
frames = st.sampled_from([(0.0, 1.0), (1.0, 0.5), (-1e308, 1e308), (0.0, 5e-324), (1e300, 1e-300)])


@st.composite
def histograms(draw: st.DrawFn, around: tuple[float, float] = (0.0, 1.0)) -> Histogram:
    made = Histogram(*around)
    made.add(draw(st.lists(floats, max_size=5)) * draw(st.sampled_from([1, 100])))
    return made


@st.composite
def distributions(draw: st.DrawFn) -> bytes:
    frame = draw(frames)
    made = Distribution(*frame)
    made.numbers = draw(histograms(frame))
    for name, count in draw(st.dictionaries(texts, counts.filter(bool), max_size=3)).items():
        made.classes[name] = count
    made.nan, made.null, made.other = draw(counts), draw(counts), draw(counts)
    return made.encode()


streams = st.dictionaries(texts, distributions(), max_size=2)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-WORD, WORD - 1) | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
windows = st.builds(
    Window,
    st.just("m"),
    st.sampled_from([-WORD, -1, 0, 1, 10**9, WORD - 1]),
    st.sampled_from([0.0, 1e-9, 10.0, 86_400.0]),
    version=st.sampled_from([None, "a", "ab" * 32]),
    digest=st.none() | st.just("ab" * 32),
    endpoint=texts,
    split=st.none() | st.sampled_from(["validation", "mine"]),
    requests=counts,
    errors=st.dictionaries(texts, counts, max_size=2),
    in_flight=st.floats(0, 1e308),
    in_flight_max=counts,
    latency=st.dictionaries(texts, frames.flatmap(histograms).map(Histogram.encode), max_size=2),
    batch=st.none() | histograms().map(Histogram.encode),
    shapes=st.dictionaries(texts, counts, max_size=2),
    predictions=streams,
    outcomes=streams,
    labels=streams,
    features=streams,
    skipped=st.dictionaries(texts, counts, max_size=2),
    resources=st.dictionaries(texts, st.floats(), max_size=2),
    examples=st.lists(
        st.builds(
            Example,
            st.floats(0, 1),
            st.integers(-WORD, WORD - 1),
            st.dictionaries(texts, plain, max_size=2),
            plain,
            st.none() | texts,
            st.lists(texts, max_size=2).map(tuple),
        ),
        max_size=2,
    ).map(tuple),
)


@given(told=st.lists(windows, min_size=2, max_size=6))
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_anything(told: list[Window]) -> None:
    """Nothing raises, JSON is valid, and no escape sequence is in what is shown."""
    backend, journal = MemoryBackend(), Journal()
    pipeline = Pipeline(backend)
    pipeline.accept(journal.batch(started()))
    for window in told:
        pipeline.accept(journal.batch(window))
    out = console(shown := io.StringIO())
    for since_ns, until_ns in ((-WORD, WORD - 1), (0, 2), (5, -5)):
        found = report(backend, "m", since_ns=since_ns, until_ns=until_ns)
        _valid(found)
        out.print(picture(found))
        calls = examples(backend, "m", since_ns=since_ns, until_ns=until_ns)
        _valid(calls)
        out.print(examples_picture(calls))
        try:
            two = experiment(backend, "m", since_ns=since_ns, until_ns=until_ns)
        except NoVersions:
            continue
        _valid(two)
        out.print(comparison_picture(two))
    out.print(models_table(backend.served()))
    assert "\x1b" not in shown.getvalue()
    kept = [*backend.windows(WindowQuery()), *backend.windows(WindowQuery(reference=True))]
    request_of(kept).SerializeToString()
    measures = Measures()
    measures.traffic.see("j1", [one.window for one in kept])
    exposed(measures)


def _valid(found: Any) -> None:
    msgspec.json.decode(to_json(msgspec.to_builtins(found)))


def test_the_whole_of_time(backend: Any) -> None:
    """May be asked for; a database has no number before it."""
    journal = Journal()
    Pipeline(backend).accept(journal.batch(started(), Window("m", 1, 10.0, "v1", requests=5)))
    (version,) = report(backend, "m", since_ns=-WORD, until_ns=WORD - 1).versions
    assert version.requests == 5


@pytest.mark.parametrize("count", [0, -1])
def test_a_class_that_was_never_seen(count: int) -> None:
    """Is no class."""
    made = Distribution()
    made.classes["a"] = count
    with pytest.raises(Rejected, match="a count that cannot be"):
        Pipeline(MemoryBackend()).accept(Journal().batch(started(), Window("m", 1, 1.0, labels={"x": made.encode()})))
