"""Starlette, and what is built on it: FastAPI, BentoML, Ray Serve, LitServe, Gradio, vLLM's server."""

from __future__ import annotations

from typing import ClassVar

from starlette.applications import Starlette

from looptap.integration import Capture, Integration
from looptap.patching import Patcher
from looptap.recorder import Recorder


class StarletteIntegration(Integration):
    requires = "starlette>=0.27"
    captures = (
        Capture(
            "requests of a server: latency and its parts, errors by class, requests under way, by route; with serving=True",
            "Starlette.__call__",
            "each request",
            "serving.asgi",
        ),
    )
    not_captured: ClassVar[tuple[str, ...]] = ("WebSocket connections",)

    def install(self, patch: Patcher, record: Recorder) -> None:
        from looptap.serving.asgi import noted  # programs that only train have no time for it

        # The stack of middlewares is inside of it, with what FastAPI does to it.
        patch.wrap(Starlette, "__call__", noted)
