"""Who may talk to a collector at all, whatever the method."""

from __future__ import annotations

import socket

import pytest

from collector.server.collectors import Collector

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE")


def spoken(collector: Collector, request: bytes) -> bytes:
    """The answer to these very bytes."""
    host, _, port = collector.address.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(request)
        answer = b""
        while data := connection.recv(65536):
            answer += data
    return answer


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("host", ["evil.com", "127.0.0.1.nip.io", "localhost.evil.com", "127.0.0.1:80:80", "", "[::2]"])
def test_a_foreign_host_is_refused(collector: Collector, method: str, host: str) -> None:
    """DNS rebinding: a name that is not ours is answered 421 on every method, with the right token too."""
    answer = collector.client("admin").request(method, "/v1/runs", headers={"host": host})
    assert answer.status_code == 421


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.com"},
        {"origin": "null"},
        {"origin": "http://localhost.evil.com"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_a_page_of_another_site_is_refused(collector: Collector, method: str, headers: dict[str, str]) -> None:
    """Forms, images and scripts of other sites get 403 on every method, with the right token too."""
    answer = collector.client("admin").request(method, "/v1/runs", headers=headers)
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers
    if method != "HEAD":
        assert answer.json()["error"]["code"] == "cross_site"


def test_our_own_pages_and_programs_may_ask(collector: Collector) -> None:
    """No Origin, our own Origin, and what a browser says of an address that the user typed."""
    for headers in ({}, {"origin": collector.address}, {"sec-fetch-site": "none"}, {"sec-fetch-site": "same-origin"}):
        assert collector.client("read").get("/v1/runs", headers=headers).status_code == 200
    port = collector.address.rpartition(":")[2]
    for host in ("localhost", "127.0.0.1", "[::1]", f"LOCALHOST:{port}"):
        assert collector.client("read").get("/v1/runs", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "head",
    [
        b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.com\r\n",
        b"GET /healthz HTTP/1.1\r\n",
        b"GET http://evil.com/healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n",
        b"GET http://127.0.0.1/healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n",
        b"CONNECT evil.com:443 HTTP/1.1\r\nHost: 127.0.0.1\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: 127.0.0.1\r\n",
    ],
)
def test_odd_targets_are_refused(collector: Collector, head: bytes) -> None:
    """Two hosts, none, or a target with a host in it: refused, and the connection is closed."""
    answer = spoken(collector, head + b"\r\n")
    assert answer.split(b" ")[1] in (b"400", b"421"), answer
    assert b"evil" not in answer


@pytest.mark.parametrize(
    "address", ["/v1/runs/a%00b", "/v1/journals/%00", "/v1/edges?kind=%00", "/v1/runs?filter=%00", "/%00"]
)
def test_a_nul_is_in_no_address(collector: Collector, address: str) -> None:
    """Not every engine can be asked for a text with a NUL; nobody is."""
    for method in METHODS:
        assert collector.client("admin").request(method, address).status_code == 400


def test_websockets_are_refused(collector: Collector) -> None:
    """There are none; an upgrade from anywhere gets an answer, never a socket."""
    answer = spoken(
        collector,
        b"GET /v1/live HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nOrigin: https://evil.com\r\n\r\n",
    )
    assert answer.split(b" ")[1] == b"403"


def test_every_answer_forbids_what_a_browser_could_do_with_it(collector: Collector) -> None:
    """Refusals, errors and answers alike carry the headers that keep them data."""
    answers = [
        collector.client("read").get("/v1/runs"),
        collector.client("read").get("/v1/nothing"),
        collector.client(None).get("/v1/runs"),
        collector.client("read").get("/v1/runs", params={"limit": "-1"}),
    ]
    assert [answer.status_code for answer in answers] == [200, 404, 401, 422]
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        assert "server" not in answer.headers
        assert not [name for name in answer.headers if name.startswith("access-control")]
