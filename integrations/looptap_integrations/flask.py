"""Flask: every request of every application."""

from __future__ import annotations

from typing import Any

from flask import Flask, request

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
        from looptap.serving.wsgi import noted  # programs that only train have no time for it

        patch.tap(Flask, "full_dispatch_request", on_request, None)
        patch.observe(Flask, "handle_exception", on_exception)
        patch.wrap(Flask, "__call__", noted)


def on_request(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Flask knows the rule by now, and forgets it before the answer is over."""
    from looptap.serving.endpoints import template  # programs that only train have no time for it
    from looptap.serving.traffic import REQUEST

    here, rule = REQUEST.get(), request.url_rule
    if here is not None and rule is not None:
        here.endpoint = template(request.method, request.path, {}, str(rule.rule))


def on_exception(call: Call) -> Observation:
    """One that nothing of the program has handled."""
    from looptap.serving.traffic import failed

    error = call.args[1] if len(call.args) > 1 else call.kwargs.get("e")
    if isinstance(error, BaseException):
        failed(error)
    yield
