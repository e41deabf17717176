"""Who may do what: every route, every method, every kind of token."""

from __future__ import annotations

import re
import time
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from collector.server.collectors import Collector
from looptap_collector.server.access import AccessTable, Scope, Unscoped, needs

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
#: What each route is for. A new route must be added here by hand: that is the second pair of eyes.
EXPECTED = {
    ("GET", "/healthz"): {"public"},
    ("GET", "/readyz"): {"public"},
    ("GET", "/metrics"): {"read"},
    ("GET", "/openapi.json"): {"read"},
    ("POST", "/v1/batches"): {"ingest"},
    ("GET", "/v1/journals/{journal:path}"): {"ingest", "read"},
    ("GET", "/v1/experiments"): {"read"},
    ("GET", "/v1/runs"): {"read"},
    ("GET", "/v1/runs/{run:path}"): {"read"},
    ("DELETE", "/v1/runs/{run}"): {"admin"},
    ("GET", "/v1/runs/{run:path}/artifacts"): {"read"},
    ("GET", "/v1/runs/{run:path}/profile"): {"read"},
    ("GET", "/v1/histories"): {"read"},
    ("GET", "/v1/live"): {"read"},
    ("GET", "/v1/models"): {"read"},
    ("GET", "/v1/alerts"): {"read"},
    ("GET", "/v1/windows"): {"read"},
    ("GET", "/v1/serving"): {"read"},
    ("GET", "/v1/serving/report"): {"read"},
    ("GET", "/v1/serving/comparison"): {"read"},
    ("GET", "/v1/datasets"): {"read"},
    ("GET", "/v1/datasets/comparison"): {"read"},
    ("GET", "/v1/lineage"): {"read"},
    ("GET", "/v1/edges"): {"read"},
    ("HEAD", "/v1/artifacts/{digest}"): {"ingest", "read"},
    ("GET", "/v1/artifacts/{digest}"): {"read"},
    ("PUT", "/v1/artifacts/{digest}"): {"ingest"},
    ("GET", "/v1/artifacts/{digest}/upload"): {"ingest"},
}


def test_the_routes_are_those_that_we_know(collector: Collector) -> None:
    """Every route with the scopes that it is meant to need; none is missing here, none is too much."""
    found = {(method, path): {scope.value for scope in scopes} for method, path, scopes in collector.app.state.access}
    assert found == EXPECTED


def test_every_route_method_and_token(collector: Collector) -> None:
    """No token, one of each scope, an expired and a revoked one, on every path with every method: the answer is a refusal unless
    the table says otherwise, and then it is none."""
    expired = collector.token("old", "admin", expires_ns=time.time_ns() - 1)
    revoked = collector.token("gone", "admin")
    collector.store.revoke_token(next(row.id for row in collector.store.tokens() if row.name == "gone"), time.time_ns())
    time.sleep(1.2)  # tokens are read anew each second
    callers: dict[Any, str | None] = {
        None: None,
        **collector.tokens,
        "expired": expired,
        "revoked": revoked,
        "wrong": "lt_" + "x" * 49,
    }
    expected = {(method, path.replace(":path", "")): scopes for (method, path), scopes in EXPECTED.items()}
    paths = {path for _, path in expected} | {"/v1/nothing", "/docs", "/"}
    with httpx.Client(base_url=collector.address, trust_env=False) as client:
        for path in sorted(paths):
            address = re.sub(r"\{.*?\}", "0" * 64, path)
            for method in METHODS:
                needed = expected.get((method, path))
                of_path = [scopes for (_, other), scopes in expected.items() if other == path]
                for who, token in callers.items():
                    headers = {} if token is None else {"authorization": f"Bearer {token}"}
                    if path == "/v1/live" and method == "GET":
                        address = "/v1/live?run=none"
                    status = client.request(method, address, headers=headers).status_code
                    assert status != 500
                    what = (method, path, who, status)
                    if needed == {"public"} or {"public"} in of_path:
                        assert status == (200 if needed else 405), what
                    elif who not in ("ingest", "read", "admin"):
                        assert status in (401, 429), what
                    elif not of_path:
                        assert status == 404, what
                    elif needed is None:
                        # A method that the path does not have: refused, or forbidden to those who may not use the path at all.
                        assert status == 405 if who == "admin" else status in (403, 405), what
                    elif who == "admin" or who in needed:
                        assert status not in (401, 403, 405), what
                    else:
                        assert status == 403, what


def test_an_app_with_an_open_route_cannot_be_made() -> None:
    """A route that does not say who may use it stops the server before it starts; so does a mounted app."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/closed")
    @needs(Scope.ADMIN)
    def closed() -> None: ...

    assert [path for _, path, _ in AccessTable(app.routes)] == ["/closed"]
    app.mount("/other", FastAPI())
    with pytest.raises(Unscoped, match="/other does not say who may use it"):
        AccessTable(app.routes)


def test_openapi_documents_every_route(collector: Collector) -> None:
    """The document is OpenAPI 3.1, has every route but itself, and describes each."""
    document = collector.client("read").get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    told = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert told == {(method, path.replace(":path", "")) for method, path in EXPECTED} - {("GET", "/openapi.json")}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert len(operation["description"]) > 10, (method, path)
