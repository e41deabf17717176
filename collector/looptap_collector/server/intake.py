"""From a received body to a commit: what has gathered while the last commit was under way goes into the next one.

Requests wait here, on the event loop, until the store has their batch. A writer thread takes all that wait (up to a
bound), makes them plain, and writes them in one transaction; so a hundred small agents cost hardly more than one, and an
acknowledgement still means: committed.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from looptap.events import Batch, Rejected, RunEnded, Window
from looptap_collector.backend import Arrival, Conflict, NotYours, Outcome, TooManySeries, Unavailable
from looptap_collector.pipeline import Pipeline
from looptap_collector.server.errors import Refusal
from looptap_collector.server.inflate import inflate
from looptap_collector.server.measures import Measures
from looptap_collector.server.shares import Shares

#: Bodies as sent, and made plain. An agent's have about one megabyte.
BODY_BYTES = 8 << 20
PLAIN_BYTES = 8 << 20
#: What may wait at once, over all agents; beyond it they are told to come back.
WAITING_BYTES = 16 << 20
#: One commit takes so many batches and so many plain bytes at most.
GROUP_BATCHES = 64
GROUP_BYTES = 4 << 20
_log = logging.getLogger("looptap.collector")
_decode = msgspec.msgpack.Decoder(Batch).decode


class _Waiting(msgspec.Struct, eq=False):
    body: bytes
    encoding: str
    owner: str | None
    answer: asyncio.Future[Outcome]
    loop: asyncio.AbstractEventLoop


class Intake:
    """Batches of any number of agents on their way into one store."""

    def __init__(self, pipeline: Pipeline, measures: Measures, *, writers: int = 1) -> None:
        self._pipeline = pipeline
        self._measures = measures
        self._waiting: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._bytes = Shares("bytes that wait for the store", WAITING_BYTES, retry_after=1)
        #: Ids of runs whose end was stored, for whoever looks after them.
        self.ended: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._write_on, name=f"looptap-writer-{number}", daemon=True)
            for number in range(writers)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def reserve(self, who: str, size_bytes: int) -> None:
        """Make room for a body before it is read. Raises :class:`Refusal` when too much waits already, or too much of this
        caller's. Every reservation must be given back with :meth:`release`."""
        self._bytes.take(who, size_bytes)
        self._measures.queue_bytes.set(self._bytes.taken)

    def release(self, who: str, size_bytes: int) -> None:
        self._bytes.give_back(who, size_bytes)
        self._measures.queue_bytes.set(self._bytes.taken)

    async def store(self, body: bytes, encoding: str, owner: str | None) -> Outcome:
        """Returns when the batch is committed, or was before. Raises :class:`Refusal`."""
        loop = asyncio.get_running_loop()
        waiting = _Waiting(body, encoding, owner, loop.create_future(), loop)
        self._measures.queue_batches.inc()
        self._waiting.put(waiting)
        return await waiting.answer

    def close(self) -> None:
        """Ends the writers when what waits is stored."""
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join()

    # --- the writers' threads -----------------------------------------------------------------------------------------

    def _write_on(self) -> None:
        over = False
        while not over:
            group: list[_Waiting] = []
            arrivals: list[Arrival] = []
            size = 0
            item = self._waiting.get()
            while True:
                if item is None:
                    over = True
                    break
                self._measures.queue_batches.dec()
                try:
                    plain = inflate(item.body, item.encoding, PLAIN_BYTES)
                    size += len(plain)
                    arrivals.append(Arrival(_batch(plain), item.owner))
                    del plain  # the batch has all of it again
                    group.append(item)
                except Refusal as refusal:
                    self._measures.rejected.labels(refusal.code).inc()
                    _answer([(item, refusal)])
                except Exception:  # noqa: BLE001 - nothing that a stranger sends may end the thread
                    _log.exception("a body could not be read")
                    self._measures.rejected.labels("malformed").inc()
                    _answer([(item, Refusal(400, "malformed", "the body could not be read"))])
                if len(group) >= GROUP_BATCHES or size >= GROUP_BYTES:
                    break
                try:
                    item = self._waiting.get_nowait()
                except queue.Empty:
                    break
            if group:
                self._write(group, arrivals)

    def _write(self, group: Sequence[_Waiting], arrivals: Sequence[Arrival]) -> None:
        began = time.perf_counter()
        try:
            outcomes: Sequence[Outcome | Rejected] = self._pipeline.accept_all(arrivals)
        except Unavailable as error:
            self._measures.rejected.labels("unavailable").inc(len(group))
            _log.warning("the store is not available: %s", error)
            refusal = Refusal(503, "unavailable", "the store is not available now", retry_after=2)
            _answer([(item, refusal) for item in group])
            return
        except Exception:  # noqa: BLE001 - the store's code may raise anything, and there is nobody above us
            if len(group) > 1:
                # One of them is to blame; the others must not suffer for it.
                for item, arrival in zip(group, arrivals, strict=True):
                    self._write([item], [arrival])
                return
            _log.exception("a batch of run %s could not be stored", arrivals[0].batch.run)
            self._measures.rejected.labels("internal").inc()
            _answer(
                [(group[0], Refusal(500, "internal", "the batch could not be stored; the collector's log says why"))]
            )
            return
        self._measures.commit.observe(time.perf_counter() - began)
        self._measures.group.observe(len(group))
        answers: list[tuple[_Waiting, Outcome | Refusal]] = []
        stored: list[Batch] = []
        for item, arrival, outcome in zip(group, arrivals, outcomes, strict=True):
            if isinstance(outcome, Rejected):
                refusal = _refusal(outcome)
                self._measures.rejected.labels(refusal.code).inc()
                answers.append((item, refusal))
                continue
            self._measures.batches.labels(outcome.value).inc()
            if outcome is Outcome.STORED:
                self._measures.points.inc(sum(len(points) for points in arrival.batch.series))
                self._measures.records.inc(len(arrival.batch.records))
                stored.append(arrival.batch)
                if any(isinstance(record, RunEnded) for record in arrival.batch.records):
                    self.ended.put(arrival.batch.run)
            answers.append((item, outcome))
        _answer(answers)
        for batch in stored:
            self._measures.traffic.see(
                batch.journal, (record for record in batch.records if isinstance(record, Window))
            )


def _batch(plain: bytes) -> Batch:
    try:
        return _decode(plain)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        message, _, place = str(error).partition(" - at ")
        field = place.strip("`").removeprefix("$.") or None
        if isinstance(error, msgspec.ValidationError):
            raise Refusal(422, "invalid", f"not a batch: {message}", field=field) from error
        raise Refusal(400, "malformed", f"the body is not MessagePack: {message}", field=field) from error


def _refusal(rejected: Rejected) -> Refusal:
    field = getattr(rejected, "field", None)
    if isinstance(rejected, Conflict):
        return Refusal(
            409, "conflict", str(rejected), field=field, hint="ask where the journal stands: GET /v1/journals/…"
        )
    if isinstance(rejected, NotYours):
        return Refusal(
            403, "not_yours", str(rejected), field=field, hint="use a token of the name that started the run"
        )
    code = "too_many_series" if isinstance(rejected, TooManySeries) else "rejected"
    return Refusal(422, code, str(rejected), field=field)


def _answer(answers: Sequence[tuple[_Waiting, Any]]) -> None:
    """Wake the requests; once for all of them, because each call into the loop costs a system call."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Waiting, Any]]] = {}
    for item, answer in answers:
        by_loop.setdefault(item.loop, []).append((item, answer))
    for loop, some in by_loop.items():
        try:
            loop.call_soon_threadsafe(_resolve, some)
        except RuntimeError:  # the loop has ended, and with it those who wait
            continue


def _resolve(answers: Sequence[tuple[_Waiting, Any]]) -> None:
    for item, answer in answers:
        if item.answer.done():  # the request was given up
            continue
        if isinstance(answer, BaseException):
            item.answer.set_exception(answer)
        else:
            item.answer.set_result(answer)
