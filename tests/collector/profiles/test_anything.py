"""Whatever a store holds, there is a profile of it, and it can be told."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from looptap.events import Artifact, Param, RunEnded, SeriesPoints
from looptap_collector.embedded import open_backend
from looptap_collector.profiles.profile import profile_of
from looptap_collector.profiles.shapes import Profile
from looptap_collector.profiles.terminal import show_profile
from looptap_collector.record import to_json
from looptap_collector.terminal import console
from looptap_collector.testing.batches import START_NS, Journal, started, write

KEYS = [
    "step_time",
    *(f"time.{phase}" for phase in ("data", "transfer", "forward", "backward", "optimizer", "other")),
    *(
        f"system.gpu.0.{name}"
        for name in ("utilization", "energy", "throttled_power", "clock_sm", "pcie_received_rate")
    ),
    *(f"system.container.{name}" for name in ("cpu_throttled", "memory", "oom_kills", "memory_percent")),
    *("system.process.memory", "system.memory.available", "system.swap.in_rate", "system.energy.cpu"),
    *("memory.peak", "memory.allocated", "memory.out_of_memory", "validation/loss", "system.gpu.9999999999.energy"),
]
PARAMS = [
    "data.num_workers",
    "data.batch_size",
    "allotted.gpu.0.memory",
    "allotted.memory",
    "model.device",
    "allotted.cpus",
]
PARAMS += ["allotted.price_per_hour", "allotted.grid_kg_per_kwh", "batch_size_effective", "model.parameters"]
ODD = st.sampled_from([0.0, -1.0, 1e-300, 1e308, -1e308, float("nan"), float("inf"), 1.0, 50.0])
CONTEXTS = st.sampled_from(
    [{}, {}, {}, {"rank": "1"}, {"device": "cuda:0"}, {"rank": "x"}, {"device": "cpu", "rank": "²"}]
)
VALUES = st.one_of(st.lists(ODD, max_size=30), st.builds(lambda value, count: [value] * count, ODD, st.integers(1, 60)))
SERIES = st.tuples(
    st.sampled_from(KEYS), CONTEXTS, VALUES, st.integers(-5, 5), st.sampled_from([0, 1, 10**6, 10**9, -(10**9)])
)
PARAM = st.tuples(
    st.sampled_from(PARAMS), st.one_of(ODD, st.integers(-(2**70), 2**70), st.just("cuda:0"), st.none(), st.just(True))
)


@given(
    series=st.lists(SERIES, max_size=14),
    params=st.lists(PARAM, max_size=6),
    saved=st.lists(st.integers(-3, 60), max_size=4),
)
@settings(max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
def test_a_profile_of_anything(
    tmp_path_factory: pytest.TempPathFactory, series: list[Any], params: list[Any], saved: list[int]
) -> None:
    """No values, steps, times or settings make it fail; weights and shares stay what they are, and JSON is JSON."""
    backend = open_backend(Path(tmp_path_factory.mktemp("any")) / "store", create=True)
    journal = Journal()
    write(backend, journal.batch(started(), *(Param(key, value, "user", 1) for key, value in params)))
    write(backend, journal.batch(*(Artifact(f"{step}.pt", 1, 1, digest="ab" * 32, step=step) for step in saved)))
    for key, context, values, first, apart_ns in series:
        steps = np.arange(len(values), dtype="<i8") + first
        times_ns = START_NS + np.arange(len(values), dtype="<i8") * apart_ns
        columns = [steps.tobytes(), times_ns.tobytes(), np.asarray(values, "<f8").tobytes()]
        write(backend, journal.batch(series=[SeriesPoints(key, context, *columns)]))
    write(backend, journal.batch(RunEnded("finished", START_NS + 10**9)))
    run = backend.run("r1")
    assert run is not None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        profile = profile_of(backend, run)
    backend.close()
    assert all(0 <= finding.weight <= 1 for finding in profile.findings)
    assert [finding.weight for finding in profile.findings] == sorted(
        (f.weight for f in profile.findings), reverse=True
    )
    told = json.loads(to_json(msgspec.to_builtins(profile)))
    assert told["run"] == "r1"
    assert msgspec.convert(msgspec.to_builtins(profile), Profile) == profile or "nan" in str(profile)
    show_profile(console(), profile)
