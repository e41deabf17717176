"""Models behind the servers that are made for them, started as their users start them: what they answer is counted once, in the
process that the model answers in. A row of its own (.ci/matrix), since ``make test`` has none of these packages."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from agent.serving.servers import ask, free_port, server, until
from programs import Programs

#: Answers a row with itself, and with the number of its process.
MODEL = """
import os
import numpy as np
import looptap

def scale(rows):
    return rows @ np.eye(2)

def watched():
    return looptap.watch(scale, name="scale", version="7")

def answered(model, rows):
    if rows == [[13.0, 13.0]]:
        raise ValueError(13)
    return {"rows": model(np.asarray(rows)).tolist(), "pid": os.getpid()}
"""
LITSERVE = """
import sys
import litserve
from model import answered, watched

class API(litserve.LitAPI):
    def setup(self, device):
        self.model = watched()
    def decode_request(self, request):
        return request["rows"]
    def predict(self, rows):
        return answered(self.model, rows)
    def encode_response(self, output):
        return output

if __name__ == "__main__":
    server = litserve.LitServer(API(), accelerator="cpu", workers_per_device=2)
    server.run(port=int(sys.argv[1]), num_api_servers=1, generate_client_file=False, log_level="error")
"""
BENTOML = """
import bentoml
from model import answered, watched

@bentoml.service(workers=2)
class Scale:
    def __init__(self):
        self.model = watched()
    @bentoml.api
    def predict(self, rows: list[list[float]]) -> dict:
        return answered(self.model, rows)
"""
GRADIO = """
import sys
import gradio
from model import answered, watched
model = watched()
demo = gradio.Interface(lambda rows: answered(model, rows), "json", "json", api_name="predict")
if __name__ == "__main__":
    demo.launch(server_port=int(sys.argv[1]), quiet=True)
"""
RAY = """
import signal, sys
import ray
from fastapi import FastAPI
from ray import serve
from model import answered, watched
app = FastAPI()

@serve.deployment(num_replicas=2, ray_actor_options={"num_cpus": 0.1})
@serve.ingress(app)
class Scale:
    def __init__(self):
        self.model = watched()
    @app.post("/predict")
    def predict(self, rows: list[list[float]]):
        return answered(self.model, rows)

def leave(*_):
    raise SystemExit

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, leave)
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100 * 2**20, log_to_driver=False)
    serve.start(http_options={"port": int(sys.argv[1])})
    serve.run(Scale.bind(), route_prefix="/")
    try:
        signal.pause()
    finally:
        serve.shutdown()
        ray.shutdown()
"""
#: Of a framework, beside those of ours: it is to call nobody.
QUIET = {"GRADIO_ANALYTICS_ENABLED": "False", "BENTOML_DO_NOT_TRACK": "true", "RAY_USAGE_STATS_ENABLED": "0"}


@contextmanager
def serving(programs: Programs, app: str, *words: str, stop: signal.Signals = signal.SIGTERM) -> Iterator[int]:
    """``looptap run --serving WORDS``, with ``PORT`` replaced; gives the port, and stops the server as its user does."""
    programs.script(MODEL, "model.py")
    programs.script(app, "app.py")
    port = free_port()
    given = [str(port) if word == "PORT" else word for word in words]
    more = {**QUIET, "BENTOML_HOME": str(programs.folder / "bento"), "PYTHONPATH": str(programs.folder)}
    with server(programs, ["-m", "looptap", "run", "--serving", *given], port, **more) as process:
        yield port
        process.send_signal(stop)
        process.wait(60)


def post(port: int, path: str, value: Any) -> Any:
    """What it answers; None for an error of the server's."""
    answer = ask(port, "POST", path, json.dumps(value).encode(), "Content-Type: application/json\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\r\n")[0]:
        return None
    return json.loads(body[body.index(b"{") : body.rindex(b"}") + 1])


def told(programs: Programs, model: str) -> Any:
    """The only version of it; ``""`` for requests that asked no model."""
    shown = programs.looptap("serving", model, "--json")
    assert shown.returncode == 0, shown.stderr
    (version,) = json.loads(shown.stdout)["versions"]
    return version


def asked(port: int, path: str, question: Any) -> set[int]:
    """Twenty times, and twice what fails; gives the processes that have answered."""
    until(lambda: post(port, path, question([[1.0, 2.0]])))  # it listens before its workers can answer
    pids = set()
    for _ in range(19):
        answer = post(port, path, question([[1.0, 2.0]]))
        assert answer["rows"] == [[1.0, 2.0]]
        pids.add(answer["pid"])
    assert [post(port, path, question([[13.0, 13.0]])) for _ in range(2)] == [None, None]
    return pids


def test_litserve(programs: Programs) -> None:
    """Its workers ask the model, and its front answers: each counts what it does."""
    with serving(programs, LITSERVE, "app.py", "PORT", stop=signal.SIGINT) as port:
        pids = asked(port, "/predict", lambda rows: {"rows": rows})
        time.sleep(2.5)  # it kills its workers, and what one counts is safe after a second
    version = told(programs, "scale")
    assert (version["requests"], version["errors"]) == (20, {})
    assert version["replicas"] >= len(pids)
    assert set(version["endpoints"]) == {""}
    front = told(programs, "")
    assert front["endpoints"]["POST /predict"]["requests"] >= 22
    assert front["endpoints"]["POST /predict"]["errors"] >= 2


def test_bentoml(programs: Programs) -> None:
    with serving(programs, BENTOML, "-m", "bentoml", "serve", "app:Scale", "--port", "PORT") as port:
        pids = asked(port, "/predict", lambda rows: {"rows": rows})
    version = told(programs, "scale")
    assert (version["requests"], version["errors"]) == (20, {})
    assert version["replicas"] >= len(pids)
    assert set(version["endpoints"]) == {"POST /predict"}
    assert {"before", "model", "after"} <= set(version["latency"])
    assert told(programs, "")["errors"] == {"HTTP 500": 2}
    assert {run["status"] for run in programs.runs()} == {"finished"}


def test_ray_serve(programs: Programs) -> None:
    """In its replicas; what Ray asks itself is nobody's request."""
    with serving(programs, RAY, "app.py", "PORT") as port:
        pids = asked(port, "/predict", lambda rows: rows)
    version = told(programs, "scale")
    assert (version["requests"], version["errors"]) == (20, {})
    assert version["replicas"] >= len(pids)
    assert set(version["endpoints"]) == {"POST /predict"}
    failed = told(programs, "")
    assert (failed["requests"], failed["errors"]) == (2, {"ValueError": 2})


def test_gradio(programs: Programs) -> None:
    """Its queue asks the model, in no request that is under way."""
    with serving(programs, GRADIO, "app.py", "PORT", stop=signal.SIGINT) as port:

        def event(rows: Any) -> Any:
            begun = post(port, "/gradio_api/call/predict", {"data": [rows]})
            return ask(port, "GET", f"/gradio_api/call/predict/{begun['event_id']}")

        for _ in range(20):
            assert b"event: complete" in event([[1.0, 2.0]])
        assert b"event: error" in event([[13.0, 13.0]])
    version = told(programs, "scale")
    assert (version["requests"], version["errors"], version["replicas"]) == (20, {}, 1)
    front = told(programs, "")["endpoints"]
    assert front["POST /gradio_api/call/{api_name}"]["requests"] == 21


@pytest.fixture
def programs(programs: Programs) -> Programs:
    """Ray's first start takes its time."""
    programs.seconds = 240
    return programs
