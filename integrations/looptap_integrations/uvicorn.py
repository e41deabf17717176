"""uvicorn: the end of a server, which it announces to applications with a lifespan only. Then it ends its process by the signal
that it was sent, and nothing of ours runs any more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from uvicorn.server import Server

from looptap.integration import Capture, Integration
from looptap.patching import Patcher
from looptap.recorder import Recorder
from looptap.session import SESSION


class UvicornIntegration(Integration):
    requires = "uvicorn>=0.23"
    captures = (Capture("the end of a run of kind serving", "Server.shutdown", "once a run"),)

    def install(self, patch: Patcher, record: Recorder) -> None:
        patch.wrap(Server, "shutdown", _ending)


def _ending(call: Callable[..., Any]) -> Callable[..., Any]:
    async def shutdown(*args: Any, **kwargs: Any) -> None:
        await call(*args, **kwargs)
        with SESSION.serving.guard:
            SESSION.end_serving()

    return shutdown
