"""Trains a small classifier, serves it with FastAPI, and asks it: first as in training, then otherwise.

    python examples/serve_fastapi.py

Takes about a minute. The drift is told by the server while it happens, with the version of the model and the run that trained it.
"""

from __future__ import annotations

import subprocess
import sys

import torch
from fastapi import FastAPI
from serving_model import WEIGHTS, network, show, train  # type: ignore[import-not-found]  # it lies beside this file

import looptap


def application() -> FastAPI:
    """What an ordinary service looks like, and two lines."""
    looptap.autolog(serving=True)
    model = network()
    model.load_state_dict(torch.load(WEIGHTS))
    model = looptap.watch(model.eval(), name="intent")
    app = FastAPI()

    @app.get("/health")
    def health() -> str:
        return "ok"

    @app.post("/predict")
    def predict(rows: list[list[float]]) -> dict[str, list[int]]:
        with torch.no_grad():
            return {"wants": model(torch.tensor(rows)).argmax(1).tolist()}

    return app


def main(port: int = 8765) -> None:
    subprocess.run([sys.executable, __file__, "train"], check=True)
    app = ["--factory", "serve_fastapi:application", "--app-dir", sys.path[0]]
    server = subprocess.Popen([sys.executable, "-m", "uvicorn", *app, "--port", str(port), "--log-level", "warning"])
    try:
        show(server, port)
    finally:
        server.kill()


if __name__ == "__main__":
    if sys.argv[1:] == ["train"]:
        train()
    else:
        main(*map(int, sys.argv[1:]))
