"""Django: every request, over WSGI and over ASGI."""

from __future__ import annotations

from typing import Any, ClassVar

from looptap.integration import Capture, Integration
from looptap.patching import Call, Observation, Patcher
from looptap.recorder import Recorder

_WHAT = "requests of a server: latency and its parts, errors by class, requests under way, by route; with serving=True"


class DjangoWsgiIntegration(Integration):
    requires = "django>=4.2"
    captures = (Capture(_WHAT, "WSGIHandler.__call__; the route from its resolve_request", "each request"),)
    not_captured: ClassVar[tuple[str, ...]] = ("requests of django.test.Client",)

    def install(self, patch: Patcher, record: Recorder) -> None:
        from django.core.handlers.wsgi import WSGIHandler  # a program has one of the two

        from looptap.serving.wsgi import noted

        patch.tap(WSGIHandler, "resolve_request", None, on_resolved)
        patch.observe("django.core.handlers.exception", "handle_uncaught_exception", on_exception)
        patch.wrap(WSGIHandler, "__call__", noted)


class DjangoAsgiIntegration(Integration):
    requires = "django>=4.2"
    captures = (Capture(_WHAT, "ASGIHandler.__call__; the route from its resolve_request", "each request"),)
    not_captured: ClassVar[tuple[str, ...]] = ("WebSocket connections (Channels)",)

    def install(self, patch: Patcher, record: Recorder) -> None:
        from django.core.handlers.asgi import ASGIHandler

        from looptap.serving.asgi import noted

        patch.tap(ASGIHandler, "resolve_request", None, on_resolved)
        patch.observe("django.core.handlers.exception", "handle_uncaught_exception", on_exception)
        patch.wrap(ASGIHandler, "__call__", noted)


def on_resolved(args: tuple[Any, ...]) -> None:
    from looptap.serving.endpoints import template  # programs that only train have no time for it
    from looptap.serving.traffic import REQUEST

    request, asked = REQUEST.get(), args[1]
    if request is not None:
        route = str(asked.resolver_match.route).removeprefix("^")
        request.endpoint = template(asked.method, asked.path_info, {}, f"/{route}")


def on_exception(call: Call) -> Observation:
    """One that nothing of the program has handled: ``handle_uncaught_exception(request, resolver, exc_info)``."""
    from looptap.serving.traffic import failed

    told = call.args[2] if len(call.args) > 2 else call.kwargs.get("exc_info")
    if told and isinstance(told[1], BaseException):
        failed(told[1])
    yield
