"""Calls that are kept, from a request to the command that shows them; of secrets nothing is written anywhere."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

from agent.serving.servers import ask, free_port, server, until
from agent.serving.test_programs import uvicorn
from programs import Programs, assert_conserved

APP = """
import numpy as np
import torch
from fastapi import FastAPI, Request
import looptap

app = FastAPI()
torch.manual_seed(0)
net = looptap.watch(torch.nn.Linear(3, 2).eval(), name="net")

class Asked:
    def __init__(self, body):
        self.body = body
    def __repr__(self):
        raise SystemExit("it was asked for its text")

def classify(question, session, api_key, table, held):
    question["changed"] = True
    return {"label": "shipping", "held": held, **({"echo": question} if question.get("echo") else {})}

intent = looptap.watch(classify, name="intent", version="7")
count = looptap.watch(lambda rows: int(rows.sum()), name="count", inputs=1.0)

@app.post("/classify")
async def classify_it(request: Request):
    body = await request.json()
    found = intent(body, list(request.headers.items()), "SECRET-positional", np.array([body["long"]]), Asked(body))
    return {"label": found["label"], "changed": body["changed"]}

@app.post("/net")
def ask_net(rows: list[list[float]]):
    with torch.no_grad():
        scores = net(torch.tensor(rows))
    return {"scores": scores.tolist(), "count": count(np.array(rows)), "id": looptap.prediction_id()}
"""
GITHUB = "ghp_" + "Zz9" * 12
BODY: dict[str, Any] = {
    "text": "canary-question",
    "password": "SECRET-password",
    "nested": [{"deep": {"dbPassword": ["SECRET-list"], "note": f"use {GITHUB} please"}}],
    "url": "https://me:SECRETuser@host/path?api_key=SECRETquery&page=2",
    "long": "x" * 1_990 + " " + GITHUB,
    GITHUB: "canary-key",
}
HEADERS = "Content-Type: application/json\r\nAuthorization: Bearer SECRET-header\r\nX-Api-Key: SECRET-api-key\r\n"


def post(port: int, path: str, body: Any) -> Any:
    answer = ask(port, "POST", path, json.dumps(body).encode(), HEADERS)
    head, _, told = answer.partition(b"\r\n\r\n")
    assert b" 200 " in head.split(b"\r\n")[0], answer
    return json.loads(told)


def written(programs: Programs) -> bytes:
    """All that is in the store and beside it."""
    places = [programs.store, programs.folder / "state"]
    files = [path for place in places for path in place.rglob("*") if path.is_file()]
    return b"".join(path.read_bytes() for path in files)


def examples(programs: Programs, name: str) -> list[Any]:
    told = programs.looptap("serving", name, "--inputs", "--json")
    assert told.returncode == 0, told.stderr
    found: list[Any] = json.loads(told.stdout)["examples"]
    return found


def assert_no_secret(where: bytes) -> None:
    for secret in (b"SECRET", b"ghp_", b"Zz9Zz9"):
        at = where.find(secret)
        assert at < 0, where[max(0, at - 100) : at + 50]


def test_from_a_request_to_the_command(programs: Programs) -> None:
    """The answers are those of the application, what was asked is in the store, and no byte of a secret, whatever it was in."""
    programs.script(APP, "app.py")
    port = free_port()
    with server(programs, uvicorn(port), port, LOOPTAP_SERVING_INPUTS="1") as process:
        assert post(port, "/classify", BODY | {"echo": True}) == {"label": "shipping", "changed": True}
        answered = post(port, "/net", [[1.0, 2.0, 3.0]])
        process.terminate()
        process.wait(30)
    (run,) = programs.runs()
    assert_conserved(programs.record(run["id"]))
    kept = written(programs)
    assert b"canary-question" in kept
    assert_no_secret(kept)
    (intent,) = examples(programs, "intent")
    question = intent["asked"]["question"]
    assert (intent["version"], intent["endpoint"], intent["run"]) == ("7", "POST /classify", run["id"])
    assert (question["text"], question["password"]) == ("canary-question", "[redacted]")
    assert "changed" not in question
    assert intent["answer"]["echo"] == question | {"changed": True}
    assert question["nested"] == [{"deep": {"dbPassword": "[redacted]", "note": "use [redacted] please"}}]
    assert question["[redacted]"] == "canary-key"
    assert ["authorization", "[redacted]"] in intent["asked"]["session"]
    assert intent["asked"]["api_key"] == "[redacted]"
    assert intent["asked"]["held"] == "app.Asked"
    (net,) = examples(programs, "net")
    assert net["asked"] == {"input": {"shape": [1, 3], "dtype": "float32", "values": [1.0, 2.0, 3.0]}}
    assert net["answer"]["values"] == answered["scores"][0]
    (count,) = examples(programs, "count")
    assert (count["answer"], count["ids"], count["endpoint"]) == (6, [answered["id"]], "POST /net")
    shown = programs.looptap("serving", "intent", "--inputs")
    assert "canary-question" in shown.stdout
    assert_no_secret(shown.stdout.encode())


def test_nothing_is_kept_without_a_word(programs: Programs) -> None:
    programs.script(APP, "app.py")
    port = free_port()
    with server(programs, uvicorn(port), port) as process:
        post(port, "/classify", BODY)
        process.terminate()
        process.wait(30)
    assert len(programs.runs()) == 1
    kept = written(programs)
    assert b"POST /classify" in kept
    assert b"canary-question" not in kept
    assert examples(programs, "intent") == []


def test_a_server_that_is_killed(programs: Programs) -> None:
    """What was beside its journal is there; no secret has been anywhere on the disk."""
    programs.script(APP, "app.py")
    port = free_port()
    with server(programs, uvicorn(port), port, LOOPTAP_SERVING_INPUTS="1") as process:
        for _ in range(30):
            post(port, "/classify", BODY)
        journal = programs.folder / "state" / "looptap" / "journal"
        place: Path = until(lambda: next(iter(journal.glob("*/beside.windows")), None))
        counted = place.stat().st_mtime_ns
        # Written again after the last answer, with everything in it.
        until(lambda: not place.exists() or place.stat().st_mtime_ns > counted)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)
    assert_no_secret(written(programs))
    found = examples(programs, "intent")
    assert 20 <= len(found) <= 30  # of one window, or of the two that they fell into
    assert {one["asked"]["question"]["text"] for one in found} == {"canary-question"}
    assert_no_secret(written(programs))


def test_a_function_by_itself(programs: Programs) -> None:
    """Without a server: ten thousand calls, twenty of them in each window."""
    code = """
import looptap
looptap.autolog(serving=True, serving_inputs=1.0)

def double(number):
    return number * 2

model = looptap.watch(double)
for number in range(10_000):
    model(number)
"""
    done = programs.python(code)
    assert done.returncode == 0, done.stderr
    told = json.loads(programs.looptap("serving", "double", "--json").stdout)
    assert [one["requests"] for one in told["versions"]] == [10_000]
    found = examples(programs, "double")
    assert 20 <= len(found) <= 60
    assert len(found) % 20 == 0
    assert all(one["answer"] == 2 * one["asked"]["number"] for one in found)
    assert {(one["model"], one["version"], one["endpoint"]) for one in found} == {("double", None, "")}


def test_a_wrong_share_of_the_environment(programs: Programs) -> None:
    """Is said in one line, and keeps nothing."""
    code = "import looptap\nlooptap.autolog(serving=True)\nlooptap.watch(abs)(-3)"
    done = programs.python(code, LOOPTAP_SERVING_INPUTS="all")
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if "SERVING_INPUTS" in line]
    assert len(said) == 1
    assert said[0].endswith("serving_inputs = 'all' was left out: expected a share of the calls, from 0 to 1")
    assert examples(programs, "abs") == []
