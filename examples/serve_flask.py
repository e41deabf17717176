"""Trains a small classifier, serves it with Flask in two processes of gunicorn, and asks it: first as in training, then otherwise.

    python examples/serve_flask.py

Takes about a minute. The application is loaded once, before gunicorn forks (``--preload``); each process records what it answers.
"""

from __future__ import annotations

import subprocess
import sys

import torch
from flask import Flask, request
from serving_model import WEIGHTS, network, show, train  # type: ignore[import-not-found]  # it lies beside this file

import looptap


def application() -> Flask:
    """What an ordinary service looks like, and two lines."""
    looptap.autolog(serving=True)
    torch.set_num_threads(1)  # its threads do not survive a fork
    model = network()
    model.load_state_dict(torch.load(WEIGHTS))
    model = looptap.watch(model.eval(), name="intent")
    app = Flask(__name__)

    @app.get("/health")
    def health() -> str:
        return "ok"

    @app.post("/predict")
    def predict() -> dict[str, list[int]]:
        with torch.no_grad():
            return {"wants": model(torch.tensor(request.json)).argmax(1).tolist()}

    return app


def main(port: int = 8766) -> None:
    subprocess.run([sys.executable, __file__, "train"], check=True)
    app = ["serve_flask:application()", "--pythonpath", sys.path[0], "--preload", "--workers", "2"]
    server = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", *app, "--bind", f"127.0.0.1:{port}", "--log-level", "warning"]
    )
    try:
        show(server, port)
    finally:
        server.kill()


if __name__ == "__main__":
    if sys.argv[1:] == ["train"]:
        train()
    else:
        main(*map(int, sys.argv[1:]))
