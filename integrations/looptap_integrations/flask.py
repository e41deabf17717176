"""Flask: every request of every application."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Flask

from looptap.integration import Capture, Integration
from looptap.patching import Call, Observation, Patcher
from looptap.recorder import Recorder


class FlaskIntegration(Integration):
    requires = "flask>=2.2"
    captures = (
        Capture(
            "requests of a server: latency and its parts, errors by class, requests under way, by route; with serving=True",
            "Flask.__call__",
            "each request",
        ),
    )

    def install(self, patch: Patcher, record: Recorder) -> None:
        patch.observe(Flask, "handle_exception", self.on_exception)
        patch.wrap(Flask, "__call__", _noted)

    def on_exception(self, call: Call) -> Observation:
        """One that nothing of the program has handled."""
        from looptap.serving.traffic import failed  # programs that only train have no time for it

        error = call.args[1] if len(call.args) > 1 else call.kwargs.get("e")
        if isinstance(error, BaseException):
            failed(error)
        yield


def _noted(call: Callable[..., Any]) -> Callable[..., Any]:
    from looptap.serving.wsgi import Middleware  # programs that only train have no time for it

    def __call__(app: Flask, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        return Middleware(lambda *given: call(app, *given), _route)(environ, start_response)

    return __call__


def _route(environ: dict[str, Any]) -> str | None:
    """Of a request that Flask has matched; it leaves its view of the request in the environment."""
    rule = getattr(environ.get("werkzeug.request"), "url_rule", None)
    return None if rule is None else str(rule.rule)
