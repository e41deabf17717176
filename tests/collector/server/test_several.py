"""Three collectors over one real PostgreSQL behind a real HAProxy: any of them takes any retry."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import psycopg
import pytest

from collector.server.cluster import Cluster, cluster
from faultproxy import Exchange, FaultProxy, lost_answer, passing
from looptap.events import Batch, File, RunStarted
from looptap.http_sink import HttpSink
from looptap.settings import Settings
from looptap.sinks import Unavailable
from looptap_collector.artifacts import open_artifacts
from looptap_collector.server.access import Scope
from looptap_collector.stores import open_store
from sending import KEYS, Load, Sending, Verdict, verify


@pytest.fixture(scope="module")
def three(postgresql_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with psycopg.connect(postgresql_server + "postgres", autocommit=True) as connection:
        connection.execute("CREATE DATABASE several")
    with cluster(postgresql_server + "several", tmp_path_factory.mktemp("several")) as running:
        yield running


@pytest.fixture(scope="module")
def reader(three: Cluster) -> str:
    return three.token("reader", Scope.READ)


def stored_by(three: Cluster, number: int, reader: str, outcome: str = "stored") -> float:
    """Batches that this collector has taken, as it tells itself."""
    headers = {"authorization": f"Bearer {reader}"}
    told = httpx.get(f"{three.collectors[number].address}/metrics", headers=headers, trust_env=False).text
    found = re.search(rf'^looptap_batches_total{{outcome="{outcome}"}} (\S+)', told, re.M)
    return float(found[1]) if found else 0.0


def wait_until_all_store(three: Cluster, reader: str) -> None:
    """Every collector that runs takes its part."""
    deadline = time.monotonic() + 30
    while not all(stored_by(three, number, reader) > 2 for number in three.collectors):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def assert_clean(three: Cluster) -> None:
    words = ["store", "check", three.store, "--artifacts", str(three.folder / "artifacts"), "--content"]
    done = subprocess.run([sys.executable, "-m", "looptap.cli", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_collectors_come_and_go_under_load(
    three: Cluster, reader: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four agents send through the proxy. One collector is killed with -9 in the middle and started again, one is told to end.
    Every point is there once, to the bit, the ledger adds up, and the store's own check finds nothing."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(three.authority))
    loads = [Load(number, points=6_000, seconds=8, interval=0.02) for number in range(4)]
    token = three.token("trainers")
    agents = [Sending(three.address, token, tmp_path, load) for load in loads]
    try:
        wait_until_all_store(three, reader)
        three.end(0, kill=True)
        time.sleep(0.5)
        three.start(0)
        wait_until_all_store(three, reader)
        three.end(1)
        time.sleep(0.5)
        three.start(1)
        told = [agent.result() for agent in agents]
    finally:
        for agent in agents:
            agent.close()
    assert all(one.delivered and not one.dropped for one in told), told
    store = open_store(three.store, create=False)
    assert verify(store, loads) == Verdict(points=4 * 6_000 * len(KEYS))
    for load, one in zip(loads, told, strict=True):
        (entry,) = store.delivery(load.run)
        assert (entry.next, entry.stored, entry.dropped) == (one.emitted, one.emitted, {})
        assert one.emitted == 6_000 * len(KEYS) + 2
        row = store.run(load.run)
        assert row is not None
        assert row.status == "finished"
    store.close()
    assert_clean(three)


def test_lost_answer_is_asked_for_at_another_collector(three: Cluster, reader: str) -> None:
    """One collector commits and its answer is lost; the next try gets to another one, which knows that it is a duplicate."""
    settings = Settings(token=three.token("retry"))
    one, other = three.ports[0], three.ports[1]
    batch = Batch("retry", "retry", 0, 1, records=(RunStarted("retry", "retry", "demo", 1),))
    before = [stored_by(three, number, reader, "duplicate") for number in range(3)]
    with FaultProxy("127.0.0.1", one) as network:

        async def lost_and_away(exchange: Exchange) -> None:
            await lost_answer(exchange)
            network.aim("127.0.0.1", other)

        network.script(lost_and_away)
        sink = HttpSink(network.url, settings)
        with pytest.raises(OSError, match="cannot be reached"):
            sink.deliver(batch)
        sink.deliver(batch)
        assert sink.position("retry") == 1
        sink.close()
    after = [stored_by(three, number, reader, "duplicate") for number in range(3)]
    assert [int(now - then) for now, then in zip(after, before, strict=True)] == [0, 1, 0]
    assert_clean(three)


def test_upload_goes_on_at_another_collector(three: Cluster, tmp_path: Path) -> None:
    """The second piece of a file gets to a collector that has nothing of it: the upload begins again there, and is whole."""
    settings = Settings(token=three.token("files"))
    one, other = three.ports[0], three.ports[2]
    content = random.Random(5).randbytes(9_000_000)
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    state = path.stat()
    file = File(str(path), path.name, 1, state.st_size, state.st_mtime_ns)
    with FaultProxy("127.0.0.1", one) as network:

        async def then_away(exchange: Exchange) -> None:
            await passing(exchange)
            if exchange.seen.method == "PUT":
                network.aim("127.0.0.1", other)

        network.behave(then_away)
        sink = HttpSink(network.url, settings)
        artifact = None
        for _ in range(10):
            # An early refusal on a connection that closes may be lost with it; the next call asks.
            with suppress(Unavailable):
                artifact = artifact or sink.keep_file(file)
        sink.close()
        starts = [seen.headers["content-range"].partition("-")[0] for seen in network.requests if seen.method == "PUT"]
    assert starts.count("bytes 0") == 2
    assert artifact is not None
    assert artifact.digest is not None
    with three.client(settings.token) as client:
        assert client.head(f"/v1/artifacts/{artifact.digest}").status_code == 200
    assert b"".join(open_artifacts(three.folder / "artifacts").read(artifact.digest, 0, len(content))) == content


def test_pieces_of_a_file_stay_together(three: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the proxy a file's pieces go to one collector, so that an upload never begins again while all is well."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(three.authority))
    settings = Settings(token=three.token("pieces"))
    sink = HttpSink(three.address, settings)
    for seed in range(3):
        path = tmp_path / f"{seed}.pt"
        path.write_bytes(random.Random(seed).randbytes(9_000_000))
        state = path.stat()
        calls = 1
        while sink.keep_file(File(str(path), path.name, 1, state.st_size, state.st_mtime_ns)) is None:
            calls += 1
        assert calls == 3  # of 4 MiB
    sink.close()
