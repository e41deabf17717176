"""Requests of an ASGI application: FastAPI, Starlette, and what is built on them.

The application is called with its own scope; every message passes as it is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping, MutableMapping
from functools import partial
from typing import Any, TypeAlias

from looptap.serving.endpoints import UNMATCHED, Paths, template
from looptap.serving.queued import queued_ns
from looptap.serving.traffic import REQUEST, TRAFFIC, Request, kind_of, leave
from looptap.session import SESSION

Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

_PATHS = Paths()


def noted(call: Callable[..., Awaitable[None]]) -> Callable[..., Coroutine[Any, Any, None]]:
    """As ``call``, the method by which an application is called. An HTTP request is noted, unless it is one already: an application
    inside another."""

    async def __call__(app: Any, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await call(app, scope, receive, partial(_ended, send))
            return
        is_counted = scope["type"] == "http" and (TRAFFIC.is_counted or SESSION.serving.start())
        if not is_counted or REQUEST.get() is not None:
            await call(app, scope, receive, send)
            return
        request = Request()
        request.where = partial(_endpoint, scope)
        TRAFFIC.begin(request)
        exchange = _Exchange(request, receive, send)
        current = REQUEST.set(request)
        try:
            await call(app, scope, exchange.receive, exchange.send)
        except BaseException as error:
            request.error = kind_of(error)
            raise
        finally:
            leave(REQUEST, current)
            exchange.is_over(scope)

    return __call__


class Middleware:
    """``Middleware(app)`` answers as ``app`` does, and notes each HTTP request: for applications of frameworks that looptap does
    not know."""

    def __init__(self, app: App) -> None:
        self.app = app

    @noted
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


async def _ended(send: Send, message: Message) -> None:
    """After the last message of an application its server may end the process by a signal, and nothing of ours runs any more."""
    if _kind(message) in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
        SESSION.end_serving()
    await send(message)


def _kind(message: Any) -> Any:
    """None of what is no message: the server says what is wrong with it."""
    return message.get("type") if type(message) is dict or isinstance(message, Mapping) else None


class _Exchange:
    """One request and its answer, as they pass."""

    __slots__ = ("_receive", "_request", "_send", "is_complete", "is_disconnected", "status")

    def __init__(self, request: Request, receive: Receive, send: Send) -> None:
        self._request = request
        self._receive = receive
        self._send = send
        self.status: Any = 0
        self.is_complete = self.is_disconnected = False

    async def receive(self) -> Message:
        message = await self._receive()
        if not self.is_complete and _kind(message) == "http.disconnect":
            self.is_disconnected = True
        return message

    def send(self, message: Message) -> Awaitable[None]:
        kind = _kind(message)
        if kind == "http.response.start":
            self.status = message.get("status")
        elif kind == "http.response.body":
            if message.get("more_body"):
                self._request.sends()
            else:
                # uvicorn knows, and does not say so to what has no more to read.
                if getattr(getattr(self._send, "__self__", None), "disconnected", None) is True:
                    self.is_disconnected = True
                self.is_complete = True
                if self._request.first:
                    self._request.sends()
        return self._send(message)

    def is_over(self, scope: Scope) -> None:
        request, guard = self._request, SESSION.serving.guard
        try:
            self._tell(request, scope)
        except Exception as error:
            guard.failed(error)
            if guard.strict:
                raise
        TRAFFIC.end(request)

    def _tell(self, request: Request, scope: Scope) -> None:
        """What is known of it when it is over."""
        status = self.status if isinstance(self.status, int) else 0
        request.endpoint = request.endpoint or _endpoint(scope, status)
        request.queued = queued_ns(scope.get("headers") or ())
        if self.is_disconnected:
            request.error = "disconnected"
        elif request.error is None:
            if status >= 400:
                request.error = f"HTTP {status}"
            elif not self.is_complete:
                request.error = "incomplete answer"


def _endpoint(scope: Scope, status: int = 0) -> str:
    method = scope["method"]
    if "endpoint" in scope:  # Starlette has matched a route
        path = scope.get("path", "")
        route = getattr(scope.get("route"), "path", None)
        if route is not None:
            # Of an application that is mounted somewhere, with the place.
            route = scope.get("root_path", "") + route if not path.startswith(route) else route
        return template(method, path, scope.get("path_params") or {}, route)
    if status in (404, 405):
        return f"{method} {UNMATCHED}"
    return _PATHS.told(method, scope.get("path", ""))
