"""Questions about alerts over HTTP."""

from __future__ import annotations

import httpx
import pytest

from collector.server.collectors import Collector
from looptap.events import Alert
from looptap_collector.testing.batches import Journal, started


@pytest.fixture
def client(collector: Collector) -> httpx.Client:
    """Two runs; the second has recovered."""
    for number, run in enumerate(["one", "two"]):
        told = [
            Alert("not_finite", "critical", "fired", "loss is NaN", 10 + number, "loss", float("nan"), step=3),
            Alert("stall", "warning", "fired", "no step", 20 + number, value=75.0, threshold=60.0),
            *[Alert("stall", "warning", "recovered", "step 4", 30)] * number,
        ]
        batch = Journal(f"j-{run}", run).batch(started(run, name=f"name-{run}", time_ns=number), *told)
        assert collector.send(batch).status_code == 200
    return collector.client("read")


def test_alerts(client: httpx.Client) -> None:
    """By run and kind, the latest first, with all that was told."""

    def found(**params: object) -> list[str]:
        told = client.get("/v1/alerts", params=params).json()["alerts"]  # type: ignore[arg-type]
        return [f"{one['run']} {one['kind']} {one['state']}" for one in told]

    assert found()[0] == "two stall recovered"
    assert len(found()) == 5
    assert found(run="one") == ["one stall fired", "one not_finite fired"]
    assert found(kind="not_finite") == ["two not_finite fired", "one not_finite fired"]
    (told,) = client.get("/v1/alerts", params={"run": "one", "kind": "not_finite"}).json()["alerts"]
    assert told == {
        "run": "one",
        "kind": "not_finite",
        "severity": "critical",
        "state": "fired",
        "message": "loss is NaN",
        "time_ns": 10,
        "key": "loss",
        "value": "NaN",
        "threshold": None,
        "step": 3,
        "rank": 0,
    }


def test_whether_there_are_more(client: httpx.Client) -> None:
    """Is said."""
    assert client.get("/v1/alerts", params={"limit": 4}).json()["complete"] is False
    assert client.get("/v1/alerts", params={"limit": 5}).json()["complete"] is True
    assert client.get("/v1/alerts", params={"limit": 0}).status_code == 422


def test_a_list_of_runs_has_their_numbers(client: httpx.Client) -> None:
    """And the record has each of them."""
    listed = {run["id"]: run["alerts"] for run in client.get("/v1/runs").json()["runs"]}
    assert listed == {"one": {"fired": 2, "standing": 2}, "two": {"fired": 2, "standing": 1}}
    assert [one["kind"] for one in client.get("/v1/runs/one").json()["alerts"]] == ["not_finite", "stall"]


def test_a_drift_that_replicas_tell(collector: Collector) -> None:
    """Once, where that is asked for, with their number: when it was first raised and when it was last taken back."""
    for number in range(3):
        journal = Journal(f"j{number}", f"worker-{number}")
        told = [
            Alert("drift", "warning", "fired", "drifted", 10 + number, "intent@v1.class"),
            Alert("drift", "warning", "recovered", "is again", 20 + number, "intent@v1.class"),
        ]
        collector.send(journal.batch(started(journal.run, kind="serving"), *told))
    client = collector.client()
    assert len(client.get("/v1/alerts").json()["alerts"]) == 6
    told = client.get("/v1/alerts", params={"once": True}).json()["alerts"]
    assert [(one["run"], one["state"], one["time_ns"], one["replicas"]) for one in told] == [
        ("worker-2", "recovered", 22, 3),
        ("worker-0", "fired", 10, 3),
    ]
