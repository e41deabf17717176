"""Questions about served models over HTTP."""

from __future__ import annotations

import base64
import json

import httpx
import msgspec
import pytest

from collector.server.collectors import Collector
from looptap.events import Window
from looptap.sketches import distribution
from looptap_collector.record import to_json
from looptap_collector.testing.batches import Journal, started
from looptap_collector.testing.contracts.windows import EXAMPLES, VERSION, full


@pytest.fixture
def client(collector: Collector) -> httpx.Client:
    """A run that serves and one that evaluates."""
    told = [full(time_ns) for time_ns in (10, 20, 30)]
    assert collector.send(Journal("j-one", "one").batch(started("one", kind="serving"), *told)).status_code == 200
    evaluated = Window("intent", 5, 60.0, VERSION, split="test", requests=100)
    assert collector.send(Journal("j-two", "two").batch(started("two"), evaluated)).status_code == 200
    return collector.client("read")


def test_windows(client: httpx.Client) -> None:
    """The latest first, in pages; sketches in base64."""
    first = client.get("/v1/windows", params={"limit": 2}).json()
    assert [one["time_ns"] for one in first["windows"]] == [30, 20]
    rest = client.get("/v1/windows", params={"limit": 2, "before": first["next"]}).json()
    assert ([one["time_ns"] for one in rest["windows"]], rest["next"]) == ([10], None)
    told = rest["windows"][0]
    assert (told["run"], told["journal"], told["version"], told["errors"]) == (
        "one",
        "j-one",
        VERSION,
        {"ValueError": 2, "HTTP 503": 1},
    )
    sketch = distribution.decode(base64.b64decode(told["predictions"]["class"]))
    assert sketch.classes == {"ü": 1, "🦦": 1}
    assert told["examples"] == json.loads(to_json([msgspec.structs.asdict(one) for one in EXAMPLES]))
    assert [one["asked"] for one in told["examples"]] == [EXAMPLES[0].asked, {}]


def test_windows_by_what_they_are_of(client: httpx.Client) -> None:
    def times(**params: object) -> list[int]:
        return [one["time_ns"] for one in client.get("/v1/windows", params=params).json()["windows"]]  # type: ignore[arg-type]

    assert times(model="intent", since_ns=20, until_ns=30) == [20]
    assert times(version="cd" * 32) == times(run="two") == times(model="other") == []
    assert times(reference="true", version=VERSION) == [5]
    assert client.get("/v1/windows", params={"before": "30"}).status_code == 422
    assert client.get("/v1/windows", params={"modell": "intent"}).status_code == 422


def test_models_that_are_served(client: httpx.Client) -> None:
    """An evaluation is no serving."""
    assert client.get("/v1/serving").json() == {
        "models": [
            {
                "model": "intent",
                "version": VERSION,
                "requests": 21,
                "errors": 9,
                "windows": 3,
                "first_ns": 10,
                "last_ns": 30,
            }
        ]
    }
    assert client.get("/v1/serving", params={"since_ns": 31}).json() == {"models": []}


def test_a_report(client: httpx.Client) -> None:
    """Of one model, with what it is held against; without a version where nobody asked it."""
    found = client.get("/v1/serving/report", params={"model": "intent", "since_ns": 0, "until_ns": 25}).json()
    (version,) = found["versions"]
    assert (version["version"], version["requests"], version["origin"]) == (VERSION, 14, None)
    assert version["predictions"]["class"]["classes"] == {"ü": 2, "🦦": 2}
    assert len(version["missing"]) == 3
    assert client.get("/v1/serving/report", params={"model": "intent"}).json()["versions"] == []
    quick = client.get(
        "/v1/serving/report", params={"model": "intent", "since_ns": 0, "until_ns": 25, "drift": "false"}
    )
    assert quick.json()["versions"][0]["missing"] == []
    assert client.get("/v1/serving/report").status_code == 422


def test_a_comparison(client: httpx.Client, collector: Collector) -> None:
    """Of two versions; where there are none, it is said which there are."""
    question: dict[str, str | int] = {"model": "intent", "since_ns": 0, "until_ns": 100}
    missing = client.get("/v1/serving/comparison", params=question)
    assert missing.status_code == 404
    assert "there are: abababababab" in missing.json()["error"]["message"]
    other = Window("intent", 15, 10.0, "v2", requests=1_000)
    assert collector.send(Journal("j-three", "three").batch(started("three"), other)).status_code == 200
    found = client.get("/v1/serving/comparison", params=question).json()
    assert [found["first"]["version"], found["second"]["version"], found["at_once"]] == [VERSION, "v2", True]
    swapped = client.get("/v1/serving/comparison", params=question | {"first": "v", "second": "ab"}).json()
    assert swapped["first"]["version"] == "v2"


def test_a_window_that_cannot_be(collector: Collector) -> None:
    """Is refused in one line, with its place; nothing of its batch is stored."""
    bad = Window("m", 1, 10.0, predictions={"class": b"\xff"})
    answer = collector.send(Journal("j", "r").batch(started("r"), bad))
    assert answer.status_code == 422
    assert answer.json()["error"]["field"] == "records[1].predictions"
    assert collector.store.run("r") is None
