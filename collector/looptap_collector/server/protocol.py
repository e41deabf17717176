"""HTTP connections with bounds on time and size, around uvicorn's own protocol.

uvicorn waits without end for a request's head and for its body, and a head may be of any length. Here a head must be
there within ten seconds and in 16 KiB, a body must keep coming, and of connections that have not sent a whole head yet
only so many are kept: the oldest go, so those who only wait never keep out those who have something to say.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Any

from prometheus_client import Counter
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from looptap_collector.server.errors import Refusal

HEAD_BYTES = 16 << 10
HEAD_SECONDS = 10.0
#: A body brings so many bytes in so many seconds, or ends.
BODY_BYTES = 64 << 10
BODY_SECONDS = 10.0
#: Whoever asked takes as many bytes of the answer in so many seconds, or the connection ends.
READER_SECONDS = 10.0
MOST_WITHOUT_HEAD = 256


class Bounded(HttpToolsProtocol):
    """One connection. ``dropped`` counts those that a limit closed, by reason."""

    lobby: OrderedDict[Bounded, None]
    dropped: Counter

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._timer: asyncio.TimerHandle | None = None
        self._reading: asyncio.TimerHandle | None = None
        self._unsent_bytes = 0
        self._head_bytes = 0
        self._body_bytes = 0
        self._enter_lobby()

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave_lobby()
        self._stop_timer()
        self._stop_reading()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self in self.lobby:
            self._head_bytes += len(data)
        elif self._timer is None and (self.cycle is None or not self.cycle.more_body):
            # The next request of a connection that was kept.
            self._enter_lobby()
            self._head_bytes = len(data)
        super().data_received(data)
        if self in self.lobby and self._head_bytes > HEAD_BYTES:
            self.dropped.labels("head_too_large").inc()
            self._refuse(Refusal(431, "head_too_large", f"the head of a request may take {HEAD_BYTES} bytes"))

    def on_headers_complete(self) -> None:
        self._leave_lobby()
        self._stop_timer()
        if not self.url.startswith(b"/"):
            # A target with a host in it ("GET http://elsewhere/ HTTP/1.1") is for proxies.
            self._refuse(Refusal(400, "malformed", "the target of a request begins with a slash"))
            return
        self._body_bytes = 0
        self._timer = self.loop.call_later(BODY_SECONDS, self._look_at_body)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self.cycle is not None:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._stop_timer()
        if self.cycle is not None:
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(Refusal(400, "malformed", "this is not a valid HTTP request"))

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unsent_bytes = self.transport.get_write_buffer_size()
        self._reading = self.loop.call_later(READER_SECONDS, self._look_at_reader)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_reading()

    # --- private ------------------------------------------------------------------------------------------------------

    def _enter_lobby(self) -> None:
        self._head_bytes = 0
        self.lobby[self] = None
        self._timer = self.loop.call_later(HEAD_SECONDS, self._drop, "head_too_slow")
        if len(self.lobby) > MOST_WITHOUT_HEAD:
            oldest = next(iter(self.lobby))
            oldest._drop("too_many_without_head")

    def _leave_lobby(self) -> None:
        self.lobby.pop(self, None)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_at_body(self) -> None:
        # When we do not read, it is not the client who is slow.
        if self._body_bytes < BODY_BYTES and not self.flow.read_paused:
            self._drop("body_too_slow")
            return
        self._body_bytes = 0
        self._timer = self.loop.call_later(BODY_SECONDS, self._look_at_body)

    def _look_at_reader(self) -> None:
        unsent = self.transport.get_write_buffer_size()
        if self._unsent_bytes - unsent < BODY_BYTES:
            self._drop("reader_too_slow")
            return
        self._unsent_bytes = unsent
        self._reading = self.loop.call_later(READER_SECONDS, self._look_at_reader)

    def _stop_reading(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _drop(self, reason: str) -> None:
        self.dropped.labels(reason).inc()
        self._leave_lobby()
        self._stop_timer()
        self.transport.abort()

    def _refuse(self, refusal: Refusal) -> None:
        self._leave_lobby()
        self._stop_timer()
        if self.transport.is_closing():
            return
        body = refusal.body()
        head = STATUS_LINE.get(
            refusal.status, b"HTTP/1.1 400 Bad Request\r\n"
        ) + b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        self.transport.write(head + body)
        self.transport.close()


def bounded(dropped: Counter) -> type[Bounded]:
    """The protocol for one server: its connections share a lobby."""
    members: dict[str, Any] = {"lobby": OrderedDict(), "dropped": dropped}
    return type("Bounded", (Bounded,), members)
