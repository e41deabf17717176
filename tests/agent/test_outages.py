"""Cases 1 to 16 of the fault matrix, as far as an agent sees them: a sender, a real collector and a network between them that
misbehaves. After each: ``emitted = stored + in journal + dropped``, and nothing twice."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
import zstandard

from agent.collectors import TOKEN, Collector, serving
from agent.journal.scenes import RUN, folder_of, point
from faultproxy import (
    Exchange,
    FaultProxy,
    above,
    answer,
    every_second,
    full_backlog,
    lost_answer,
    on,
    passing,
    portal,
    redirect,
    refusal,
    reset_mid_body,
    silent,
    truncated,
)
from looptap.events import Batch, File, Note
from looptap.http_sink import HttpSink
from looptap.journal import courier as couriers
from looptap.journal.frames import encode
from looptap.journal.reader import tail_position
from looptap.journal.writer import JournalWriter
from looptap.sender import Sender
from looptap.settings import Settings


@pytest.fixture
def warned() -> list[str]:
    """What the user was told on stderr."""
    return []


@pytest.fixture
def sender(writer: JournalWriter, proxy: FaultProxy, settings: Settings, warned: list[str]) -> Iterator[Sender]:
    found = Sender(writer, RUN, lambda: HttpSink(proxy.url, settings, seconds=1.0), interval=0.01, warn=warned.append)
    yield found
    found.stop(0)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between attempts that do not make a test wait."""
    monkeypatch.setattr("looptap.sender.BACKOFF_BASE_SECONDS", 0.01)
    monkeypatch.setattr("looptap.sender.BACKOFF_CAP_SECONDS", 0.05)


def assert_all_stored(writer: JournalWriter, collector: Collector, steps: list[int], dropped: int = 0) -> None:
    """Every number that was taken is stored or counted as dropped, and each point is there once."""
    found = collector.delivery(RUN)
    assert found.next == writer.position
    assert sum(found.dropped.values()) == sum(writer.dropped.values()) == dropped
    assert writer.position == found.stored + dropped
    assert collector.steps(RUN) == steps


def record(writer: JournalWriter, first: int, last: int) -> None:
    for step in range(first, last):
        writer.append(point(step))


def test_collector_is_away_for_a_while(quick: None, tmp_path: Path, writer: JournalWriter, settings: Settings) -> None:
    """Case 2: it goes in the middle of a run and comes back; all that was recorded meanwhile is there, once."""
    with FaultProxy("127.0.0.1", 1) as proxy:
        sender = Sender(writer, RUN, lambda: HttpSink(proxy.url, settings, seconds=1.0), interval=0.01)
        sender.start()
        record(writer, 0, 1_000)
        assert not sender.flush(0.3)
        for end in (2_000, 3_000, 4_000):
            with serving(tmp_path / "collector") as collector:
                proxy.aim("127.0.0.1", collector.port)
                assert sender.flush(20)
                # What is under way when it goes may arrive or not.
                record(writer, end - 1_000, end)
        with serving(tmp_path / "collector") as collector:
            proxy.aim("127.0.0.1", collector.port)
            assert sender.stop(20)
            assert_all_stored(writer, collector, list(range(4_000)))


def test_lost_answers(
    quick: None, writer: JournalWriter, proxy: FaultProxy, collector: Collector, sender: Sender
) -> None:
    """Case 4: every second answer is lost after the commit; what is sent again is a duplicate to the collector."""
    proxy.behave(on("/v1/batches", every_second(lost_answer)))
    sender.start()
    for end in range(100, 2_000, 100):
        record(writer, end - 100, end)
        assert sender.flush(20)
    assert sender.stop(20)
    assert sender.state().retries > 5
    assert_all_stored(writer, collector, list(range(1_900)))


@pytest.mark.parametrize("status", [503, 429])
def test_collector_asks_to_be_left_alone(
    status: int,
    writer: JournalWriter,
    proxy: FaultProxy,
    collector: Collector,
    sender: Sender,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Cases 6 and 7: for as long as it says it hears nothing, neither of records nor of life, however much somebody waits."""
    monkeypatch.setattr("looptap.sender.HEARTBEAT_SECONDS", 0.0)
    busy = refusal(status, "busy", retry_after=1)
    proxy.script(busy, passing, busy, busy)
    record(writer, 0, 100)
    sender.start()
    while collector.backend.position(writer.journal) < writer.position:
        sender.flush(0.02)
    assert sender.stop(10)
    refused = [0, 2, 3]
    for number in refused:
        pause = proxy.requests[number + 1].at - proxy.requests[number].at
        assert pause >= 1.0, [seen.at for seen in proxy.requests]
    assert_all_stored(writer, collector, list(range(100)))


def test_exit_does_not_wait_for_a_busy_collector(writer: JournalWriter, proxy: FaultProxy, sender: Sender) -> None:
    """A collector that wants ten minutes gets them; the program ends now, and its records are in the journal."""
    proxy.behave(refusal(503, "busy", retry_after=600))
    sender.start()
    record(writer, 0, 10)
    while not proxy.requests or sender.state().retries == 0:
        time.sleep(0.01)
    began = time.monotonic()
    assert not sender.flush(20)
    assert not sender.stop(20)
    assert time.monotonic() - began < 10
    assert len(proxy.requests) == 1
    assert tail_position(folder_of(writer)) == writer.position == 11


def test_somebody_who_waits_makes_no_hot_loop(writer: JournalWriter, proxy: FaultProxy, sender: Sender) -> None:
    """flush() in a loop, as at every step of a training, asks a failing collector no more often than its pauses allow."""
    proxy.behave(answer(500))
    sender.start()
    began = time.monotonic()
    while time.monotonic() - began < 2:
        sender.flush(0.001)
    # Without a least pause these would be hundreds; with full jitter from half a second on, a handful.
    assert len(proxy.requests) < 40


def test_every_second_request_fails(
    quick: None, writer: JournalWriter, proxy: FaultProxy, collector: Collector, sender: Sender
) -> None:
    """Case 8: a server error each second time costs retries only."""
    proxy.behave(every_second(answer(500, b"Internal Server Error", "text/plain")))
    sender.start()
    for end in range(100, 1_000, 100):
        record(writer, end - 100, end)
        assert sender.flush(20)
    assert sender.stop(20)
    assert_all_stored(writer, collector, list(range(900)))


@pytest.mark.parametrize("body", [b"<html>Request Entity Too Large</html>", b""])
def test_small_bodies_only(
    writer: JournalWriter, proxy: FaultProxy, collector: Collector, sender: Sender, body: bytes
) -> None:
    """Case 9: batches beyond 64 KiB are refused on the way; they are cut down until they get through."""
    proxy.behave(above(64 * 2**10, answer(413, body, "text/html")))
    dice = random.Random(9)
    values = [dice.random() for _ in range(40_000)]
    for step, value in enumerate(values):
        writer.append(point(step, loss=value))
    sender.start()
    assert sender.stop(60)
    assert any(seen.length > 64 * 2**10 for seen in proxy.requests)
    assert_all_stored(writer, collector, list(range(40_000)))
    assert collector.backend.history(RUN, "loss", {}).values.tolist() == values


def test_record_that_is_too_large_alone(
    writer: JournalWriter, proxy: FaultProxy, collector: Collector, sender: Sender
) -> None:
    """One record beyond the limit is dropped and counted; those around it are kept."""
    proxy.behave(above(64 * 2**10, refusal(413, "too_large")))
    record(writer, 0, 10)
    writer.append(encode(Note("long", "".join(random.Random(1).choices("0123456789abcdef", k=60_000 * 3)), 1)))
    record(writer, 10, 20)
    sender.start()
    assert sender.stop(20)
    assert writer.dropped == {"rejected": 1}
    assert_all_stored(writer, collector, list(range(20)), dropped=1)


def test_poisonous_record(writer: JournalWriter, proxy: FaultProxy, collector: Collector, sender: Sender) -> None:
    """Case 10: whatever contains one certain point is malformed to the collector; that point alone is dropped, and counted."""

    async def picky(exchange: Exchange) -> None:
        if exchange.seen.method == "POST":
            plain = zstandard.ZstdDecompressor().decompress(await exchange.body())
            for series in msgspec.msgpack.decode(plain, type=Batch).series:
                if 777 in memoryview(series.steps).cast("q"):
                    await refusal(400, "malformed", "a bad point")(exchange)
                    return
        await passing(exchange)

    proxy.behave(picky)
    record(writer, 0, 2_000)
    sender.start()
    assert sender.stop(20)
    assert writer.dropped == {"rejected": 1}
    assert_all_stored(writer, collector, [step for step in range(2_000) if step != 777], dropped=1)


@pytest.mark.parametrize("status", [401, 403])
def test_token_that_is_no_longer_good(
    quick: None,
    status: int,
    writer: JournalWriter,
    proxy: FaultProxy,
    collector: Collector,
    sender: Sender,
    warned: list[str],
) -> None:
    """Case 11: while the collector lets us in no more, the journal grows; one warning each time, and a line when it is over."""
    sender.start()
    for outage in (1, 2):
        record(writer, outage * 1_000, outage * 1_000 + 500)
        assert sender.flush(20)
        proxy.behave(refusal(status, "no", "the token was revoked"))
        record(writer, outage * 1_000 + 500, (outage + 1) * 1_000)
        retries = sender.state().retries
        while sender.state().retries < retries + 10:
            time.sleep(0.01)
        # And one between them, that it was over.
        assert len(warned) == 2 * outage - 1
        assert "does not let us in" in warned[-1]
        assert TOKEN not in warned[-1]
        assert tail_position(folder_of(writer)) == writer.position
        proxy.behave(passing)
        assert sender.flush(20)
    assert sender.stop(20)
    assert writer.dropped == {}
    assert_all_stored(writer, collector, list(range(1_000, 3_000)))


def test_black_hole(writer: JournalWriter, settings: Settings) -> None:
    """Case 12: packets to the collector go nowhere. Recording goes on, the exit is bounded, the journal has everything."""
    with full_backlog() as port:
        sender = Sender(writer, RUN, lambda: HttpSink(f"http://127.0.0.1:{port}", settings), interval=0.01)
        sender.start()
        record(writer, 0, 5_000)
        began = time.monotonic()
        assert not sender.stop(0.5)
        assert time.monotonic() - began < 5
        assert tail_position(folder_of(writer)) == writer.position == 5_001


@pytest.mark.parametrize("seed", range(3))
def test_anything_that_can_happen(
    quick: None,
    seed: int,
    tmp_path: Path,
    writer: JournalWriter,
    proxy: FaultProxy,
    collector: Collector,
    sender: Sender,
) -> None:
    """Case 16 and all the others mixed: resets, cuts, login pages, redirects, lost answers, files between the points."""
    dice = random.Random(seed)
    faults = [
        reset_mid_body,
        truncated,
        portal(),
        redirect("http://127.0.0.1:9/"),
        lost_answer,
        answer(502),
        refusal(500, "x"),
    ]
    proxy.script(*(dice.choice([*faults, passing, passing, passing]) for _ in range(60)))
    if seed == 0:
        proxy.script(silent)
    sender.start()
    for number in range(10):
        record(writer, number * 300, (number + 1) * 300)
        model = tmp_path / f"{number}.pt"
        model.write_bytes(dice.randbytes(2_000))
        state = model.stat()
        writer.append(encode(File(str(model), model.name, 1, state.st_size, state.st_mtime_ns)))
        time.sleep(dice.uniform(0, 0.05))
    assert sender.stop(60)
    assert_all_stored(writer, collector, list(range(3_000)))
    artifacts = collector.backend.artifacts(RUN)
    assert len(artifacts) == 10
    assert all(item.digest is not None and collector.artifacts.exists(item.digest) for item in artifacts)


def test_large_file_shows_life(
    writer: JournalWriter,
    proxy: FaultProxy,
    collector: Collector,
    sender: Sender,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between the pieces of an upload the collector hears that the run lives, and so it does while the upload fails."""
    monkeypatch.setattr("looptap.sender.HEARTBEAT_SECONDS", 0.0)
    monkeypatch.setattr("looptap.sender.BACKOFF_BASE_SECONDS", 0.01)
    model = tmp_path / "model.pt"
    model.write_bytes(random.Random(1).randbytes(9_000_000))
    state = model.stat()
    writer.append(encode(File(str(model), "model.pt", 1, state.st_size, state.st_mtime_ns)))
    record(writer, 0, 10)
    proxy.behave(on("/v1/artifacts", refusal(503, "unavailable", "the artifact store is away")))
    sender.start()
    while sender.state().retries < 5:
        time.sleep(0.01)
    asked = [(seen.method, seen.path.split("/")[2]) for seen in proxy.requests]
    assert asked[-2:] in ([("POST", "batches"), ("HEAD", "artifacts")], [("HEAD", "artifacts"), ("POST", "batches")])
    proxy.behave(passing)
    assert sender.stop(30)
    sent = [seen.method for seen in proxy.requests]
    pieces = [number for number, method in enumerate(sent) if method == "PUT"]
    assert len(pieces) == 3
    assert all("POST" in sent[one:other] for one, other in pairwise(pieces))
    assert_all_stored(writer, collector, list(range(10)))


def test_refused_file_holds_up_nothing(
    quick: None, writer: JournalWriter, proxy: FaultProxy, collector: Collector, sender: Sender, tmp_path: Path
) -> None:
    """A file that the collector finds at fault again and again is recorded without its content, and the rest goes on."""
    model = tmp_path / "model.pt"
    model.write_bytes(b"weights")
    state = model.stat()
    writer.append(encode(File(str(model), "model.pt", 1, state.st_size, state.st_mtime_ns)))
    record(writer, 0, 10)
    proxy.behave(on("/v1/artifacts", refusal(422, "digest_mismatch", "other content"), "PUT"))
    sender.start()
    assert sender.stop(20)
    (artifact,) = collector.backend.artifacts(RUN)
    assert artifact.missing == "could not be kept: Rejected: other content"
    assert_all_stored(writer, collector, list(range(10)))


def test_batches_that_come_three_times(
    writer: JournalWriter, proxy: FaultProxy, collector: Collector, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case 5, from the network's side: each request is passed on three times; everything is stored once."""
    monkeypatch.setattr(couriers, "BATCH_BYTES", 20_000)

    async def threefold(exchange: Exchange) -> None:
        for _ in range(3):
            found = await exchange.forward()
        await exchange.send(found)

    proxy.behave(threefold)
    record(writer, 0, 5_000)
    sender.start()
    assert sender.stop(30)
    assert_all_stored(writer, collector, list(range(5_000)))
