"""A network that misbehaves on command: an HTTP proxy in front of a real server, in a thread of its own.

::

    with FaultProxy("127.0.0.1", 8766) as proxy:
        proxy.behave(answer(503, retry_after=2))      # until told otherwise
        proxy.script(lost_answer, truncated)          # one for each of the next requests, then as told by behave()
        ...
        assert [request.path for request in proxy.requests] == ["/v1/batches"]

A fault is an async function of one :class:`Exchange`. It may ask the real server (:meth:`Exchange.forward`), answer what it
likes, or not at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import itertools
import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Seen:
    """A request as it came in. ``headers`` by their names in lower case; ``length`` of the body in bytes, as it was declared."""

    at: float
    method: str
    path: str
    headers: dict[str, str]
    length: int


class Exchange:
    """One request on its way. ``reader`` and ``writer`` lead to the client."""

    def __init__(
        self, seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: tuple[str, int]
    ) -> None:
        self.seen = seen
        self.reader = reader
        self.writer = writer
        self._target = target
        self._body: bytes | None = None
        #: What the real server has answered, if it was asked.
        self.answered: bytes | None = None

    async def forward(self) -> bytes:
        """What the real server answers, head and body. Raises ConnectionError when it does not."""
        body = await self.body()
        head = f"{self.seen.method} {self.seen.path} HTTP/1.1\r\n"
        headers = {**self.seen.headers, "host": f"{self._target[0]}:{self._target[1]}", "connection": "close"}
        head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        reader, writer = await asyncio.open_connection(*self._target)
        try:
            writer.write(head.encode("latin-1") + b"\r\n" + body)
            self.answered = await reader.read()
        finally:
            writer.close()
        if not self.answered:
            raise ConnectionResetError("the server ended the connection without an answer")
        return self.answered

    async def body(self) -> bytes:
        if self._body is None:
            self._body = await self.reader.readexactly(self.seen.length)
        return self._body

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """RST instead of an orderly end."""
        connection = self.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Fault: TypeAlias = Callable[[Exchange], Awaitable[None]]


async def forever() -> None:
    # Not an event that nobody sets: a task that only it refers to may be collected.
    await asyncio.sleep(3600)


async def passing(exchange: Exchange) -> None:
    await exchange.send(await exchange.forward())


async def silent(exchange: Exchange) -> None:
    """Takes the request and never answers."""
    await exchange.body()
    await forever()


async def unread(exchange: Exchange) -> None:
    """Takes nothing but the head: the client's buffers fill up."""
    await forever()


async def reset_mid_body(exchange: Exchange) -> None:
    await exchange.reader.readexactly(exchange.seen.length // 2)
    exchange.reset()


async def lost_answer(exchange: Exchange) -> None:
    """The server has done its work, and nobody hears of it."""
    await exchange.forward()
    exchange.reset()


async def truncated(exchange: Exchange) -> None:
    found = await exchange.forward()
    await exchange.send(found[:-3])
    exchange.writer.close()


async def endless(exchange: Exchange) -> None:
    """10 GB of what might be an answer."""
    await exchange.body()
    await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 10000000000\r\n\r\n")
    for _ in range(10_000):
        await exchange.send(b" " * 1_000_000)


async def continuing(exchange: Exchange) -> None:
    """``100 Continue`` without end."""
    await exchange.body()
    while True:
        await exchange.send(b"HTTP/1.1 100 Continue\r\nX-Wait: a little\r\n\r\n" * 100)


def delayed(seconds: float) -> Fault:
    async def fault(exchange: Exchange) -> None:
        await asyncio.sleep(seconds)
        await passing(exchange)

    return fault


def dripping(skip: int = 0, seconds: float = 1.0) -> Fault:
    """The server's answer, a byte at a time, after the first ``skip``."""

    async def fault(exchange: Exchange) -> None:
        found = await exchange.forward()
        await exchange.send(found[:skip])
        for at in range(skip, len(found)):
            await asyncio.sleep(seconds)
            await exchange.send(found[at : at + 1])

    return fault


def answer(
    status: int,
    body: bytes = b"",
    media_type: str = "application/json",
    *,
    retry_after: str | int | None = None,
    **more: str,
) -> Fault:
    """An answer of our own; the server hears nothing. ``more`` are headers: ``Set_Cookie="a=b"``."""

    async def fault(exchange: Exchange) -> None:
        await exchange.body()
        headers = {"Content-Type": media_type, "Content-Length": str(len(body)), **more}
        if retry_after is not None:
            headers["Retry-After"] = str(retry_after)
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        await exchange.send(f"HTTP/1.1 {status} Whatever\r\n{lines}\r\n".encode("latin-1") + body)

    return fault


def refusal(status: int, code: str, message: str = "no", *, retry_after: str | int | None = None) -> Fault:
    """An error in the collector's own shape."""
    body = f'{{"error": {{"code": "{code}", "message": "{message}", "field": null, "hint": null}}}}'
    return answer(status, body.encode(), retry_after=retry_after)


def portal() -> Fault:
    return answer(200, b"<html><form>Welcome to our WiFi. Please log in.</form></html>", "text/html")


def redirect(location: str, status: int = 307) -> Fault:
    return answer(status, b"", Location=location)


def gzip_bomb(size: int = 10**9) -> Fault:
    """A small answer that claims to be large."""
    block = gzip.compress(bytes(size // 100))
    return answer(200, block * 100, Content_Encoding="gzip")


def every_second(fault: Fault) -> Fault:
    numbers = itertools.count()
    return lambda exchange: (fault if next(numbers) % 2 == 0 else passing)(exchange)


def above(size: int, fault: Fault) -> Fault:
    """For bodies that are longer than ``size`` bytes."""
    return lambda exchange: (fault if exchange.seen.length > size else passing)(exchange)


def on(path: str, fault: Fault, method: str | None = None) -> Fault:
    """For paths that begin so."""
    return lambda exchange: (
        fault if exchange.seen.path.startswith(path) and method in (None, exchange.seen.method) else passing
    )(exchange)


class FaultProxy:
    """Listens on a free port of 127.0.0.1 (over TLS where ``tls`` is given) for the server at ``host:port``."""

    def __init__(self, host: str, port: int, *, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Seen] = []
        #: Connections so far.
        self.connections = 0
        #: What to do with a connection before anything is read from it, in the place of all else.
        self.on_connect: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]] | None = None
        self._target = (host, port)
        self._tls = tls
        self._fault: Fault = passing
        self._script: deque[Fault] = deque()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def behave(self, fault: Fault) -> None:
        self._fault = fault

    def script(self, *faults: Fault) -> None:
        self._script.extend(faults)

    def aim(self, host: str, port: int) -> None:
        """The server is somewhere else now."""
        self._target = (host, port)

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        starting = asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls, limit=2**20)
        self._server = asyncio.run_coroutine_threadsafe(starting, self._loop).result()
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        # More than once: a connection may be half accepted.
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            await asyncio.sleep(0.01)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, ssl.SSLError):
            if self.on_connect is not None:
                await self.on_connect(reader, writer)
            while not writer.is_closing():
                seen = _seen(await reader.readuntil(b"\r\n\r\n"))
                self.requests.append(seen)
                fault = self._script.popleft() if self._script else self._fault
                await fault(Exchange(seen, reader, writer, self._target))
                if seen.headers.get("connection") == "close":
                    break
        writer.close()


def _seen(head: bytes) -> Seen:
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Seen(time.monotonic(), method, path, headers, int(headers.get("content-length", 0)))


@contextlib.contextmanager
def full_backlog() -> Iterator[int]:
    """The port of a listener that nobody accepts from and whose queue is full: the kernel drops further SYN."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(8):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
