"""Requests of WSGI applications behind a real server: what is noted, and that the answers are the same to the last byte."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from wsgiref.simple_server import ServerHandler, WSGIRequestHandler, make_server
from wsgiref.util import FileWrapper

import pytest

import looptap
from agent.serving.conftest import out_of_the_way
from agent.serving.servers import ask
from looptap.events import Window
from looptap.serving.traffic import TRAFFIC
from looptap.serving.wsgi import Middleware
from looptap.sketches import histogram

Counted = Callable[[], list[Window]]


class Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Nobody reads it."""

    def date_time_string(self, timestamp: Any = None) -> str:
        return "now"


@contextmanager
def served(app: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(ServerHandler, "http_version", "1.1")
    monkeypatch.setattr("wsgiref.handlers.format_date_time", lambda at: "now")
    monkeypatch.setattr(ServerHandler, "log_exception", lambda self, info: None)
    server = make_server("127.0.0.1", 0, app, handler_class=Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@looptap.watch
def double(rows: list[float]) -> list[float]:
    return [row * 2 for row in rows]


def application(environ: dict[str, Any], start_response: Any) -> Any:
    path = environ["PATH_INFO"]
    if path == "/fails":
        raise ZeroDivisionError
    if path == "/late":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return late()
    if path == "/nowhere":
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"not here"]
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    if path == "/file":
        return environ["wsgi.file_wrapper"](io.BytesIO(b"x" * 100_000))
    if path == "/written":
        write(b"the old way")
        return []
    if path == "/stream":
        return (str(double([number])).encode() for number in range(5))
    return [str(double([1.0, 2.0])).encode()]


def late() -> Iterator[bytes]:
    yield b"half"
    raise OSError("the other half is gone")


PATHS = ["/predict", "/fails", "/late", "/nowhere", "/file", "/written", "/stream"]


def test_answers_are_the_same(counted: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    with out_of_the_way(), served(application, monkeypatch) as port:
        expected = [ask(port, "GET", path) for path in PATHS]
    with served(Middleware(application), monkeypatch) as port:
        assert [ask(port, "GET", path) for path in PATHS] == expected
    assert sum(window.requests for window in counted()) == len(PATHS)


def test_what_is_noted(counted: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(Middleware(application), monkeypatch) as port:
        for path in PATHS:
            ask(port, "GET", path)
    found = {(one.model, one.endpoint): one for one in counted()}
    assert {key: (one.requests, one.errors) for key, one in found.items()} == {
        ("double", "GET /predict"): (1, {}),
        ("", "GET /fails"): (1, {"ZeroDivisionError": 1}),
        ("", "GET /late"): (1, {"OSError": 1}),
        ("", "GET unmatched"): (1, {"HTTP 404": 1}),
        ("", "GET /file"): (1, {}),
        ("", "GET /written"): (1, {}),
        ("double", "GET /stream"): (1, {}),
    }
    assert len(histogram.decode(found["double", "GET /stream"].latency["between"])) == 4
    assert not TRAFFIC.live


def test_an_application_inside_another_is_one_request(counted: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(Middleware(Middleware(application)), monkeypatch) as port:
        ask(port, "GET", PATHS[0])
    assert [window.requests for window in counted()] == [1]


def test_a_file_stays_one() -> None:
    """A server may send it by itself."""
    environ = {"wsgi.file_wrapper": FileWrapper, "PATH_INFO": "/file", "REQUEST_METHOD": "GET"}
    answer = Middleware(application)(environ, lambda *_: None)
    assert isinstance(answer, FileWrapper)


@pytest.mark.parametrize("wrapper", [None, FileWrapper, lambda file, size=0: file, object()])
def test_what_a_server_may_send_by_itself_is_passed_on(wrapper: Any, counted: Counted) -> None:
    """Whatever it has for wrapping files: a class, a function, or nothing."""
    file = io.BytesIO(b"content")
    environ = {"wsgi.file_wrapper": wrapper, "PATH_INFO": "/x", "REQUEST_METHOD": "GET"}
    for answer in (file, [b"x"], (b"x",), b"x"):
        assert Middleware(lambda *_, answer=answer: answer)(environ, lambda *_: None) is answer
    assert sum(one.requests for one in counted()) == 4


def test_an_answer_that_is_closed_twice_is_one(counted: Counted) -> None:
    environ = {"PATH_INFO": "/stream", "REQUEST_METHOD": "GET"}
    answer: Any = Middleware(application)(environ, lambda *_: None)
    assert len(list(answer)) == 5
    answer.close()
    answer.close()
    assert sum(one.requests for one in counted()) == 1
