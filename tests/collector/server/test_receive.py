"""Batches over HTTP: stored once, acknowledged after the commit, refused in one shape."""

from __future__ import annotations

import gzip
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import httpx
import msgspec
import numpy as np
import pytest
import zstandard

from collector.server.collectors import MEDIA_TYPE, Collector, body_of
from looptap.events import Batch, Param, Tag
from looptap_collector.testing.batches import Journal, points, started, told


def error_of(answer: httpx.Response) -> dict[str, object]:
    """The error of an answer, which has exactly the four fields."""
    error = answer.json()["error"]
    assert set(error) == {"code", "message", "field", "hint"}
    assert "\n" not in error["message"]
    return dict(error)


def test_a_batch_is_stored_and_then_a_duplicate(collector: Collector) -> None:
    """The answer comes after the commit: another connection to the store has it all at that moment."""
    batch = Journal().batch(
        started(), Param("lr", 0.1, "user", 1), series=[points("loss", [0, 1], [2.0, float("nan")])]
    )
    assert collector.send(batch).json() == {"outcome": "stored"}
    assert collector.store.position("j1") == batch.next
    assert repr(told(collector.store.history("r1", "loss", {}))["values"]) == "[2.0, nan]"
    assert collector.send(batch).json() == {"outcome": "duplicate"}
    assert collector.store.series(["r1"])[0].count == 2


@pytest.mark.parametrize("encoding", ["zstd", "gzip", "identity", None])
def test_encodings(collector: Collector, encoding: str | None) -> None:
    """zstd, gzip and plain bodies are all taken."""
    plain = msgspec.msgpack.encode(Journal().batch(started()))
    body = {"zstd": zstandard.compress(plain), "gzip": gzip.compress(plain)}.get(encoding or "", plain)
    headers = {"content-type": MEDIA_TYPE} | ({"content-encoding": encoding} if encoding else {})
    assert collector.client("ingest").post("/v1/batches", content=body, headers=headers).json() == {"outcome": "stored"}


def test_where_a_journal_goes_on(collector: Collector) -> None:
    """The position is one past the last number stored; a name with slashes and odd characters is only a name."""
    name = "host/../%2e j?ü"
    batch = Journal(name).batch(started())
    assert collector.send(batch).status_code == 200
    client = collector.client("ingest")
    assert client.get(f"/v1/journals/{quote(name, safe='')}").json() == {"next": 1}
    assert client.get("/v1/journals/unknown").json() == {"next": 0}


def test_same_numbers_with_other_records_are_a_conflict(collector: Collector) -> None:
    """A batch that contradicts the stored one is told so (409), and nothing changes."""
    first = Journal().batch(started(), Tag("a", "1", 1))
    assert collector.send(first).status_code == 200
    other = Journal().batch(started(), Tag("a", "2", 1))
    answer = collector.send(other)
    assert (answer.status_code, error_of(answer)["code"]) == (409, "conflict")
    assert collector.store.tags("r1") == {"a": "1"}
    late_news = Journal().batch(started(), Tag("a", "1", 1), heartbeat_ns=77)
    assert collector.send(late_news).json() == {"outcome": "duplicate"}


def test_a_rejected_batch_names_the_field(collector: Collector) -> None:
    """What is wrong with a batch for good is 422, with the reason; the next one is stored."""
    answer = collector.send(Batch("r1", "j1", 0, 1, series=(points("x", [1], [1.0]),)))
    assert (answer.status_code, error_of(answer)["code"]) == (422, "rejected")
    assert "never started" in str(error_of(answer)["message"])
    assert collector.send(Journal().batch(started())).status_code == 200


def test_not_a_batch(collector: Collector) -> None:
    """Bytes that are no MessagePack are 400, MessagePack of another form is 422 with the field, a damaged body is 400."""
    client = collector.client("ingest")
    for body, encoding, status, code in (
        (b"\xc1 no", "identity", 400, "malformed"),
        (msgspec.msgpack.encode({"run": "r1", "journal": 5, "first": 0, "next": 1}), "identity", 422, "invalid"),
        (msgspec.msgpack.encode([1, 2]), "identity", 422, "invalid"),
        (b"", "identity", 400, "malformed"),
        (zstandard.compress(b"x" * 1000)[:-4], "zstd", 400, "malformed"),
        (zstandard.compress(b"x" * 1000) + b"more", "zstd", 400, "malformed"),
        (gzip.compress(b"x" * 1000)[:-4], "gzip", 400, "malformed"),
        (gzip.compress(b"x") + b"more", "gzip", 400, "malformed"),
        (gzip.compress(gzip.compress(msgspec.msgpack.encode(Journal().batch(started())))), "gzip", 422, "invalid"),
        (b"plain", "zstd", 400, "malformed"),
        (b"plain", "br", 415, "unsupported_encoding"),
        (b"plain", "gzip, zstd", 415, "unsupported_encoding"),
    ):
        answer = client.post(
            "/v1/batches",
            content=body,
            headers={"content-type": MEDIA_TYPE, "content-encoding": encoding},
        )
        assert (answer.status_code, error_of(answer)["code"]) == (status, code), (body[:40], encoding)
    assert collector.store.runs() == []


def test_the_wrong_media_type(collector: Collector) -> None:
    """Only what a form of a web page cannot send is taken."""
    for media_type in ("application/json", "text/plain", "application/x-www-form-urlencoded", ""):
        answer = collector.client("ingest").post("/v1/batches", content=b"{}", headers={"content-type": media_type})
        assert (answer.status_code, error_of(answer)["code"]) == (415, "unsupported_media_type")


def test_many_agents_at_once(collector: Collector) -> None:
    """Sixteen agents that send at the same time each get their own answers, and all is stored."""

    def agent(number: int) -> None:
        journal = Journal(f"j{number}", f"r{number}")
        with httpx.Client(base_url=collector.address, trust_env=False, timeout=60) as client:
            for turn in range(20):
                records = [started(f"r{number}")] if turn == 0 else []
                steps = np.arange(turn * 50, turn * 50 + 50)
                batch = journal.batch(*records, series=[points("loss", steps, steps / 3)])
                for outcome in ("stored", "duplicate") if turn % 5 == 0 else ("stored",):
                    answer = client.post(
                        "/v1/batches",
                        content=body_of(batch),
                        headers={
                            "content-type": MEDIA_TYPE,
                            "content-encoding": "zstd",
                            "authorization": f"Bearer {collector.tokens['ingest']}",
                        },
                    )
                    assert answer.json() == {"outcome": outcome}

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(agent, range(16)))
    for number in range(16):
        assert collector.store.history(f"r{number}", "loss", {}).steps.tolist() == list(range(1000))
    measures = collector.client("read").get("/metrics").text
    assert 'looptap_batches_total{outcome="stored"} 320.0' in measures
    assert 'looptap_batches_total{outcome="duplicate"} 64.0' in measures
    assert "looptap_points_stored_total 16000.0" in measures


def test_a_poisonous_batch_does_not_harm_its_neighbours(collector: Collector) -> None:
    """Batches that go into one commit with a refused one are stored all the same."""

    def send(number: int) -> int:
        journal = Journal(f"j{number}", f"r{number}")
        records = [started(f"r{number}")] if number % 2 else [Tag("no", "start", 1)]
        return collector.send(journal.batch(*records)).status_code

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(send, range(32)))
    assert answers == [422, 200] * 16
    assert len(collector.store.runs()) == 16
