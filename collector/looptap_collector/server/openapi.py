"""The document of ``/openapi.json``: what FastAPI finds in the routes, and, for all of them in one place, the tokens they want, the
shape of their answers and the ways in which they refuse.

The shapes are those by which :mod:`looptap_collector.remote` reads the answers, so the document says what is relied upon.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from looptap.events import Artifact, Batch, Context, Dataset
from looptap_collector.exact import MEDIA_TYPE
from looptap_collector.profiles.shapes import Profile
from looptap_collector.remote.backend import Alerts, EdgeFields, Experiments, Position, UseFields, Uses
from looptap_collector.remote.shapes import Page, Record
from looptap_collector.remote.windows import ServedModels, Windows
from looptap_collector.server.access import AccessTable, Scope
from looptap_collector.serving.experiment import Experiment
from looptap_collector.serving.shapes import Report


class Error(msgspec.Struct):
    code: str
    message: str
    field: str | None
    hint: str | None


class Refused(msgspec.Struct):
    """``received``: where an upload goes on (409). ``position`` and ``text``: where a filter is wrong (422)."""

    error: Error
    received: int = 0
    position: int | None = None
    text: str | None = None


class Stored(msgspec.Struct):
    outcome: str


class Deleted(msgspec.Struct):
    deleted: str


class Received(msgspec.Struct):
    received: int


class Uploaded(Received):
    complete: bool


class Points(msgspec.Struct):
    run: str
    key: str
    context: Context
    count: int
    steps: list[int]
    times_ns: list[int]
    values: list[float]


class Histories(msgspec.Struct):
    histories: list[Points]


class Artifacts(msgspec.Struct):
    artifacts: list[Artifact]


class Models(msgspec.Struct):
    models: list[EdgeFields]
    next: int | None


class DatasetFields(Dataset, frozen=True, kw_only=True):
    version: str | None


class ComparedFields(msgspec.Struct):
    role: str
    name: str
    outcome: str
    fields: list[str]
    first: DatasetFields | None
    second: DatasetFields | None


class Comparison(msgspec.Struct):
    first: str
    second: str
    datasets: list[ComparedFields]


class Edges(msgspec.Struct):
    edges: list[EdgeFields]
    next: int | None


class Lineage(msgspec.Struct):
    runs: list[str]
    artifacts: list[str]
    edges: list[EdgeFields]
    datasets: list[UseFields]
    complete: bool


_UPLOAD = "/v1/artifacts/{digest}"
#: Shape of the JSON answers, by method, path and status.
_SHAPES: dict[tuple[str, str, int], type] = {
    ("post", "/v1/batches", 200): Stored,
    ("get", "/v1/journals/{journal}", 200): Position,
    ("get", f"{_UPLOAD}/upload", 200): Received,
    ("put", _UPLOAD, 201): Uploaded,
    ("put", _UPLOAD, 202): Uploaded,
    ("get", "/v1/experiments", 200): Experiments,
    ("get", "/v1/runs", 200): Page,
    ("get", "/v1/runs/{run}", 200): Record,
    ("delete", "/v1/runs/{run}", 200): Deleted,
    ("get", "/v1/runs/{run}/artifacts", 200): Artifacts,
    ("get", "/v1/runs/{run}/profile", 200): Profile,
    ("get", "/v1/histories", 200): Histories,
    ("get", "/v1/models", 200): Models,
    ("get", "/v1/datasets", 200): Uses,
    ("get", "/v1/datasets/comparison", 200): Comparison,
    ("get", "/v1/alerts", 200): Alerts,
    ("get", "/v1/windows", 200): Windows,
    ("get", "/v1/serving", 200): ServedModels,
    ("get", "/v1/serving/report", 200): Report,
    ("get", "/v1/serving/comparison", 200): Experiment,
    ("get", "/v1/edges", 200): Edges,
    ("get", "/v1/lineage", 200): Lineage,
}
#: What may be said to anybody, to those who need a token, and by some routes only.
_EVERYWHERE = (400, 403, 405, 421, 431, 503)
_WITH_TOKEN = (401, 404, 422, 429)
_MORE = {
    ("post", "/v1/batches"): (409, 413, 415),
    ("put", _UPLOAD): (409, 411, 413),
    ("get", _UPLOAD): (416,),
}
_MEANINGS = {
    400: "Not a valid request.",
    401: "No token, or one that is not known, expired or revoked.",
    403: "The token may not do this, the run is not its own, or a page of another site asks.",
    404: "There is no such thing.",
    405: "Not with this method.",
    409: "Stored with other content, or to be continued elsewhere (`received`).",
    411: "An upload tells its length.",
    413: "Too large.",
    415: "Not a media type or encoding that is known.",
    416: "There is no such range.",
    421: "This collector does not answer to that host name.",
    422: "Understood, and wrong: `field` says where.",
    429: "Too many wrong tokens, or too much at once; see `Retry-After`.",
    431: "The head of the request is too large.",
    503: "Not now; see `Retry-After`.",
}
_SCHEMA = "#/components/schemas/{name}"
_NUMBER = {
    "title": "Number",
    "description": "A double; what JSON has no number for is told as text.",
    "anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}],
}


def document(app: FastAPI, access: AccessTable) -> dict[str, Any]:
    """Made anew each time."""
    found: dict[str, Any] = get_openapi(title=app.title, version=app.version, routes=app.routes)
    shapes, components = msgspec.json.schema_components(_SHAPES.values(), ref_template=_SCHEMA)
    by_answer = dict(zip(_SHAPES, shapes, strict=True))
    (refused, batch), more = msgspec.json.schema_components([Refused, Batch], ref_template=_SCHEMA)
    scopes = {(method.lower(), path.replace(":path", "")): marks for method, path, marks in access}
    for path, operations in found["paths"].items():
        for method, operation in operations.items():
            marks = scopes[method, path]
            operation["security"] = _security(marks)
            # FastAPI makes it of the name of a function.
            operation["summary"] = (
                operation["description"].replace("`", "").partition(". ")[0].partition("\n")[0].rstrip(".")
            )
            answers = operation["responses"]
            answers.pop("422", None)  # FastAPI's own shape, which we never answer
            for status, answer in answers.items():
                if (shape := by_answer.get((method, path, int(status)))) is not None:
                    content = answer.setdefault("content", {})
                    content.setdefault("application/json", {})["schema"] = shape
                    content.setdefault(MEDIA_TYPE, {"schema": {"type": "string", "format": "binary"}})
            for status in sorted({*_EVERYWHERE, *_asked_of(marks), *_MORE.get((method, path), ())}):
                answers[str(status)] = {"$ref": f"#/components/responses/{status}"}
    body = found["paths"]["/v1/batches"]["post"]["requestBody"]
    body["content"] = {MEDIA_TYPE: {"schema": batch}}
    found["components"] = {
        "schemas": {name: _as_answered(schema) for name, schema in (components | more).items()} | {"Number": _NUMBER},
        "responses": {
            str(status): {"description": meaning, "content": {"application/json": {"schema": refused}}}
            for status, meaning in _MEANINGS.items()
        },
        "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "lt_…"}},
    }
    return found


def _asked_of(marks: Iterable[Scope]) -> tuple[int, ...]:
    return () if Scope.PUBLIC in marks else _WITH_TOKEN


def _security(marks: Iterable[Scope]) -> list[dict[str, list[str]]]:
    """One of these scopes is enough; ``admin`` always is."""
    return (
        [{"token": [scope]} for scope in sorted({mark.value for mark in marks} | {"admin"})] if _asked_of(marks) else []
    )


def _as_answered(schema: Any) -> Any:
    """A schema of msgspec as our JSON is: without the tags of the journal's records, and numbers may be told as text."""
    if isinstance(schema, list):
        return [_as_answered(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("type") == "number":
        return {"$ref": _SCHEMA.format(name="Number")}
    told = {name: _as_answered(item) for name, item in schema.items()}
    if "enum" in told.get("properties", {}).get("type", {}):
        del told["properties"]["type"]
        told["required"] = [name for name in told.get("required", ()) if name != "type"]
    return told
