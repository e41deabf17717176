"""What an operator asks: does it live, may it get traffic, what does it do."""

from __future__ import annotations

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import Response

from looptap_collector.server import exposition
from looptap_collector.server.access import Scope, needs
from looptap_collector.server.service import in_thread, service_of

health = APIRouter(tags=["operation"])


@health.get("/healthz")
@needs(Scope.PUBLIC)
async def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@health.get("/readyz")
@needs(Scope.PUBLIC)
async def readyz(request: Request) -> dict[str, str]:
    """The store answers, too; otherwise 503, and a load balancer should ask another collector."""
    await in_thread(service_of(request).backend.position, "")
    return {"status": "ready"}


@health.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {
            "content": {
                "text/plain": {"schema": {"type": "string"}},
                "application/vnd.google.protobuf": {"schema": {"type": "string", "format": "binary"}},
            }
        }
    },
)
@needs(Scope.READ)
async def metrics(request: Request) -> Response:
    """Received, stored, duplicate and rejected batches, the queue, and how long things take; and what served models answered. For
    Prometheus: one that wants native histograms is given them."""
    measures = service_of(request).measures
    if exposition.wanted(request.headers.get("accept", "")):
        return Response(await in_thread(exposition.exposed, measures), media_type=exposition.MEDIA_TYPE)
    return Response(await in_thread(generate_latest, measures.registry), media_type=CONTENT_TYPE_LATEST)


@health.get("/openapi.json", include_in_schema=False)
@needs(Scope.READ)
async def openapi(request: Request) -> dict[str, object]:
    found: dict[str, object] = request.app.state.document()
    return found
