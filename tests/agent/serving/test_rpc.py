"""Calls of the methods of real gRPC servers of both kinds: what is noted, and that clients get the same."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import grpc
import pytest

import looptap
from agent.serving.conftest import out_of_the_way
from looptap.events import Window
from looptap.patching import Patcher
from looptap.serving.traffic import TRAFFIC
from looptap.sketches import histogram
from looptap_integrations.grpc import GrpcIntegration

Counted = Callable[[], list[Window]]
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


@looptap.watch
def double(data: bytes) -> bytes:
    return data * 2


# --- functions for grpc.server; grpc.aio takes them, too ---------------------------------------------------------------


def predict(asked: bytes, context: Any) -> bytes:
    context.set_trailing_metadata((("served-by", "us"),))
    return double(asked)


def fails(asked: bytes, context: Any) -> bytes:
    raise ZeroDivisionError("by nothing")


def aborts(asked: bytes, context: Any) -> bytes:
    context.abort(UNAVAILABLE, "come back later")
    return b""


def sets(asked: bytes, context: Any) -> bytes:
    context.set_code(grpc.StatusCode.NOT_FOUND)
    context.set_details("no such user")
    return b""


def stream(asked: bytes, context: Any) -> Iterator[bytes]:
    for number in range(5):
        yield double(b"%d" % number)


def half(asked: bytes, context: Any) -> Iterator[bytes]:
    yield b"half"
    raise OSError("the other half is gone")


def refuses_to_stream(asked: bytes, context: Any) -> Iterator[bytes]:
    raise LookupError("not even one")


def total(asked: Iterator[bytes], context: Any) -> bytes:
    return double(b"".join(asked))


def chat(asked: Iterator[bytes], context: Any) -> Iterator[bytes]:
    for message in asked:
        yield double(message)


SYNC = {
    "Predict": grpc.unary_unary_rpc_method_handler(predict),
    "Fails": grpc.unary_unary_rpc_method_handler(fails),
    "Aborts": grpc.unary_unary_rpc_method_handler(aborts),
    "Sets": grpc.unary_unary_rpc_method_handler(sets),
    "Stream": grpc.unary_stream_rpc_method_handler(stream),
    "Half": grpc.unary_stream_rpc_method_handler(half),
    "Refuses": grpc.unary_stream_rpc_method_handler(refuses_to_stream),
    "Total": grpc.stream_unary_rpc_method_handler(total),
    "Chat": grpc.stream_stream_rpc_method_handler(chat),
}

# --- coroutines and asynchronous generators, for grpc.aio only ---------------------------------------------------------


async def predict_later(asked: bytes, context: Any) -> bytes:
    context.set_trailing_metadata((("served-by", "us"),))
    await asyncio.sleep(0)
    return double(asked)


async def fails_later(asked: bytes, context: Any) -> bytes:
    raise ZeroDivisionError("by nothing")


async def aborts_later(asked: bytes, context: Any) -> bytes:
    await context.abort(UNAVAILABLE, "come back later")
    return b""


async def sets_later(asked: bytes, context: Any) -> bytes:
    context.set_code(5)
    context.set_details("no such user")
    return b""


async def stream_later(asked: bytes, context: Any) -> Any:
    for number in range(5):
        yield double(b"%d" % number)


async def writes(asked: bytes, context: Any) -> None:
    for number in range(5):
        await context.write(double(b"%d" % number))


async def half_later(asked: bytes, context: Any) -> Any:
    yield b"half"
    raise OSError("the other half is gone")


async def total_later(asked: Any, context: Any) -> bytes:
    return double(b"".join([message async for message in asked]))


async def chat_later(asked: Any, context: Any) -> Any:
    async for message in asked:
        yield double(message)


ASYNC = {
    "Predict": grpc.unary_unary_rpc_method_handler(predict_later),
    "Fails": grpc.unary_unary_rpc_method_handler(fails_later),
    "Aborts": grpc.unary_unary_rpc_method_handler(aborts_later),
    "Sets": grpc.unary_unary_rpc_method_handler(sets_later),
    "Stream": grpc.unary_stream_rpc_method_handler(stream_later),
    "Writes": grpc.unary_stream_rpc_method_handler(writes),
    "Half": grpc.unary_stream_rpc_method_handler(half_later),
    "Total": grpc.stream_unary_rpc_method_handler(total_later),
    "Chat": grpc.stream_stream_rpc_method_handler(chat_later),
}

# --- servers and clients -----------------------------------------------------------------------------------------------


@contextmanager
def installed() -> Iterator[None]:
    patcher = Patcher("grpc")
    integration = GrpcIntegration()
    integration.install(patcher, None)  # type: ignore[arg-type]
    assert not patcher.missing
    try:
        yield
    finally:
        patcher.undo()


Served = Callable[..., Any]


@contextmanager
def sync_server(handlers: dict[str, Any], **more: Any) -> Iterator[int]:
    server = grpc.server(ThreadPoolExecutor(8), **more)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("looptap.Test", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()


@contextmanager
def aio_server(handlers: dict[str, Any], **more: Any) -> Iterator[int]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> tuple[Any, int]:
        server = grpc.aio.server(ThreadPoolExecutor(8), **more)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("looptap.Test", handlers),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        return server, port

    server, port = asyncio.run_coroutine_threadsafe(start(), loop).result(30)
    try:
        yield port
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(None), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def ask(port: int, method: str) -> tuple[list[bytes], str, str, list[Any]]:
    """The messages that come back, the status, what it says, and the metadata at the end."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        streams = {"Total": channel.stream_stream, "Chat": channel.stream_stream}
        call = streams.get(method, channel.unary_stream)(f"/looptap.Test/{method}")
        asked: Any = iter([b"a", b"b", b"c"]) if method in streams else b"x"
        answer = call(asked, timeout=20)
        pieces: list[bytes] = []
        with suppress(grpc.RpcError):
            pieces.extend(iter(answer.__next__, None))
        return pieces, answer.code().name, answer.details(), list(answer.trailing_metadata())


SERVERS: list[Any] = [
    pytest.param(sync_server, SYNC, id="sync"),
    pytest.param(aio_server, ASYNC, id="aio"),
    pytest.param(aio_server, SYNC, id="functions in aio"),
]


@pytest.mark.parametrize(("served", "handlers"), SERVERS)
def test_answers_are_the_same(counted: Counted, served: Served, handlers: dict[str, Any]) -> None:
    """Messages, their order, status, details and metadata: without looptap, with every call noted, and where nobody counts."""
    methods = [*handlers, "Nowhere"]
    with served(handlers) as port:
        expected = [ask(port, method) for method in methods]
    counted()
    with installed():
        with served(handlers) as port:
            assert [ask(port, method) for method in methods] == expected
        assert sum(window.requests for window in counted()) == len(methods)
        with out_of_the_way(), served(handlers) as port:
            assert [ask(port, method) for method in methods] == expected
        assert not TRAFFIC.done


@pytest.mark.parametrize(("served", "handlers"), SERVERS)
def test_what_is_noted(counted: Counted, served: Served, handlers: dict[str, Any]) -> None:
    with installed(), served(handlers) as port:
        for method in [*handlers, "Nowhere"]:
            ask(port, method)
    found = {one.endpoint: one for one in counted()}
    errors = {endpoint: one.errors for endpoint, one in found.items() if one.errors}
    assert {one.requests for one in found.values()} == {1}
    refusing = {"/looptap.Test/Refuses": {"LookupError": 1}} if "Refuses" in handlers else {}
    assert errors == {
        "/looptap.Test/Fails": {"ZeroDivisionError": 1},
        "/looptap.Test/Aborts": {"UNAVAILABLE": 1},
        "/looptap.Test/Sets": {"NOT_FOUND": 1},
        "/looptap.Test/Half": {"OSError": 1},
        "unmatched": {"UNIMPLEMENTED": 1},
        **refusing,
    }
    asking = {endpoint.rpartition("/")[2] for endpoint, one in found.items() if one.model == "double"}
    assert asking == {"Predict", "Stream", "Total", "Chat"} | ({"Writes"} & handlers.keys())
    assert set(found["/looptap.Test/Predict"].latency) == {"total", "queue", "before", "model", "after"}
    for method in {"Stream", "Writes"} & handlers.keys():
        streamed = found[f"/looptap.Test/{method}"]
        assert len(histogram.decode(streamed.latency["first"])) == 1
        assert len(histogram.decode(streamed.latency["between"])) == 4
    assert not TRAFFIC.live


def endless(asked: bytes, context: Any) -> Iterator[bytes]:
    while True:
        yield b"more"


async def endless_later(asked: bytes, context: Any) -> Any:
    while True:
        yield b"more"


async def waits_later(asked: bytes, context: Any) -> bytes:
    await asyncio.Event().wait()
    return b"never"


@pytest.mark.parametrize(
    ("served", "handler"),
    [
        pytest.param(sync_server, grpc.unary_stream_rpc_method_handler(endless), id="sync"),
        pytest.param(aio_server, grpc.unary_stream_rpc_method_handler(endless_later), id="aio"),
    ],
)
def test_a_client_that_goes_away(counted: Counted, served: Served, handler: Any) -> None:
    """In the middle of a stream that has no end."""
    with installed(), served({"Endless": handler}) as port, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        answer = channel.unary_stream("/looptap.Test/Endless")(b"x", timeout=20)
        assert [next(answer) for _ in range(3)] == [b"more"] * 3
        answer.cancel()
        wait_until_over()
    (window,) = counted()
    assert (window.endpoint, window.errors) == ("/looptap.Test/Endless", {"cancelled": 1})


def waits(asked: bytes, context: Any) -> bytes:
    """A function goes on when its client is gone; what it answers then is for nobody."""
    is_over = threading.Event()
    context.add_callback(is_over.set)
    assert is_over.wait(20)
    return b"late"


@pytest.mark.parametrize(
    ("served", "handler"),
    [
        pytest.param(sync_server, grpc.unary_unary_rpc_method_handler(waits), id="sync"),
        pytest.param(aio_server, grpc.unary_unary_rpc_method_handler(waits_later), id="aio"),
    ],
)
def test_a_client_that_does_not_wait(counted: Counted, served: Served, handler: Any) -> None:
    with installed(), served({"Waits": handler}) as port, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        answer = channel.unary_unary("/looptap.Test/Waits").future(b"x", timeout=20)
        until(lambda: TRAFFIC.live)
        answer.cancel()
        wait_until_over()
    (window,) = counted()
    assert window.errors == {"cancelled": 1}


class Counts(grpc.ServerInterceptor):  # type: ignore[misc]
    def __init__(self) -> None:
        self.methods: list[str] = []

    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        self.methods.append(handler_call_details.method)
        return continuation(handler_call_details)


def test_interceptors_of_the_program_stay(counted: Counted) -> None:
    own = Counts()
    with installed(), sync_server(SYNC, interceptors=[own]) as port:
        assert ask(port, "Predict")[0] == [b"xx"]
    assert own.methods == ["/looptap.Test/Predict"]
    assert len(counted()) == 1


def test_mistakes_are_told_as_ever(counted: Counted) -> None:
    async def wrong() -> None:
        grpc.aio.server(interceptors=[object()])

    with installed():
        with pytest.raises(TypeError, match="server\\(\\) got an unexpected keyword argument 'threads'"):
            grpc.server(threads=8)
        with pytest.raises(ValueError, match="Interceptor must be ServerInterceptor"):
            asyncio.run(wrong())
    assert not hasattr(grpc.server, "__wrapped__")


def until(condition: Callable[[], Any]) -> None:
    pause = threading.Event()
    for _ in range(2000):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("it takes too long")


def wait_until_over() -> None:
    until(lambda: not TRAFFIC.live)
