"""Fault 35: agents bring many times what the store takes. Memory stays bounded on both sides, waiting is asked for and done, and
in the end all of it is stored.

The store is slow because somebody else holds its lock most of the time.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from msgspec.structs import replace
from numpy.random import default_rng

from collector.server.collectors import MEDIA_TYPE, Process, body_of, server_process
from faultproxy import Exchange, FaultProxy
from looptap.events import Batch, Note
from looptap_collector.server.access import Scope
from looptap_collector.server.tokens import new_token, row_of
from looptap_collector.stores import open_store
from looptap_collector.testing.batches import Journal, points, started
from sending import KEYS, Load, Sending, Verdict, verify

COLLECTOR_MIB = 150
#: An agent takes so much more than the same load takes it when nobody makes it wait.
AGENT_MIB = 15


@contextmanager
def slow(folder: Path, held_s: float, free_s: float, first_s: float = 0.0) -> Iterator[None]:
    """The store in ``folder`` is locked for ``first_s`` seconds, then again and again for ``held_s``, ``free_s`` apart."""
    over, locked = threading.Event(), threading.Event()

    def hold() -> None:
        connection = sqlite3.connect(folder / "looptap.db", timeout=60, isolation_level=None)
        seconds = first_s or held_s
        while not over.is_set():
            connection.execute("BEGIN IMMEDIATE")
            locked.set()
            over.wait(seconds)
            connection.execute("ROLLBACK")
            over.wait(free_s)
            seconds = held_s
        connection.close()

    thread = threading.Thread(target=hold)
    thread.start()
    locked.wait()
    try:
        yield
    finally:
        over.set()
        thread.join()


def peak_mib(process: Process) -> float:
    """Most memory that a collector had in use so far."""
    for line in Path(f"/proc/{process.process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmHWM")


def large_batches(number: int) -> Iterator[Batch]:
    """Of three kinds: 8 MB that travel as nothing, a megabyte of texts, and 7 MB of noise."""
    journal, dice = Journal(f"j{number}", f"r{number}"), default_rng(number)
    yield journal.batch(started(f"r{number}"))
    while True:
        if number % 3 == 0:
            yield journal.batch(series=[points("x", np.zeros(345_000, np.int64), np.zeros(345_000))])
        elif number % 3 == 1:
            yield journal.batch(*(Note(f"n{one}", dice.bytes(30_000).hex(), 1) for one in range(17)))
        else:
            yield journal.batch(series=[points("x", np.arange(300_000), dice.standard_normal(300_000))])


def test_a_crowd_with_large_batches(tmp_path: Path) -> None:
    """Two dozen clients that never wait send as much as they can. The collector's memory stays within its limit, it asks with
    Retry-After for patience, and whatever it has acknowledged is there."""
    answers: Counter[int] = Counter()
    acknowledged: dict[int, int] = {}
    over = threading.Event()
    with server_process(tmp_path) as running:
        headers = {
            "authorization": f"Bearer {running.token}",
            "content-type": MEDIA_TYPE,
            "content-encoding": "zstd",
        }

        def crowd(number: int) -> None:
            with httpx.Client(base_url=running.address, headers=headers, trust_env=False, timeout=60) as client:
                for batch in large_batches(number):
                    body, status = body_of(batch), 0
                    while status != 200:
                        if over.is_set():
                            return
                        answer = client.post("/v1/batches", content=body)
                        status = answer.status_code
                        answers[status] += 1
                        assert status == 200 or int(answer.headers["retry-after"]) >= 1
                        over.wait(0.0 if status == 200 else 0.1)
                    acknowledged[number] = batch.next

        threads = [threading.Thread(target=crowd, args=(number,)) for number in range(24)]
        with slow(tmp_path / "store", held_s=0.9, free_s=0.1):
            for thread in threads:
                thread.start()
            time.sleep(7)
            over.set()
        for thread in threads:
            thread.join()
        peak = peak_mib(running)
    assert set(answers) == {200, 503}
    assert answers[503] > answers[200] > 24
    assert peak <= COLLECTOR_MIB
    store = open_store(str(tmp_path / "store"), create=False)
    assert {number: store.position(f"j{number}") for number in acknowledged} == acknowledged
    store.close()


@pytest.mark.timeout(120)
def test_agents_that_record_more_than_can_be_stored(tmp_path: Path) -> None:
    """Real agents with points and megabytes of text over a store that is locked nearly all the time, and at first for so long
    that the collector gives up waiting. They wait as long as they are asked to, take little memory, and lose nothing."""
    loads = [
        Load(number, points=60_000, seconds=6, interval=0.05, notes=300, request_seconds=20) for number in range(3)
    ]
    asked_to_wait: dict[str, float] = {}
    waited: list[float] = []

    async def watched(exchange: Exchange) -> None:
        who = exchange.seen.headers["authorization"]
        if (until := asked_to_wait.pop(who, None)) is not None:
            waited.append(exchange.seen.at - until)
        found = await exchange.forward()
        head = found.partition(b"\r\n\r\n")[0].decode("latin-1").lower()
        _, has_to_wait, seconds = head.partition("retry-after: ")
        if has_to_wait:
            asked_to_wait[who] = time.monotonic() + float(seconds.split()[0])
        await exchange.send(found)

    with (
        server_process(tmp_path) as running,
        FaultProxy("127.0.0.1", int(running.address.rpartition(":")[2])) as network,
    ):
        network.behave(watched)
        store = open_store(str(tmp_path / "store"), create=False)
        tokens = [new_token() for _ in loads]
        for load, token in zip(loads, tokens, strict=True):
            store.add_token(row_of(token, load.run, Scope.INGEST))
        time.sleep(1.2)  # collectors look once a second
        calm = Sending(running.address, running.token, tmp_path, replace(loads[0], number=9, seconds=2)).result()
        with slow(tmp_path / "store", held_s=1.95, free_s=0.05, first_s=7):
            agents = [Sending(network.url, token, tmp_path, load) for load, token in zip(loads, tokens, strict=True)]
            time.sleep(13)
            stored = sum(entry.stored for load in loads for entry in store.delivery(load.run))
        told = [agent.result() for agent in agents]
        peak = peak_mib(running)
        grown = [one.grown_kib for one in told]
    print(f"peak {peak:.0f} MiB, {stored} stored when the lock was gone, agents took {calm.grown_kib} and {grown} KiB")
    assert all(one.delivered and not one.dropped for one in told)
    emitted = 60_000 * len(KEYS) + 300 + 2
    assert stored < 3 * emitted / 2
    assert waited
    assert min(waited) >= 0
    assert peak <= COLLECTOR_MIB
    assert max(grown) <= calm.grown_kib + AGENT_MIB * 1024
    assert verify(store, dict(zip(loads, told, strict=True))) == Verdict(points=3 * 60_000 * len(KEYS))
    for load, one in zip(loads, told, strict=True):
        (entry,) = store.delivery(load.run)
        assert entry.next == entry.stored == one.emitted == emitted
    store.close()
