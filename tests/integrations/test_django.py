"""A real Django project behind real servers of both kinds: what is noted, and that the answers are the same to the last byte."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.serving.servers import ask, free_port, server
from programs import Programs, assert_conserved

PROJECT = """
import asyncio
import json
import os
import django
from django.conf import settings
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import include, path, re_path

settings.configure(
    ROOT_URLCONF=__name__,
    SECRET_KEY="test",
    ALLOWED_HOSTS=["*"],
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    LOGGING_CONFIG=None,
)
django.setup()

def double(rows):
    return [row * 2 for row in rows]

model = double
if "PLAIN" not in os.environ:
    import looptap
    model = looptap.watch(double, version="7")

def predict(request, user):
    return JsonResponse({"user": user, "rows": model(json.loads(request.body))})

async def later(request):
    await asyncio.sleep(0)
    return JsonResponse({"rows": model([1.0])})

def fails(request):
    raise ZeroDivisionError

def refuses(request):
    return HttpResponse("busy", status=503)

def stream(request):
    return StreamingHttpResponse(str(model([number])) for number in range(5))

inner = ([re_path(r"^(?P<name>[a-z]+)/$", lambda request, name: HttpResponse(f"hello {name}"))], "inner")
urlpatterns = [
    path("predict/<int:user>", predict),
    path("later", later),
    path("fails", fails),
    path("refuses", refuses),
    re_path("^stream$", stream),
    path("inner/", include(inner)),
]

from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
wsgi, asgi = get_wsgi_application(), get_asgi_application()
"""
REQUESTS: list[tuple[Any, ...]] = [
    ("POST", "/predict/7", b"[1.5, 2.5]"),
    ("POST", "/predict/8", b"[]"),
    ("GET", "/later"),
    ("GET", "/fails"),
    ("GET", "/refuses"),
    ("GET", "/stream"),
    ("GET", "/inner/you/"),
    ("GET", "/nowhere"),
    ("HEAD", "/later"),
]
#: How often each was asked, and how often that went wrong.
ENDPOINTS = {
    "POST /predict/<int:user>": (2, 0),
    "GET /later": (1, 0),
    "GET /fails": (1, 1),
    "GET /refuses": (1, 1),
    "GET /stream$": (1, 0),
    "GET /inner/(?P<name>[a-z]+)/$": (1, 0),
    "GET unmatched": (1, 1),
    "HEAD /later": (1, 0),
}
SERVERS = {
    "wsgi": "gunicorn project:wsgi --log-level critical --bind 127.0.0.1:{port}",
    "asgi": "uvicorn project:asgi --log-level critical --port {port}",
}


def answers(programs: Programs, words: list[str], **more: str) -> list[list[bytes]]:
    """Line by line, without what differs from time to time: the date."""
    port = free_port()
    with server(programs, [word.format(port=port) for word in words], port, **more) as process:
        found = [ask(port, *request).split(b"\r\n") for request in REQUESTS]
        process.terminate()
        process.wait(30)
    return [[line for line in answer if not line.lower().startswith(b"date:")] for answer in found]


@pytest.mark.parametrize("kind", SERVERS)
def test_requests(programs: Programs, kind: str) -> None:
    """Each is counted under its route."""
    programs.script(PROJECT, "project.py")
    words = ["-m", *SERVERS[kind].split()]
    expected = answers(programs, words, PLAIN="1")
    assert [answer[0].split()[1] for answer in expected] == [
        *(b"200", b"200", b"200", b"500", b"503", b"200", b"200", b"404", b"200")
    ]
    assert answers(programs, ["-m", "looptap", "run", "--serving", *words]) == expected
    (run,) = programs.runs()
    assert (run["kind"], run["status"]) == ("serving", "finished")
    assert_conserved(programs.record(run["id"]))
    found: dict[str, tuple[int, int]] = {}
    errors: dict[str, int] = {}
    for name in ("", "double"):
        (version,) = json.loads(programs.looptap("serving", name, "--json").stdout)["versions"]
        for endpoint, one in version["endpoints"].items():
            found[endpoint] = one["requests"], one["errors"]
        errors |= version["errors"]
    assert found == ENDPOINTS
    assert errors == {"HTTP 404": 1, "HTTP 503": 1, "ZeroDivisionError": 1}
