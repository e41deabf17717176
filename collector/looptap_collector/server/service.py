"""What the routes share: the store, the intake, the artifacts and the measures of one server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from fastapi import Request

from looptap_collector.artifacts import ArtifactStore
from looptap_collector.artifacts.uploads import Uploads
from looptap_collector.backend import Backend, TooExpensive, Unavailable
from looptap_collector.server.access import Caller
from looptap_collector.server.errors import Refusal
from looptap_collector.server.intake import Intake
from looptap_collector.server.measures import Measures
from looptap_collector.server.shares import Shares

#: Questions of people that are worked on at once; others wait for their turn.
MOST_QUESTIONS = 3
#: Each asks the store once a second.
MOST_STREAMS = 64
#: Each holds a block in memory.
MOST_UPLOADS = 16
MOST_UNSENT_BYTES = 256 << 20
_Answer = TypeVar("_Answer")


@dataclass
class Service:
    """In ``app.state.service``."""

    backend: Backend
    intake: Intake
    measures: Measures
    has_login: bool
    artifacts: ArtifactStore
    uploads: Uploads
    #: By the names of tokens: live streams that are open, requests that bring a file, and bytes of answers not sent yet.
    streams: Shares = field(default_factory=lambda: Shares("live streams", MOST_STREAMS, retry_after=10))
    uploading: Shares = field(default_factory=lambda: Shares("uploads at once", MOST_UPLOADS, retry_after=2))
    unsent: Shares = field(default_factory=lambda: Shares("bytes of answers", MOST_UNSENT_BYTES, retry_after=2))
    #: The other threads are for agents, whatever people ask.
    questions: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MOST_QUESTIONS))


def service_of(request: Request) -> Service:
    service = request.app.state.service
    assert isinstance(service, Service)
    return service


def caller_of(request: Request) -> Caller:
    caller = request.scope["state"]["caller"]
    assert isinstance(caller, Caller)
    return caller


async def in_thread(question: Callable[..., _Answer], *arguments: object) -> _Answer:
    """Ask the store in a worker thread. Raises :class:`Refusal` when it cannot be used now."""
    try:
        return await asyncio.to_thread(question, *arguments)
    except TooExpensive as error:
        raise Refusal(422, "too_expensive", str(error), field="filter") from error
    except Unavailable as error:
        raise Refusal(503, "unavailable", "the store is not available now", retry_after=2) from error
