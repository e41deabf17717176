"""Connections that are slow, idle, malformed or too much: dropped, while others are served."""

from __future__ import annotations

import contextlib
import re
import resource
import socket
import time

import pytest

from collector.server.collectors import Collector
from collector.server.test_gate import spoken
from looptap_collector.server import protocol
from looptap_collector.testing.batches import Journal, points, started


def connect(collector: Collector) -> socket.socket:
    host, _, port = collector.address.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=20)


def ends(connection: socket.socket) -> bool:
    """The other side has closed it, whatever it said before."""
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        while connection.recv(65536):
            pass
    return True


HEAD = b"POST /v1/batches HTTP/1.1\r\nHost: 127.0.0.1\r\n"


@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: -1\r\n\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Content-Length: 99999999999999999999999\r\n\r\n",
        b"Content-Length: five\r\n\r\n",
        b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"Bad Header: x\r\n\r\n",
        b"X: a\x00b\r\n\r\n",
        b"\r\n\r\n\r\n\x00\x01\x02",
    ],
)
def test_requests_that_could_be_read_in_two_ways_are_refused(collector: Collector, rest: bytes) -> None:
    """One answer that is a refusal, then the end of the connection: nothing can be smuggled behind it."""
    answer = spoken(collector, HEAD + rest)
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 401 ", b"HTTP/1.1 413 ")), answer
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in answer.lower()


def test_a_refused_request_ends_its_connection(collector: Collector) -> None:
    """What follows a request without a token, in the same packet, is never looked at."""
    smuggled = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    answer = spoken(collector, HEAD + b"Content-Length: 0\r\n\r\n" + smuggled)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer.startswith(b"HTTP/1.1 401 ")


def test_a_head_has_a_size(collector: Collector) -> None:
    """A head beyond 16 KiB is refused while it is still being sent, one endless header included."""
    with connect(collector) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ")
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            for _ in range(64):
                connection.sendall(b"a" * 1024)
                time.sleep(0.001)
        assert ends(connection)


def test_a_head_has_a_time(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that says nothing, or one character at a time, is dropped (slowloris); on one that was kept, too."""
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.5)
    silent, slow, kept = (connect(collector) for _ in range(3))
    kept.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    assert kept.recv(65536).startswith(b"HTTP/1.1 200")
    kept.sendall(b"GET /hea")
    began = time.monotonic()
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        for byte in b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy":
            slow.sendall(bytes([byte]))
            time.sleep(0.02)
    assert all(ends(connection) for connection in (silent, slow, kept))
    assert time.monotonic() - began < 15
    for connection in (silent, slow, kept):
        connection.close()
    assert 'reason="head_too_slow"} 3.0' in collector.client("read").get("/metrics").text


def test_a_body_must_keep_coming(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body at one byte a second is dropped, and the room that was kept for it is free again."""
    monkeypatch.setattr(protocol, "BODY_SECONDS", 0.5)
    with connect(collector) as connection:
        token = collector.tokens["ingest"].encode()
        connection.sendall(
            HEAD
            + b"Authorization: Bearer "
            + token
            + b"\r\nContent-Type: application/x-msgpack\r\nContent-Length: 1000\r\n\r\n"
        )
        connection.sendall(b"x")
        assert ends(connection)
    deadline = time.monotonic() + 10
    while collector.app.state.service.intake._bytes.taken and time.monotonic() < deadline:
        time.sleep(0.01)
    assert collector.app.state.service.intake._bytes.taken == 0
    assert 'reason="body_too_slow"} 1.0' in collector.client("read").get("/metrics").text


def test_idle_connections_do_not_keep_others_out(collector: Collector) -> None:
    """Thousands that only wait are held to a few hundred, oldest first, and everybody else is served."""
    many = 3_000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 4 * many), hard), hard))
    idle = []
    try:
        for number in range(min(many, min(max(soft, 4 * many), hard) // 3)):
            idle.append(connect(collector))
            if number % 500 == 0:
                assert collector.client("read").get("/v1/runs").status_code == 200
        assert collector.client("read").get("/v1/runs").status_code == 200
        assert len(collector.server.server_state.connections) <= protocol.MOST_WITHOUT_HEAD + 20
        assert ends(idle[0])
    finally:
        for connection in idle:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_whoever_asks_takes_the_answer(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that does not read is dropped, what was kept for it is free again, and one that reads gets every byte."""
    monkeypatch.setattr(protocol, "READER_SECONDS", 0.5)
    steps = range(100_000)
    journal = Journal()
    assert collector.send(journal.batch(started(), series=[points("x", steps, steps)])).status_code == 200
    for _ in range(4):
        assert collector.send(journal.batch(series=[points("x", steps, steps)])).status_code == 200
    whole = collector.client("read").get("/v1/histories", params={"run": "r1", "key": "x"})
    assert len(whole.json()["histories"][0]["steps"]) == 500_000
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        host, _, port = collector.address.removeprefix("http://").partition(":")
        connection.connect((host, int(port)))
        token = collector.tokens["read"].encode()
        connection.sendall(
            b"GET /v1/histories?run=r1&key=x HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer "
            + token
            + b"\r\n\r\n"
        )
        deadline = time.monotonic() + 20
        while 'reason="reader_too_slow"} 1.0' not in collector.client("read").get("/metrics").text:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    while collector.app.state.service.unsent.taken:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_pipelined_requests_are_answered_in_their_order(collector: Collector) -> None:
    """Several requests in one packet, with bodies, get one answer each; what follows a refused one gets none."""
    token = b"Authorization: Bearer " + collector.tokens["admin"].encode() + b"\r\nHost: 127.0.0.1\r\n"
    first = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    second = b"POST /v1/batches HTTP/1.1\r\n" + token + b"Content-Type: text/plain\r\nContent-Length: 41\r\n\r\n"
    # The body looks like a request; it is none.
    second += b"DELETE /v1/runs/r1 HTTP/1.1\r\nHost: x\r\n\r\n!"
    last = b"GET /v1/nothing HTTP/1.1\r\nConnection: close\r\n" + token + b"\r\n"
    answer = spoken(collector, first + second + last + first)
    assert re.findall(rb"HTTP/1\.1 (\d+)", answer) == [b"200", b"415", b"404"]
