"""The slowest rank of each step, made from the times of all ranks: by hand-made times, through every door."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import looptap
from looptap.events import RunEnded
from looptap_collector import slowest
from looptap_collector.backend import Backend
from looptap_collector.embedded import open_backend
from looptap_collector.terminal import console, show_run
from looptap_collector.testing.batches import Journal, points, started, write


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[Backend]:
    opened = open_backend(tmp_path / "store", create=True)
    yield opened
    opened.close()


def job(backend: Backend, times: list[dict[str, tuple[list[int], list[float]]]]) -> None:
    """A job; of each rank the steps and values of its series."""
    for rank, series in enumerate(times):
        context = {"rank": str(rank)} if rank else {}
        journal = Journal(f"j{rank}")
        columns = [points(key, steps, values, context) for key, (steps, values) in series.items()]
        identity = started(rank=rank, world_size=len(times))
        write(backend, journal.batch(identity, RunEnded("finished", 9, rank=rank), series=columns))


def read(backend: Backend, **more: Any) -> tuple[list[int], list[float], list[float]]:
    ranks = slowest.history(backend, "r1", slowest.RANK, **more)
    lags = slowest.history(backend, "r1", slowest.LAG, **more)
    assert ranks.steps.tolist() == lags.steps.tolist()
    return ranks.steps.tolist(), ranks.values.tolist(), lags.values.tolist()


def test_by_the_time_before_the_wait(backend: Backend) -> None:
    """Data, transfer, forward and other count; the backward pass, in which the quick ones wait, does not, nor the whole step."""
    steps = [0, 1, 2]
    times = [
        {
            "time.data": (steps, [1.0, 1, 5]),
            "time.forward": (steps, [1.0, 1, 1]),
            "time.backward": (steps, [9.0, 9, 9]),
        },
        {"time.data": (steps, [1.0, 3, 1]), "time.forward": (steps, [1.5, 1, 1]), "time.other": ([0], [0.25])},
        {
            "time.transfer": (steps, [1.0, 1, 1]),
            "time.forward": (steps, [1.0, 1, 1]),
            "step_time": (steps, [99.0, 99, 99]),
        },
    ]
    job(backend, times)
    # Rank by rank: 2, 2, 6 · 2.75, 4, 2 · 2, 2, 2.
    assert read(backend) == (steps, [1.0, 1.0, 0.0], [0.75, 2.0, 4.0])
    assert read(backend, steps=(1, 1)) == ([1], [1.0], [2.0])


def test_by_the_whole_step(backend: Backend) -> None:
    """Where phases are not recorded by all. Steps that one rank alone has are left out; of a step told twice the last counts."""
    job(
        backend,
        [
            {"step_time": ([1, 2, 4], [1.0, 4.0, 1.0]), "time.forward": ([1, 2, 4], [9.0, 9.0, 9.0])},
            {"step_time": ([1, 2, 2, 3], [2.0, 9.0, 3.5, 7.0])},
            {"step_time": ([1, 2, 5], [1.5, 1.0, float("nan")])},
        ],
    )
    assert read(backend) == ([1, 2], [1.0, 0.0], [0.75, 1.75])


def test_several_optimizers_that_share_a_step(backend: Backend) -> None:
    """Their parts are added up; one that steps every other time has no part of the steps between."""
    for rank, first, second in ((0, [1.0, 1.0, 1.0], [4.0]), (1, [2.0, 2.0, 2.0], [2.0])):
        of_rank = {"rank": str(rank)} if rank else {}
        columns = [
            points("time.forward", [0, 1, 2], first, {**of_rank, "optimizer": "first"}),
            points("time.forward", [1], second, {**of_rank, "optimizer": "second"}),
        ]
        write(backend, Journal(f"j{rank}").batch(started(rank=rank, world_size=2), series=columns))
    assert read(backend) == ([0, 1, 2], [1.0, 0.0, 1.0], [1.0, 1.0, 1.0])


def test_many_steps_in_pieces(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are, they are compared in pieces, with the same result; a chart has as many points as it asks for."""
    steps = np.arange(3_000)
    noise = np.random.default_rng(0).random((2, 3_000))
    job(backend, [{"step_time": (steps.tolist(), row.tolist())} for row in noise])
    monkeypatch.setattr(slowest, "_CELLS", 200)
    at, ranks, lags = read(backend)
    assert at == steps.tolist()
    assert ranks == np.argmax(noise, axis=0).tolist()
    assert lags == np.abs(noise[0] - noise[1]).tolist()
    thinned = slowest.history(backend, "r1", slowest.LAG, points=50)
    assert 7 <= len(thinned.steps) <= 50
    assert max(thinned.values) == max(lags)


def test_a_run_of_one_process_has_none(backend: Backend) -> None:
    """Nothing to compare: no line, no chart, no series."""
    write(
        backend,
        Journal().batch(
            started(), series=[points("step_time", [1], [1.0]), points("step_time", [1], [2.0], {"group": "1"})]
        ),
    )
    assert slowest.in_words(backend, "r1", backend.series(["r1"])) is None
    with pytest.raises(KeyError, match="one process only"):
        slowest.history(backend, "r1", slowest.RANK)


def test_what_people_see(backend: Backend, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line of ``looptap show``, the table in Python, the chart's points on the page."""
    steps = list(range(4))
    job(
        backend,
        [
            {"step_time": (steps, [0.1] * 4)},
            {"step_time": (steps, [0.1, 0.1, 0.1, 0.2])},
            {"step_time": (steps, [0.113] * 4)},
        ],
    )
    run = backend.run("r1")
    assert run is not None
    show_run(console(), backend, run)
    shown = capsys.readouterr().out
    assert "slowest rank 2 in 75 % of steps, 13 ms behind the median" in shown
    assert "3 processes: ranks 0–2 finished" in shown
    assert "ranks 1–2: 2 more series" in shown
    found = looptap.get_run("r1", store=tmp_path / "store")
    assert found.history("slowest_rank")["value"].tolist() == [2.0, 2.0, 2.0, 1.0]
    assert found.history("slowest_rank_lag")["value"].tolist() == pytest.approx([0.013] * 3 + [0.0935])


def test_the_page(backend: Backend) -> None:
    """The run's record lists both as charts, and gives their points."""
    from starlette.testclient import TestClient

    from looptap_collector.web.app import create_app

    steps = list(range(4))
    job(backend, [{"step_time": (steps, [0.1] * 4)}, {"step_time": (steps, [0.2] * 4)}])
    client = TestClient(create_app(lambda: backend), base_url="http://127.0.0.1")
    metrics = client.get("/api/runs/r1").json()["metrics"]
    assert {"slowest_rank", "slowest_rank_lag"} <= set(metrics)
    asked = client.get("/api/runs/r1/histories", params={"series": ["slowest_rank", "slowest_rank_lag"]}).json()[
        "series"
    ]
    assert asked["slowest_rank"]["values"] == [1.0] * 4
    assert asked["slowest_rank_lag"]["values"] == pytest.approx([0.1] * 4)
    assert json.dumps(metrics["slowest_rank"])
