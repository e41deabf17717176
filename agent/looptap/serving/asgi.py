"""Requests of an ASGI application: FastAPI, Starlette, and what is built on them.

The application is called with its own scope; every message passes as it is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
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


class Middleware:
    """``Middleware(app)`` answers as ``app`` does, and notes each HTTP request: for applications of frameworks that looptap does
    not know."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await noted(self.app, scope, receive, send)


async def noted(app: App, scope: Scope, receive: Receive, send: Send) -> None:
    """``await app(scope, receive, send)``; an HTTP request is noted, unless it is one already: an application inside another."""
    if scope["type"] == "lifespan":
        await app(scope, receive, partial(_ended, send))
        return
    if scope["type"] != "http" or not (TRAFFIC.is_counted or SESSION.serving.start()) or REQUEST.get() is not None:
        await app(scope, receive, send)
        return
    request = TRAFFIC.begin()
    request.where = partial(_endpoint, scope)
    exchange = _Exchange(request, receive, send)
    current = REQUEST.set(request)
    try:
        await app(scope, exchange.receive, exchange.send)
    except BaseException as error:
        request.error = kind_of(error)
        raise
    finally:
        leave(REQUEST, current)
        with SESSION.serving.guard:
            exchange.tell(scope)
        TRAFFIC.end(request)


async def _ended(send: Send, message: Message) -> None:
    """After the last message of an application its server may end the process by a signal, and nothing of ours runs any more."""
    if _kind(message) in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
        SESSION.end_serving()
    await send(message)


def _kind(message: Any) -> Any:
    """None of what is no message: the server says what is wrong with it."""
    return message.get("type") if isinstance(message, Mapping) else None


class _Exchange:
    """One request and its answer, as they pass."""

    __slots__ = ("_receive", "_request", "_send", "is_complete", "is_disconnected", "status")

    def __init__(self, request: Request, receive: Receive, send: Send) -> None:
        self._request = request
        self._receive = receive
        self._send = send
        self.status = 0
        self.is_complete = self.is_disconnected = False

    async def receive(self) -> Message:
        message = await self._receive()
        if not self.is_complete and _kind(message) == "http.disconnect":
            self.is_disconnected = True
        return message

    async def send(self, message: Message) -> None:
        kind = _kind(message)
        if kind == "http.response.body":
            if message.get("more_body"):
                self._request.sends()
            else:
                if self._request.first:
                    self._request.sends()
                self.is_complete = True
        elif kind == "http.response.start":
            status = message.get("status")
            self.status = status if isinstance(status, int) else 0
        await self._send(message)

    def tell(self, scope: Scope) -> None:
        """What is known of it when it is over."""
        request = self._request
        request.endpoint = request.endpoint or _endpoint(scope, self.status)
        request.queued = queued_ns(scope.get("headers") or ())
        if self.is_disconnected:
            request.error = "disconnected"
        elif request.error is None:
            if self.status >= 400:
                request.error = f"HTTP {self.status}"
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
