"""What an ingest token can and cannot do to the books of others, and to its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from collector.server.collectors import Collector
from collector.server.test_hostile import post
from looptap.events import Batch, RunEnded, Tag
from looptap_collector.testing.batches import Journal, points, started


@pytest.fixture
def other(collector: Collector) -> Collector:
    """The same collector, with a run of ours in it, and the ingest token of somebody else."""
    assert collector.send(
        Journal().batch(started(), Tag("team", "ours", 1), series=[points("x", [1], [1.0])])
    ).is_success
    token = collector.token("somebody-else", "ingest")
    return replace(collector, tokens={**collector.tokens, "ingest": token})


def as_it_is(collector: Collector) -> Any:
    record = collector.client("read").get("/v1/runs/r1").json()
    return record["run"], record["tags"], record["metrics"], record["delivery"]


@pytest.mark.parametrize(
    "batch",
    [
        Batch("r1", "j1", 3, 4, records=(Tag("team", "theirs", 2),)),
        Batch("r1", "j1", 3, 4, records=(RunEnded("killed", 5),)),
        Batch("r1", "j1", 3, 3, heartbeat_ns=2**62),
        Batch("r1", "j1", 0, 3, dropped={"evil": 10**9}, heartbeat_ns=2**62),
        Batch("r1", "j1", 2**62, 2**63 - 1),
        Batch("r1", "j1", 3, 3, dropped={"evil": 2**63 - 1}),
        Batch("r1", "another", 0, 1, records=(started("r1", name="mine"),)),
        Batch("r9", "j1", 0, 1, records=(started("r9"),)),
        Batch("r9", "j1", 3, 3, dropped={"evil": 1}),
    ],
)
def test_37_nobody_else_touches_a_run_or_its_journal(other: Collector, batch: Batch) -> None:
    """Records, ends, signs of life, counts of drops, positions and starts of another owner: refused, nothing changes."""
    before = as_it_is(other)
    assert other.send(batch).status_code == 403
    assert as_it_is(other) == before
    assert other.client("read").get("/v1/runs").json()["runs"][0]["id"] == "r1"
    assert len(other.store.runs()) == 1


def test_37_a_start_of_another_run_is_none(other: Collector) -> None:
    """A batch whose record tells of a run that is not the batch's own is not understood."""
    before = as_it_is(other)
    assert other.send(Batch("r9", "j9", 0, 1, records=(started("r1"),))).status_code == 422
    assert as_it_is(other) == before


def test_37_an_ingest_token_learns_nothing_of_runs(other: Collector) -> None:
    """Runs, points, files and the books cannot be read with it, whether they are there or not: the same answer for both."""
    client = other.client("ingest")
    for there, not_there in (
        ("/v1/runs/r1", "/v1/runs/r2"),
        ("/v1/histories?run=r1&key=x", "/v1/histories?run=r2&key=x"),
        ("/v1/live?run=r1", "/v1/live?run=r2"),
        ("/v1/lineage?run=r1", "/v1/lineage?run=r2"),
    ):
        one, two = client.get(there), client.get(not_there)
        assert (one.status_code, one.content) == (403, two.content)
    assert client.delete("/v1/runs/r1").status_code == client.delete("/v1/runs/r2").status_code == 403


def test_drops_have_few_reasons(collector: Collector) -> None:
    """The row of a journal does not grow with every batch, however many reasons an agent makes up."""
    journal = Journal()
    assert (
        collector.send(journal.batch(started(), dropped={f"r{number}": 1 for number in range(65)})).status_code == 422
    )
    journal = Journal()
    assert collector.send(journal.batch(started(), dropped={"rejected": 1})).status_code == 200
    statuses = [
        collector.send(journal.batch(dropped={f"{batch}-{number}": 1 for number in range(64)})).status_code
        for batch in range(8)
    ]
    assert statuses == [200] * 3 + [422] * 5
    (entry,) = collector.store.delivery("r1")
    assert len(entry.dropped) <= 256


@pytest.mark.parametrize("number", [-1, 2**63, 2**64 - 1])
def test_numbers_beyond_the_store(collector: Collector, number: int) -> None:
    """Numbers of a journal that no column holds are 422, and the field is named."""
    for field in ("first", "next", "heartbeat_ns"):
        content = {"run": "r1", "journal": "j1", "first": 0, "next": 0, field: number}
        answer = post(collector, msgspec.msgpack.encode(content))
        assert (answer.status_code, answer.json()["error"]["field"]) == (422, field)
