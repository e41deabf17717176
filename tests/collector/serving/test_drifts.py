"""Replicas that tell the same drift: it is told once, with their number."""

from __future__ import annotations

import io
from typing import Any

import pytest

from collector.recorded import START_NS
from collector.serving.serving_runs import NEXT, NOW_NS, SECOND, VERSION, Serving, window
from looptap.events import Alert, RunEnded, drift_key
from looptap_collector.backend import Backend, RunAlert
from looptap_collector.serving.drifts import drifts, each_once
from looptap_collector.serving.report import report
from looptap_collector.serving.shapes import DriftAlert
from looptap_collector.serving.terminal import picture
from looptap_collector.terminal import console, show_run


def drift(ago: int, state: str = "fired", *, version: str = VERSION, stream: str = "class", **more: Any) -> Alert:
    message = f"predictions of intent (version {version[:12]}) have drifted: {stream}, PSI 0.2"
    return Alert(
        "drift", "warning", state, message, NOW_NS - ago * SECOND, drift_key("intent", version, stream), **more
    )


def served(backend: Backend, *told: tuple[Alert, ...]) -> list[Serving]:
    """A replica for each, which has told these alerts."""
    replicas = []
    for number, some in enumerate(told):
        replicas.append(Serving(backend, f"worker-{number}", start_ns=START_NS + number))
        replicas[-1].deliver(window(500), window(100), *some)
    return replicas


def all_told(backend: Backend) -> list[tuple[int, int | None, list[str]]]:
    """When they began and ended, in seconds before now, and who told them."""
    return [
        (
            (NOW_NS - one.fired.alert.time_ns) // SECOND,
            None if one.until_ns is None else (NOW_NS - one.until_ns) // SECOND,
            [run.removeprefix("run-worker-") for run in one.runs],
        )
        for one in drifts(backend, backend.alerts())
    ]


def test_one_drift(backend: Backend) -> None:
    """From when the first has raised it until the last has taken it back."""
    over = drift(30, "recovered")
    served(backend, (drift(90), over), (drift(100), drift(50, "recovered")), (drift(80), drift(60, "recovered")), ())
    assert all_told(backend) == [(100, 30, ["1", "0", "2"])]
    (one,) = drifts(backend, backend.alerts())
    assert one.recovered == RunAlert("run-worker-0", over)


def test_one_that_stands(backend: Backend) -> None:
    """As long as one replica that lives says so; one that has ended says nothing any more."""
    replicas = served(backend, (drift(90), drift(50, "recovered")), (drift(80),))
    assert all_told(backend) == [(90, None, ["0", "1"])]
    replicas[1].deliver(RunEnded("finished", NOW_NS - 40 * SECOND))
    assert all_told(backend) == [(90, 40, ["0", "1"])]


def test_two_after_each_other(backend: Backend) -> None:
    """Are two, also of one replica; what begins while another replica still drifts belongs to it."""
    first = (drift(100), drift(90, "recovered"), drift(88), drift(87, "recovered"))
    second = (drift(80), drift(70, "recovered"))
    served(backend, (*first, *second), (drift(95), drift(85, "recovered"), drift(75)))
    assert all_told(backend) == [(100, 85, ["0", "1"]), (80, None, ["0", "1"])]


def test_what_is_another_drift(backend: Backend) -> None:
    """Of another stream or version; alerts of other kinds are never shared."""
    other = Alert("stall", "warning", "fired", "no step", NOW_NS, "class")
    served(backend, (drift(90), other), (drift(90, version=NEXT), other), (drift(90, stream="score"),))
    assert [runs for _, _, runs in all_told(backend)] == [["0"], ["1"], ["2"]]
    told = each_once(backend, backend.alerts())
    assert [(one.alert.kind, replicas) for one, replicas in told] == [("stall", 1)] * 2 + [("drift", 1)] * 3


def test_in_a_report(backend: Backend) -> None:
    """Those of the version, of the model and of the time, however many replicas."""
    served(
        backend,
        *((drift(90), drift(50 - number, "recovered")) for number in range(4)),
        (drift(80, version=NEXT), drift(10_000, stream="old"), drift(9_000, "recovered", stream="old")),
    )
    found = report(backend, "intent", since_ns=NOW_NS - 1_000 * SECOND, until_ns=NOW_NS)
    (version,) = found.versions
    assert version.alerts == [
        DriftAlert(
            drift(90).message,
            drift_key("intent", VERSION, "class"),
            "warning",
            NOW_NS - 90 * SECOND,
            NOW_NS - 47 * SECOND,
            4,
        )
    ]
    assert version.version == VERSION
    stream = io.StringIO()
    console(stream).print(picture(found))
    (line,) = [line for line in stream.getvalue().splitlines() if "alert" in line]
    assert "class, PSI 0.2 · told by 4 replicas · over " in line
    assert report(backend, "other", since_ns=0, until_ns=NOW_NS).versions == []


@pytest.mark.parametrize(("count", "said"), [(1, ""), (3, " · told by 3 replicas")])
def test_a_run_shows(backend: Backend, count: int, said: str) -> None:
    """Its own alerts, and how many tell the same."""
    replicas = served(backend, *((drift(90 - number),) for number in range(count)))
    row = backend.run(replicas[-1].run)
    assert row is not None
    stream = io.StringIO()
    show_run(console(stream), backend, row)
    (line,) = [line for line in stream.getvalue().splitlines() if line.startswith("alert")]
    assert line.rstrip().endswith("class, PSI 0.2" + said)
