"""HTTP requests that end: each has a total time and a total size of the answer, whatever the other side does.

The timeouts of requests bound one wait for one byte, so a server that sends a byte a second, stalls in the TLS handshake,
answers ``100 Continue`` for ever or has ten addresses of which none answers is waited for as long as it likes. Here every wait
of a socket gets what is left of the request's time, and every byte that comes in is counted: status lines, headers, chunk sizes
and bodies alike.

::

    session.mount("https://", BoundedAdapter())
    with allowed(seconds=20, answer_bytes=65_536):
        session.get(...)

What is not bounded is the look-up of the host's name: the system's resolver cannot be interrupted. Through a SOCKS proxy, or a
proxy that itself is reached over TLS, each single wait is bounded, but not their sum.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, ProxyManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util.ssl_ import create_urllib3_context


class OutOfTime(TimeoutError):
    """The time of the request is over."""


class TooMuch(OSError):
    """The answer is larger than it may be."""


class _Allowance(threading.local):
    """Of the request that this thread is in. A thread makes one at a time, so its sockets need not be told which."""

    ends_at = 0.0
    bytes_left = 0


_ALLOWANCE = _Allowance()


@contextmanager
def allowed(seconds: float, answer_bytes: int) -> Iterator[None]:
    """Requests of this thread inside of the block, and the reading of their answers, take no more than this altogether. Beyond it,
    requests and urllib3 raise what they make of :class:`OutOfTime` or :class:`TooMuch`."""
    _ALLOWANCE.ends_at = time.monotonic() + seconds
    _ALLOWANCE.bytes_left = answer_bytes
    yield


def _seconds_left() -> float:
    left = _ALLOWANCE.ends_at - time.monotonic()
    if left <= 0:
        raise OutOfTime("no time is left")
    return left


class _Socket(socket.socket):
    # http.client and ssl call no other methods than these to read and write.

    def recv_into(self, *arguments: Any) -> int:
        self.settimeout(_seconds_left())
        return _counted(super().recv_into(*arguments))

    def recv(self, *arguments: Any) -> bytes:
        self.settimeout(_seconds_left())
        data = super().recv(*arguments)
        _counted(len(data))
        return data

    def send(self, *arguments: Any) -> int:
        self.settimeout(_seconds_left())
        return super().send(*arguments)

    def sendall(self, *arguments: Any) -> None:
        self.settimeout(_seconds_left())  # of the whole call, since Python 3.5
        super().sendall(*arguments)


def _counted(size: int) -> int:
    _ALLOWANCE.bytes_left -= size
    if _ALLOWANCE.bytes_left < 0:
        raise TooMuch("the answer is too large")
    return size


class _TLSSocket(_Socket, ssl.SSLSocket):
    def do_handshake(self, block: bool = False) -> None:
        self.settimeout(_seconds_left())
        super().do_handshake(block)


def _connect(host: str, port: int, options: Sequence[Any]) -> socket.socket:
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    failed: OSError | None = None
    for number, (family, kind, protocol, _, address) in enumerate(addresses):
        connection = _Socket(family, kind, protocol)
        try:
            for option in options:
                connection.setsockopt(*option)
            # An address that is silent leaves their share to the others.
            connection.settimeout(_seconds_left() / (len(addresses) - number))
            connection.connect(address)
            return connection
        except OSError as error:
            connection.close()
            failed = error
    raise failed or OSError(f"{host} has no address")


class _Connection(HTTPConnection):
    # A program that debugs its own requests with HTTPConnection.debuglevel would print our token.
    debuglevel = 0

    def _new_conn(self) -> socket.socket:
        return _connect(self._dns_host, self.port, self.socket_options or ())


class _TLSConnection(HTTPSConnection):
    debuglevel = 0

    def _new_conn(self) -> socket.socket:
        return _connect(self._dns_host, self.port or 443, self.socket_options or ())


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


_POOLS = {"http": _Pool, "https": _TLSPool}


class BoundedAdapter(HTTPAdapter):
    """Only inside of :func:`allowed`."""

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **more: Any) -> None:
        self._context = create_urllib3_context()
        self._context.sslsocket_class = _TLSSocket
        super().init_poolmanager(connections, maxsize, block, ssl_context=self._context, **more)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **more: Any) -> Any:
        manager = super().proxy_manager_for(proxy, ssl_context=self._context, **more)
        if isinstance(manager, ProxyManager):  # that for SOCKS has connections of its own
            manager.pool_classes_by_scheme = _POOLS
        return manager
