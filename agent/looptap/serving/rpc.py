"""Calls of the methods of a gRPC server, of both kinds.

A handler is given its own request and its own context, and what it answers is passed on as it is. There is one exception: where a
context tells neither its status nor when a message is written, the handler is given one that stands for it and does.
"""

from __future__ import annotations

import functools
import inspect
from asyncio import CancelledError
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import Token
from typing import Any, TypeAlias

from looptap.serving.endpoints import UNMATCHED
from looptap.serving.traffic import REQUEST, TRAFFIC, Request, kind_of, leave
from looptap.session import SESSION

Behavior: TypeAlias = Callable[..., Any]
#: Begins to note a call, given its context.
Noting: TypeAlias = Callable[[Any], "_Call"]


def noted(behavior: Behavior, method: str, arrived: int, *, is_stream: bool) -> Behavior:
    """What does as ``behavior``, the function behind this method, and is of the same kind: gRPC looks at that. ``arrived`` is when
    the server had the call; until the function runs, it waits."""
    if not (TRAFFIC.is_counted or SESSION.serving.start()):
        return behavior
    if getattr(behavior, "experimental_non_blocking", False):
        return behavior  # answers by a callback, some time
    noting = functools.partial(_Call, method, arrived)
    # With the attributes of the function, by which it may ask for threads of its own.
    return functools.wraps(behavior)(_like(behavior, is_stream)(behavior, noting))


def not_found() -> None:
    """A call of a method that the server does not have."""
    if TRAFFIC.is_counted or SESSION.serving.start():
        request = Request()
        TRAFFIC.begin(request)
        request.endpoint, request.error = UNMATCHED, "UNIMPLEMENTED"
        TRAFFIC.end(request)


# --- private ----------------------------------------------------------------------------------------------------------


class _Call:
    """One call. ``with`` it, its function runs."""

    __slots__ = ("_context", "_current", "request")

    def __init__(self, method: str, arrived: int, context: Any) -> None:
        request = self.request = Request()
        TRAFFIC.begin(request)
        request.endpoint = method
        request.queued = request.begun - arrived
        self._context = context
        self._current: Token[Request | None] | None = None

    def __enter__(self) -> None:
        self._current = REQUEST.set(self.request)

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if self._current is not None:
            leave(REQUEST, self._current)
        if error is not None:
            self.over(error)

    def over(self, error: BaseException | None = None) -> None:
        with SESSION.serving.guard:
            self.request.error = _error(self._context, error)
        TRAFFIC.end(self.request)


def _error(context: Any, error: BaseException | None) -> str | None:
    """The status that the client gets, by its name; where the program has set none, the class of what was raised."""
    if isinstance(error, CancelledError | GeneratorExit):
        return kind_of(error)
    name = _name(context.code())
    if name != "OK":
        return name
    if error is not None:
        return kind_of(error)
    is_active = getattr(context, "is_active", None)
    return "cancelled" if is_active is not None and not is_active() else None


def _name(code: Any) -> str:
    """Of a status as a program sets it: in ``grpc.aio`` it may be a number. None is what a call has that nobody gave one."""
    if isinstance(code, int):
        return _STATUSES[code] if 0 <= code < len(_STATUSES) else "UNKNOWN"
    return str(getattr(code, "name", "OK"))


#: By number, as the protocol has them (https://grpc.io/docs/guides/status-codes/).
_STATUSES = (
    "OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED RESOURCE_EXHAUSTED"
    " FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS UNAUTHENTICATED"
).split()


def _like(behavior: Behavior, is_stream: bool) -> Callable[[Behavior, Noting], Behavior]:
    if inspect.isasyncgenfunction(behavior):
        return _async_stream
    if inspect.iscoroutinefunction(behavior):
        return _writer if is_stream else _coroutine
    return _stream if is_stream else _unary


def _unary(behavior: Behavior, noting: Noting) -> Behavior:
    def unary(asked: Any, context: Any) -> Any:
        context = _telling(context)
        call = noting(context)
        with call:
            answer = behavior(asked, context)
        call.over()
        return answer

    return unary


def _stream(behavior: Behavior, noting: Noting) -> Behavior:
    def stream(asked: Any, context: Any) -> Iterator[Any]:
        context = _telling(context)
        call = noting(context)
        with call:
            answer = behavior(asked, context)
        return _pieces(call, answer)

    return stream


def _pieces(call: _Call, answer: Iterator[Any]) -> Iterator[Any]:
    try:
        while True:
            # Not around the yield: between two messages the server's thread is not ours.
            with call:
                try:
                    piece = next(answer)
                except StopIteration:
                    break
            call.request.sends()
            yield piece
    except GeneratorExit as nobody_listens:
        call.over(nobody_listens)
        raise
    call.over()


def _coroutine(behavior: Behavior, noting: Noting) -> Behavior:
    async def coroutine(asked: Any, context: Any) -> Any:
        call = noting(context)
        with call:
            answer = await behavior(asked, context)
        call.over()
        return answer

    return coroutine


def _writer(behavior: Behavior, noting: Noting) -> Behavior:
    """It writes its messages itself, by its context."""

    async def writer(asked: Any, context: Any) -> Any:
        call = noting(context)
        with call:
            answer = await behavior(asked, _Writing(context, call.request))
        call.over()
        return answer

    return writer


def _async_stream(behavior: Behavior, noting: Noting) -> Behavior:
    async def async_stream(asked: Any, context: Any) -> AsyncIterator[Any]:
        call = noting(context)
        with call:
            answer = behavior(asked, context)
        try:
            while True:
                with call:
                    try:
                        piece = await answer.__anext__()
                    except StopAsyncIteration:
                        break
                call.request.sends()
                yield piece
        except GeneratorExit as nobody_listens:
            call.over(nobody_listens)
            await answer.aclose()
            raise
        call.over()

    return async_stream


class _StandIn:
    """Has all that a context has."""

    def __init__(self, context: Any) -> None:
        self._context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


class _Writing(_StandIn):
    """Sees what is written."""

    def __init__(self, context: Any, request: Request) -> None:
        super().__init__(context)
        self._request = request

    async def write(self, message: Any) -> None:
        self._request.sends()
        await self._context.write(message)


class _Telling(_StandIn):
    """Tells its status, which the one that ``grpc.aio`` gives to functions that are no coroutines does not."""

    _code: Any = None

    def code(self) -> Any:
        return self._code

    def set_code(self, code: Any) -> None:
        self._code = code
        self._context.set_code(code)

    def abort(self, code: Any, *args: Any, **kwargs: Any) -> Any:
        self._code = code
        return self._context.abort(code, *args, **kwargs)


def _telling(context: Any) -> Any:
    return context if hasattr(context, "code") else _Telling(context)
