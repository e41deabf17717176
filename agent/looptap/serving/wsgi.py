"""Requests of a WSGI application: Flask, Django, and others.

The application is called with its own environment. What it answers is passed on as it is where that has a length (a server may look
at it), or is a file (which a server may send by itself); else piece by piece, and the request ends with the last one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, TypeAlias

from looptap.serving.endpoints import UNMATCHED, Paths
from looptap.serving.queued import since
from looptap.serving.traffic import REQUEST, TRAFFIC, Request, kind_of
from looptap.session import SESSION

Environ: TypeAlias = dict[str, Any]
App: TypeAlias = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]

_PATHS = Paths()


def noted(call: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """As ``call``, the method by which an application is called. Each request is noted, unless it is one already: an application
    inside another. A framework that knows its routes says where it belongs (:attr:`looptap.serving.traffic.Request.endpoint`)."""

    def __call__(app: Any, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        if not (TRAFFIC.is_counted or SESSION.serving.start()) or REQUEST.get() is not None:
            return call(app, environ, start_response)
        request = Request()
        request.where = partial(_endpoint, environ)
        TRAFFIC.begin(request)
        status = _Status(start_response)
        current = REQUEST.set(request)
        try:
            answer = call(app, environ, status)
        except BaseException as error:
            _over(request, environ, status, kind_of(error))
            raise
        finally:
            REQUEST.reset(current)
        if _is_passed_on(answer, environ.get("wsgi.file_wrapper")):
            _over(request, environ, status, None)
            return answer
        return _Answer(answer, request, partial(_over, request, environ, status))

    return __call__


class Middleware:
    """``Middleware(app)`` answers as ``app`` does, and notes each request."""

    def __init__(self, app: App) -> None:
        self.app = app

    @noted
    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        return self.app(environ, start_response)


def _over(request: Request, environ: Environ, status: _Status, error: str | None) -> None:
    with SESSION.serving.guard:
        request.endpoint = request.endpoint or _endpoint(environ, status.code)
        request.queued = since(environ.get("HTTP_X_REQUEST_START") or environ.get("HTTP_X_QUEUE_START") or "")
        if error is None and status.code >= 400:
            error = f"HTTP {status.code}"
        # A framework that has made an answer of an exception knows better.
        request.error = request.error or error
    TRAFFIC.end(request)


def _endpoint(environ: Environ, status: int = 0) -> str:
    method, path = environ.get("REQUEST_METHOD", ""), environ.get("PATH_INFO", "")
    return f"{method} {UNMATCHED}" if status in (404, 405) else _PATHS.told(method, path)


def _is_passed_on(answer: Any, file_wrapper: Any) -> bool:
    """Whether the server may do something else with it than ask for its pieces. Some servers wrap files by a function."""
    kind = type(answer)
    is_file = hasattr(kind, "read") or (isinstance(file_wrapper, type) and issubclass(kind, file_wrapper))
    return is_file or hasattr(kind, "__len__")


class _Status:
    """Stands for ``start_response``, and sees the status."""

    __slots__ = ("_start", "code")

    def __init__(self, start: Callable[..., Any]) -> None:
        self._start = start
        self.code = 0

    def __call__(self, status: str, *args: Any, **kwargs: Any) -> Any:
        begun = self._start(status, *args, **kwargs)
        with SESSION.serving.guard:
            self.code = int(status[:3])
        return begun


class _Answer:
    """The pieces of an answer, as they are asked for."""

    def __init__(self, answer: Iterable[bytes], request: Request, over: Callable[[str | None], None]) -> None:
        self._answer = answer
        self._request = request
        self._over: Callable[[str | None], None] | None = over
        self._error: str | None = "incomplete answer"

    def __iter__(self) -> Iterator[bytes]:
        pieces = iter(self._answer)
        while True:
            # Not around the yield: between two pieces the server's thread is not ours.
            current = REQUEST.set(self._request)
            try:
                piece = next(pieces)
            except StopIteration:
                self._error = None
                return
            except BaseException as error:
                self._error = kind_of(error)
                raise
            finally:
                REQUEST.reset(current)
            self._request.sends()
            yield piece

    def close(self) -> None:
        """Called by every server when the answer is over, or nobody listens any more."""
        try:
            close = getattr(self._answer, "close", None)
            if close is not None:
                close()
        finally:
            over, self._over = self._over, None
            if over is not None:
                over(self._error)
