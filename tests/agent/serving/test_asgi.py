"""Requests of ASGI applications behind a real uvicorn: what is noted, and that the answers are the same to the last byte."""

from __future__ import annotations

import asyncio
import contextvars
import socket
import threading
import time
import types
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from fastapi import BackgroundTasks, FastAPI, HTTPException
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route

import looptap
from agent.serving.conftest import out_of_the_way
from agent.serving.servers import ask, until, uvicorn_server
from looptap.events import Window
from looptap.serving.asgi import Middleware
from looptap.serving.traffic import TRAFFIC
from looptap.sketches import histogram

Counted = Callable[[], list[Window]]


def double(rows: list[float]) -> list[float]:
    return [row * 2 for row in rows]


def application() -> FastAPI:
    app = FastAPI()
    model = looptap.watch(double)

    @app.post("/predict/{user}")
    def predict(user: int, rows: list[float]) -> dict[str, Any]:
        return {"user": user, "rows": model(rows)}

    @app.get("/fails")
    async def fails() -> None:
        raise ZeroDivisionError

    @app.get("/refuses")
    async def refuses() -> None:
        raise HTTPException(503, "busy")

    @app.get("/stream")
    async def stream(count: int, pause: float = 0.0) -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            for number in range(count):
                yield b"piece %d\n" % number
                await asyncio.sleep(pause)

        return StreamingResponse(pieces())

    @app.get("/half")
    async def half() -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"half"
            raise OSError("the other half is gone")

        return StreamingResponse(pieces())

    @app.get("/slow")
    async def slow() -> str:
        try:
            await asyncio.wait_for(asyncio.sleep(60), 0.05)
        except asyncio.TimeoutError:
            raise HTTPException(504) from None
        return "never"

    @app.get("/later")
    async def later(tasks: BackgroundTasks) -> str:
        tasks.add_task(lambda: model([1.0]))
        return "now"

    async def hello(request: Any) -> PlainTextResponse:
        return PlainTextResponse(f"hello {request.path_params['name']}")

    app.mount("/inner", Starlette(routes=[Mount("/deeper", routes=[Route("/{name}", hello)])]))
    return app


REQUESTS: list[tuple[Any, ...]] = [
    ("POST", "/predict/7", b"[1.5, 2.5]", "Content-Type: application/json\r\n"),
    ("POST", "/predict/seven", b"[]"),
    ("POST", "/predict/7", b"not json"),
    ("GET", "/fails"),
    ("GET", "/refuses"),
    ("GET", "/stream?count=5"),
    ("GET", "/half"),
    ("GET", "/slow"),
    ("GET", "/later"),
    ("GET", "/inner/deeper/you"),
    ("GET", "/nowhere"),
    ("DELETE", "/fails"),
    ("HEAD", "/stream?count=1"),
]


def test_a_task_that_outlives_its_request_is_on_its_own(counted: Counted) -> None:
    """It has the context of the request, whose windows may be written by then."""
    model, left = looptap.watch(double), list[Any]()
    app = FastAPI()

    @app.get("/leaves")
    async def leaves() -> str:
        async def later() -> None:
            await over.wait()
            model([1.0])

        over = asyncio.Event()
        left.extend((over, asyncio.create_task(later())))
        return "now"

    @app.get("/waits")
    async def waits() -> str:
        left[0].set()
        await left[1]
        return "over"

    with uvicorn_server(Middleware(app)) as port:
        ask(port, "GET", "/leaves")
        ask(port, "GET", "/waits")
    assert {(one.model, one.endpoint): one.requests for one in counted()} == {
        ("", "GET /leaves"): 1,
        ("", "GET /waits"): 1,
        ("double", ""): 1,
    }


def test_an_application_inside_another_is_one_request(counted: Counted) -> None:
    with uvicorn_server(Middleware(Middleware(application()))) as port:
        ask(port, "GET", "/stream?count=2")
    assert [window.requests for window in counted()] == [1]


def test_answers_are_the_same(counted: Counted) -> None:
    """With every request noted and with looptap out of the way: equal to the last byte."""
    plain, noted = application(), Middleware(application())
    with out_of_the_way(), uvicorn_server(plain) as port:
        expected = [ask(port, *request) for request in REQUESTS]
    assert counted() == []
    with uvicorn_server(noted) as port:
        answers = [ask(port, *request) for request in REQUESTS]
    assert answers == expected
    assert sum(window.requests for window in counted()) == len(REQUESTS)


def test_what_is_noted(counted: Counted) -> None:
    with uvicorn_server(Middleware(application())) as port:
        for request in REQUESTS:
            ask(port, *request)
    found = {(one.model, one.endpoint): one for one in counted()}
    assert {key: (one.requests, one.errors) for key, one in found.items()} == {
        ("double", "POST /predict/{user}"): (1, {}),
        ("", "POST /predict/{user}"): (2, {"HTTP 422": 2}),
        ("", "GET /fails"): (1, {"ZeroDivisionError": 1}),
        ("", "GET /refuses"): (1, {"HTTP 503": 1}),
        ("", "GET /stream"): (1, {}),
        ("", "GET /half"): (1, {"OSError": 1}),
        ("", "GET /slow"): (1, {"HTTP 504": 1}),
        ("double", "GET /later"): (1, {}),
        ("", "GET /inner/deeper/{name}"): (1, {}),
        ("", "GET unmatched"): (1, {"HTTP 404": 1}),
        ("", "DELETE /fails"): (1, {"HTTP 405": 1}),
        ("", "HEAD /stream"): (1, {"HTTP 405": 1}),
    }
    predicted = found["double", "POST /predict/{user}"]
    assert set(predicted.latency) == {"total", "before", "model", "after"}
    assert histogram.decode(predicted.batch or b"").max == 2
    streamed = found["", "GET /stream"]
    assert len(histogram.decode(streamed.latency["between"])) == 5
    assert not TRAFFIC.live


def test_a_client_that_hangs_up(counted: Counted) -> None:
    with uvicorn_server(Middleware(application())) as port:
        began = time.monotonic()
        ask(port, "GET", "/stream?count=100000&pause=0.01", most=200)
        while TRAFFIC.live and time.monotonic() < began + 20:
            time.sleep(0.01)
    (window,) = counted()
    assert (window.endpoint, window.errors) == ("GET /stream", {"disconnected": 1})


def test_a_client_that_hangs_up_before_a_whole_answer(counted: Counted) -> None:
    """The application does not notice, and the server only when it is told to send."""
    app, left = FastAPI(), threading.Event()

    @app.get("/waits")
    def waits() -> str:
        left.wait(20)
        time.sleep(0.1)
        return "too late"

    with uvicorn_server(Middleware(app)) as port:
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET /waits HTTP/1.1\r\nHost: test\r\n\r\n")
            until(lambda: TRAFFIC.live)
        left.set()
        until(lambda: not TRAFFIC.live)
        ask(port, "GET", "/waits")
    (window,) = counted()
    assert (window.requests, window.errors) == (2, {"disconnected": 1})


def test_a_stream_that_goes_on(counted: Counted) -> None:
    """Is seen while it does."""
    with uvicorn_server(Middleware(application())) as port:
        thread = threading.Thread(target=ask, args=(port, "GET", "/stream?count=60&pause=0.02"))
        thread.start()
        while not any(request.first for request in list(TRAFFIC.live)):
            time.sleep(0.01)
        (window,) = counted()
        assert (window.requests, window.in_flight_max) == (0, 1)
        thread.join()
    assert sum(one.requests for one in counted()) == 1


def test_ten_thousand_paths(counted: Counted) -> None:
    """Of an application whose routes nobody knows, and of one whose are known."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    async def nothing(_: Any = None) -> Any:
        return {"type": "http.request"}

    async def program() -> None:
        unknown = Middleware(app)
        for number in range(10_000):
            scope = {"type": "http", "method": "GET", "path": f"/{number}", "headers": []}
            await unknown(scope, nothing, nothing)
            known = {"endpoint": app, "path_params": {"number": number}}
            await Middleware(app)({**scope, "path": f"/items/{number}", **known}, nothing, nothing)

    asyncio.run(program())
    found = {one.endpoint: one.requests for one in counted()}
    assert found["GET /items/{number}"] == 10_000
    assert len(found) <= 52
    assert sum(found.values()) == 20_000


def test_what_a_server_knows_of_a_request_goes_with_it(counted: Counted) -> None:
    """And not when it is counted, which is later."""

    class State:
        pass

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def nothing(_: Any = None) -> Any:
        return {}

    async def program() -> weakref.ref[State]:
        state = State()
        scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "state": state}
        await Middleware(app)(scope, nothing, nothing)
        return weakref.ref(state)

    assert asyncio.run(program())() is None
    assert len(TRAFFIC.done) == 1


def test_time_in_a_queue(counted: Counted) -> None:
    """As the proxy in front of it says."""
    with uvicorn_server(Middleware(application())) as port:
        for told in (f"t={time.time() - 0.5}", f"{(time.time() - 0.5) * 1000:.0f}", "nonsense", "-5"):
            ask(port, "GET", "/refuses", headers=f"X-Request-Start: {told}\r\n")
    (window,) = counted()
    queued = histogram.decode(window.latency["queue"])
    assert (window.requests, len(queued)) == (4, 2)
    assert queued.min == pytest.approx(0.5, abs=0.4)


def test_other_protocols_pass(counted: Counted) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope, receive, send))

    async def receive() -> Any:
        return {}

    async def send(message: Any) -> None:
        pass

    scope = {"type": "websocket"}
    asyncio.run(Middleware(app)(scope, receive, send))
    assert seen.pop() == (scope, receive, send)
    assert counted() == []


@pytest.mark.parametrize(
    "message",
    [{}, {"type": "http.response.start"}, {"type": "http.response.start", "status": "200"}, None, {"type": 7}],
)
def test_a_message_that_is_none_is_the_servers_to_refuse(message: Any, counted: Counted) -> None:
    """It reaches the server as it is, and the program gets the server's own error."""

    async def receive() -> Any:
        return message

    async def send(sent: Any) -> None:
        assert sent is message
        raise TypeError("not a message")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert await receive() is message
        await send(message)

    for kind in ("http", "lifespan"):
        with pytest.raises(TypeError, match="not a message"):
            asyncio.run(Middleware(app)({"type": kind, "method": "GET", "path": "/", "headers": []}, receive, send))
    (window,) = counted()
    assert window.errors == {"TypeError": 1}


def test_a_request_that_is_closed_elsewhere(counted: Counted) -> None:
    """As the collector of garbage does with what a loop has left behind: in another context."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()

    @types.coroutine
    def never() -> Any:
        yield

    waiting: Any = never
    request = Middleware(app)({"type": "http", "method": "GET", "path": "/", "headers": []}, waiting, waiting)
    contextvars.Context().run(request.send, None)
    contextvars.Context().run(request.close)
    (window,) = counted()
    assert window.errors == {"cancelled": 1}
    assert not TRAFFIC.live
