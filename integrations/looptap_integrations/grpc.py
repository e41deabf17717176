"""gRPC: every call of every method of every server that the program makes, ``grpc.aio`` among them."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any, ClassVar

import grpc

from looptap.integration import Capture, Integration
from looptap.patching import Patcher
from looptap.recorder import Recorder


class GrpcIntegration(Integration):
    requires = "grpcio>=1.49"
    captures = (
        Capture(
            "calls of a server's methods: latency and its parts (waiting for a thread of the server among them), time to the first"
            " message of a stream and between them, errors by status or exception, calls under way; with serving=True",
            "grpc.server, grpc.aio.server",
            "each call",
        ),
    )
    not_captured: ClassVar[tuple[str, ...]] = (
        "calls that a server refuses by itself, since it has too many (maximum_concurrent_rpcs)",
        "servers that were made before autolog()",
        "whether a client has cancelled a call of a handler in grpc.aio that is no coroutine",
    )

    def install(self, patch: Patcher, record: Recorder) -> None:
        patch.wrap("grpc", "server", lambda make: _noting(make, _Interceptor))
        patch.wrap("grpc.aio", "server", lambda make: _noting(make, _AsyncInterceptor))


def _noting(make: Callable[..., Any], interceptor: type) -> Callable[..., Any]:
    parameters = signature(make)

    def server(*args: Any, **kwargs: Any) -> Any:
        try:
            given = parameters.bind(*args, **kwargs)
        except TypeError:
            return make(*args, **kwargs)  # their mistake gives their error
        # The first is the outermost: it sees what those of the program answer themselves, too.
        given.arguments["interceptors"] = (interceptor(), *(given.arguments.get("interceptors") or ()))
        return make(*given.args, **given.kwargs)

    return server


class _Interceptor(grpc.ServerInterceptor):
    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        arrived = _arrived()
        return _noted(continuation(handler_call_details), handler_call_details.method, arrived)


class _AsyncInterceptor(grpc.aio.ServerInterceptor):
    async def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        arrived = _arrived()
        return _noted(await continuation(handler_call_details), handler_call_details.method, arrived)


def _arrived() -> int:
    from looptap.serving.traffic import now  # programs that only train have no time for it

    return now()


#: By whether a handler takes a stream, and whether it answers with one.
_KINDS = {
    (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
    (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
    (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
    (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
}


def _noted(handler: Any, method: str, arrived: int) -> Any:
    """The handler of a method, each of whose calls is noted."""
    from looptap.serving.rpc import not_found, noted

    if handler is None:
        not_found()
        return None
    name, make = _KINDS[bool(handler.request_streaming), bool(handler.response_streaming)]
    behavior = getattr(handler, name)
    ours = noted(behavior, method, arrived, is_stream=bool(handler.response_streaming))
    return handler if ours is behavior else make(ours, handler.request_deserializer, handler.response_serializer)
