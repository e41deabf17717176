"""Requests of Flask under its integration: each by its route, and an exception by its class; answers are the same."""

from __future__ import annotations

from collections.abc import Iterator

import flask
import pytest

from integrations.recording import Recording
from looptap.patching import Patcher
from looptap.serving.traffic import TRAFFIC, now
from looptap.serving.windows import Windows


@pytest.fixture
def app() -> Iterator[flask.Flask]:
    """Every request is counted."""
    from looptap_integrations.flask import FlaskIntegration

    patch = Patcher("flask")
    FlaskIntegration().install(patch, Recording())
    TRAFFIC.after_fork_in_child()
    TRAFFIC.is_counted = True
    yield application()
    TRAFFIC.after_fork_in_child()
    patch.undo()


def application() -> flask.Flask:
    made = flask.Flask(__name__)

    @made.get("/items/<int:number>")
    def item(number: int) -> str:
        return str(1 // number)

    @made.get("/refuses")
    def refuses() -> str:
        flask.abort(503)

    return made


PATHS = ["/items/1", "/items/2", "/items/0", "/refuses", "/nowhere", "/items/one"]


def asked(app: flask.Flask, path: str) -> tuple[str, bytes]:
    with app.test_client().get(path) as answer:
        return answer.status, answer.data


def test_routes_and_errors(app: flask.Flask) -> None:
    counted = [asked(app, path) for path in PATHS]
    windows = Windows()
    windows.begin(now())
    while TRAFFIC.done:
        windows.count(TRAFFIC.done.popleft())
    found = {one.endpoint: (one.requests, one.errors) for one in windows.close([])}
    assert found == {
        "GET /items/<int:number>": (3, {"ZeroDivisionError": 1}),
        "GET /refuses": (1, {"HTTP 503": 1}),
        "GET unmatched": (2, {"HTTP 404": 2}),
    }
    TRAFFIC.is_counted = False
    assert counted == [asked(application(), path) for path in PATHS]


def test_the_class_is_as_it_was_when_it_is_over(app: flask.Flask) -> None:
    from looptap_integrations.flask import FlaskIntegration

    before = vars(flask.Flask)["__call__"]
    patch = Patcher("flask")
    FlaskIntegration().install(patch, Recording())
    assert vars(flask.Flask)["__call__"] is not before
    patch.undo()
    assert vars(flask.Flask)["__call__"] is before
