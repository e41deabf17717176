"""Live updates as a client sees them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx

from collector.server.collectors import Collector
from looptap.events import RunEnded
from looptap_collector.testing.batches import Journal, points, started


def events(lines: Iterator[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    kind = ""
    for line in lines:
        if line.startswith("event: "):
            kind = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield kind, json.loads(line.removeprefix("data: "))


def test_changes_come_as_they_happen(collector: Collector) -> None:
    """The state at once, then each change of a metric or of the run, then the end of the stream with the end of the run."""
    journal = Journal()
    collector.send(journal.batch(started(), series=[points("loss", [0], [2.0]), points("acc", [0], [0.5])]))
    with collector.client("read").stream("GET", "/v1/live", params={"run": "calm-otter-12"}) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        told = events(stream.iter_lines())
        kind, run = next(told)
        assert (kind, run["id"], run["status"]) == ("run", "r1", "running")
        assert {next(told)[1]["label"] for _ in range(2)} == {"loss", "acc"}
        collector.send(journal.batch(series=[points("loss", [1], [float("nan")])]))
        kind, metric = next(told)
        assert (kind, metric["label"], metric["count"], metric["last"]) == ("metric", "loss", 2, "NaN")
        collector.send(
            journal.batch(RunEnded("finished", 1_900_000_000_000_000_000), series=[points("loss", [2], [1.0])])
        )
        rest = list(told)
    assert {(kind, item.get("status") or item.get("last")) for kind, item in rest} == {
        ("run", "finished"),
        ("metric", 1.0),
    }
    assert collector.app.state.service.streams.taken == 0


def test_streams_are_counted(collector: Collector) -> None:
    """More streams than allowed are told to come back; a closed one makes room."""
    collector.send(Journal().batch(started()))
    service = collector.app.state.service
    for number in range(64):
        service.streams.take(f"other-{number % 2}")
    refused = collector.client("read").get("/v1/live", params={"run": "r1"})
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "10")
    for number in range(64):
        service.streams.give_back(f"other-{number % 2}")
    assert collector.client("read").get("/v1/live", params={"run": "nothing"}).status_code == 404


def test_a_client_that_leaves_frees_its_stream(collector: Collector) -> None:
    """The collector notices that nobody listens any more."""
    import time

    collector.send(Journal().batch(started()))
    with httpx.Client(base_url=collector.address, trust_env=False) as client:
        headers = {"authorization": f"Bearer {collector.tokens['read']}"}
        with client.stream("GET", "/v1/live", params={"run": "r1"}, headers=headers) as stream:
            told = events(stream.iter_lines())
            next(told)
            assert collector.app.state.service.streams.taken == 1
    deadline = time.monotonic() + 20
    while collector.app.state.service.streams.taken:
        assert time.monotonic() < deadline
        time.sleep(0.1)
