"""A request ends, whatever the other side does. Times are bounds of waiting, generously above what is asked for."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Iterator

import pytest
import requests
import trustme

from faultproxy import FaultProxy, answer, continuing, dripping, endless, forever, full_backlog, silent, unread
from looptap.bounded import BoundedAdapter, allowed

SECONDS = 1.0


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as found:
        found.mount("http://", BoundedAdapter())
        found.mount("https://", BoundedAdapter())
        yield found


@pytest.fixture
def proxy() -> Iterator[FaultProxy]:
    """In front of nothing."""
    with FaultProxy("127.0.0.1", 1) as found:
        yield found


def assert_ends(session: requests.Session, url: str, body: bytes = b"", seconds: float = SECONDS) -> Exception:
    began = time.monotonic()
    # The timeout is what requests would wait for each byte: it does not help here.
    with pytest.raises((requests.RequestException, OSError)) as caught, allowed(seconds, 100_000):
        session.post(url, data=body, timeout=30)
    assert time.monotonic() - began < seconds + 3
    return caught.value


def test_plain_request(session: requests.Session, proxy: FaultProxy) -> None:
    """What keeps within its bounds is an ordinary request, and the connection is used again."""
    proxy.behave(answer(200, b"[1]"))
    for _ in range(3):
        with allowed(10, 100_000):
            assert session.post(proxy.url, data=b"x" * 1_000_000).json() == [1]
    assert proxy.connections == 1


@pytest.mark.parametrize("skip", [0, 20, 80], ids=["status", "headers", "body"])
def test_dripping_answer(session: requests.Session, proxy: FaultProxy, skip: int) -> None:
    """A byte now and then, in the status line, the headers or the body, does not keep a request alive (case 13)."""
    with FaultProxy("127.0.0.1", proxy.port) as slow:
        proxy.behave(answer(200, b" " * 1_000))
        slow.behave(dripping(skip, seconds=0.2))
        assert_ends(session, slow.url)


def test_silence(session: requests.Session, proxy: FaultProxy) -> None:
    """A server that takes the request and never answers (case 12)."""
    proxy.behave(silent)
    assert_ends(session, proxy.url)


def test_nobody_reads(session: requests.Session, proxy: FaultProxy) -> None:
    """An upload that the server does not take in."""
    proxy.behave(unread)
    assert_ends(session, proxy.url, b"x" * 30_000_000)


def test_dropped_syn(session: requests.Session) -> None:
    """A port whose packets go nowhere (case 12)."""
    with full_backlog() as port:
        assert_ends(session, f"http://127.0.0.1:{port}")


def test_silent_addresses_share_the_time(session: requests.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four addresses that are silent take no longer than one, and a good one behind them is still reached."""
    with full_backlog() as port, FaultProxy("127.0.0.1", 1) as good:
        good.behave(answer(200, b"1"))
        bad = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port))
        found = [bad] * 4
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        assert_ends(session, "http://several")
        found.append((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", good.port)))
        with allowed(5, 100_000):
            assert session.get("http://several").json() == 1


def test_stalled_handshake(session: requests.Session, proxy: FaultProxy) -> None:
    """A connection on which TLS never begins, or comes a byte at a time (case 15)."""

    async def nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await forever()

    async def drops(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for byte in b"\x16\x03\x03\x40\x00" + bytes(1_000):
            writer.write(bytes([byte]))
            await asyncio.sleep(0.2)

    for stall in (nothing, drops):
        proxy.on_connect = stall
        assert_ends(session, f"https://127.0.0.1:{proxy.port}")


def test_dripping_over_tls(session: requests.Session, proxy: FaultProxy) -> None:
    """Inside of TLS the same bounds hold, for what is sent and for what is received."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    proxy.behave(answer(200, b" " * 1_000))
    with authority.cert_pem.tempfile() as bundle, FaultProxy("127.0.0.1", proxy.port, tls=context) as slow:
        session.trust_env, session.verify = False, bundle
        with allowed(10, 100_000):
            assert session.post(slow.url, data=b"x" * 1_000_000).content == b" " * 1_000
        slow.behave(dripping(80, seconds=0.2))
        assert_ends(session, slow.url)
        slow.behave(unread)
        assert_ends(session, slow.url, b"x" * 30_000_000)


def test_endless_answers(session: requests.Session, proxy: FaultProxy) -> None:
    """Of 10 GB, or of a flood of preliminary answers, no more is read than allowed; that takes no time (case 42)."""
    for flood in (endless, continuing):
        proxy.behave(flood)
        caught = assert_ends(session, proxy.url, seconds=20)
        assert "too large" in str(caught)
