"""The whole server as one ASGI app."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import cache

from fastapi import FastAPI

from looptap_collector import liveness
from looptap_collector.artifacts import ArtifactStore
from looptap_collector.artifacts.uploads import Uploads
from looptap_collector.backend import Backend
from looptap_collector.liveness import mark_lost
from looptap_collector.pipeline import Pipeline
from looptap_collector.server.access import AccessTable
from looptap_collector.server.alerts import alerts
from looptap_collector.server.datasets import datasets
from looptap_collector.server.errors import speak_with_one_voice
from looptap_collector.server.files import files
from looptap_collector.server.gate import Gate
from looptap_collector.server.health import health
from looptap_collector.server.histories import histories
from looptap_collector.server.hosts import LOOPBACK_HOSTS
from looptap_collector.server.intake import Intake
from looptap_collector.server.lineage import lineage
from looptap_collector.server.live import live
from looptap_collector.server.measures import Measures
from looptap_collector.server.models import models
from looptap_collector.server.openapi import document
from looptap_collector.server.profiles import profiles
from looptap_collector.server.receive import receiving
from looptap_collector.server.runs import runs
from looptap_collector.server.service import Service
from looptap_collector.server.tokens import REFRESH_SECONDS, Keyring
from looptap_collector.server.upkeep import Chore, Upkeep, compact_ended
from looptap_collector.server.windows import windows

_LIVENESS_SECONDS = 5.0
_COMPACTION_SECONDS = 2.0
_SWEEP_SECONDS = 3_600.0
#: A store that has years of short windows gets a part of the time, so that agents do not wait.
_MERGING_SECONDS, _MERGED_WITHIN_SECONDS = 30.0, 3.0


def create_app(
    backend: Backend,
    artifacts: ArtifactStore,
    uploads: Uploads,
    *,
    keyring: Keyring | None,
    hosts: Iterable[str] = (),
    writers: int = 1,
) -> FastAPI:
    """A collector over one store, which it closes when it ends. ``keyring`` None asks nobody for a token. ``hosts``: names
    beside those of loopback that it answers to. ``writers``: commits at the same time."""
    measures = Measures()
    intake = Intake(Pipeline(backend), measures, writers=writers)
    # Nobody could tell us that he lives while we were away: at first there is nothing to see in that.
    listening = time.monotonic() + liveness.SILENT_SECONDS
    chores = [
        Chore("marking silent runs", _LIVENESS_SECONDS, lambda: mark_lost(backend, ()), due=listening),
        Chore("forgetting old uploads", _SWEEP_SECONDS, uploads.sweep),
    ]
    compaction = Chore("compacting runs that ended", _COMPACTION_SECONDS, lambda: compact_ended(backend, intake.ended))
    merging = Chore(
        "merging old windows", _MERGING_SECONDS, lambda: backend.merge_windows(within_s=_MERGED_WITHIN_SECONDS)
    )
    if keyring is not None:
        chores.append(Chore("refreshing tokens", REFRESH_SECONDS, keyring.refresh))

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        # Both take their time; tokens must not wait for it.
        threads = [Upkeep(chores), Upkeep([compaction, merging])]
        intake.start()
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            for thread in threads:
                thread.stop()
            intake.close()
            backend.close()

    app = FastAPI(
        title="looptap collector", version="1", docs_url=None, redoc_url=None, openapi_url=None, lifespan=life
    )
    app.state.service = Service(backend, intake, measures, keyring is not None, artifacts, uploads)
    # Lineage and profiles before runs, where /v1/runs/{run} takes all that follows: a name may have slashes.
    for router in (
        receiving,
        files,
        lineage,
        profiles,
        datasets,
        alerts,
        windows,
        models,
        runs,
        histories,
        live,
        health,
    ):
        # Not include_router: it may hide the routes behind an object of its own, and each must show its mark.
        app.router.routes.extend(router.routes)
    speak_with_one_voice(app)
    app.state.access = access = AccessTable(app.routes)
    app.state.document = cache(lambda: document(app, access))
    allowed = {*LOOPBACK_HOSTS, *(host.lower() for host in hosts)}
    app.add_middleware(Gate, access=access, keyring=keyring, hosts=allowed, measures=measures)
    return app
