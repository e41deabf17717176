"""Servers as their users start them, really killed, forked and stopped: what they answered is in the store."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

import pytest

from agent.serving.servers import ask, free_port, server, until
from programs import Programs, assert_conserved

APP = """
import os
from fastapi import FastAPI
import looptap
app = FastAPI()

def double(rows):
    return [row * 2 for row in rows]

model = looptap.watch(double, version="7")

@app.post("/predict/{user}")
def predict(user: int, rows: list[float]):
    if user == 13:
        raise ValueError(user)
    return {"rows": model(rows), "pid": os.getpid()}
"""
FLASK = """
import os
from flask import Flask, request
import looptap
looptap.autolog(serving=True)
app = Flask(__name__)

def double(rows):
    return [row * 2 for row in rows]

model = looptap.watch(double, version="7")

@app.post("/predict/<int:user>")
def predict(user):
    return {"rows": model(request.json), "pid": os.getpid()}
"""


def predict(port: int, user: int) -> Any:
    answer = ask(port, "POST", f"/predict/{user}", b"[1.5]", "Content-Type: application/json\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    return json.loads(body) if b" 200 " in head.split(b"\r\n")[0] else None


def serving(programs: Programs, name: str = "double") -> Any:
    told = programs.looptap("serving", name, "--json")
    assert told.returncode == 0, told.stderr
    return json.loads(told.stdout)


def uvicorn(port: int) -> list[str]:
    return [
        "-m",
        "looptap",
        "run",
        "--serving",
        "-m",
        "uvicorn",
        "app:app",
        "--port",
        str(port),
        "--log-level",
        "error",
    ]


def test_looptap_run_serving(programs: Programs) -> None:
    """Nothing in the program but one watched model; every request is counted, with its route and its error."""
    programs.script(APP, "app.py")
    port = free_port()
    with server(programs, uvicorn(port), port) as process:
        for user in range(20):
            predict(port, user)
        process.terminate()
        process.wait(30)
    (run,) = programs.runs()
    assert (run["kind"], run["status"]) == ("serving", "finished")
    assert_conserved(programs.record(run["id"]))
    (version,) = serving(programs)["versions"]
    assert (version["version"], version["requests"]) == ("7", 19)
    asked = json.loads(programs.looptap("serving", "", "--json").stdout)
    assert asked["versions"][0]["errors"] == {"ValueError": 1}
    assert "POST /predict/{user}" in json.dumps(asked)


def test_a_server_that_is_killed(programs: Programs) -> None:
    """What it had counted until a second before is found and counted once, by whoever looks first; twice changes nothing."""
    programs.script(APP, "app.py")
    port = free_port()
    with server(programs, uvicorn(port), port) as process:
        for _ in range(30):
            predict(port, 1)
        journal = programs.folder / "state" / "looptap" / "journal"
        place = until(lambda: next(iter(journal.glob("*/beside.windows")), None))
        counted = place.stat().st_mtime_ns
        # Written again after the last answer, with everything in it.
        until(lambda: not place.exists() or place.stat().st_mtime_ns > counted)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)
    (run,) = programs.runs()
    assert run["status"] == "killed"
    assert [one["requests"] for one in serving(programs)["versions"]] == [30]
    assert [one["requests"] for one in serving(programs)["versions"]] == [30]
    assert_conserved(programs.record(run["id"]))
    assert list(journal.iterdir()) == []


def test_a_preloaded_application_whose_worker_is_killed(programs: Programs) -> None:
    """Gunicorn imports it once and forks; a worker that dies is replaced, and what each has answered is there."""
    programs.script(FLASK, "app.py")
    port = free_port()
    words = [
        "-m",
        "gunicorn",
        "app:app",
        "--preload",
        "--workers",
        "2",
        "--bind",
        f"127.0.0.1:{port}",
        "--log-level",
        "error",
    ]
    with server(programs, words, port) as process:
        pids: dict[int, int] = {}

        def both() -> bool:
            answer = predict(port, 1)
            pids[answer["pid"]] = pids.get(answer["pid"], 0) + 1
            return len(pids) == 2

        until(both)
        victim = next(iter(pids))
        time.sleep(2.5)  # what a worker counts is safe after a second
        os.kill(victim, signal.SIGKILL)

        def third() -> bool:
            answer = predict(port, 2)
            pids[answer["pid"]] = pids.get(answer["pid"], 0) + 1
            return len(pids) == 3

        until(third)
        process.terminate()
        process.wait(30)
    assert process.pid not in pids
    found = serving(programs)["versions"]
    assert [(one["version"], one["requests"], one["replicas"]) for one in found] == [("7", sum(pids.values()), 3)]
    assert set(found[0]["endpoints"]) == {"POST /predict/<int:user>"}


def test_a_collector_that_is_away(programs: Programs) -> None:
    """The server answers, and what it has counted waits."""
    programs.script(APP, "app.py")
    port = free_port()
    away = f"http://127.0.0.1:{free_port()}"
    with server(programs, uvicorn(port), port, LOOPTAP_STORE=away) as process:
        assert predict(port, 1)["rows"] == [3.0]
        time.sleep(1)
        process.terminate()
        process.wait(30)
    delivered = programs.looptap("sync", "--to", str(programs.store))
    assert delivered.returncode == 0, delivered.stderr
    assert [one["requests"] for one in serving(programs)["versions"]] == [1]


@pytest.mark.parametrize("workers", [2])
def test_spawned_workers(programs: Programs, workers: int) -> None:
    """Of uvicorn: each imports the application by itself."""
    programs.script("import looptap\nlooptap.autolog(serving=True)\n" + APP, "app.py")
    port = free_port()
    words = ["-m", "uvicorn", "app:app", "--port", str(port), "--workers", str(workers), "--log-level", "error"]
    with server(programs, words, port) as process:
        pids = {until(lambda: predict(port, 1))["pid"] for _ in range(40)}
        process.terminate()
        process.wait(30)
    (version,) = serving(programs)["versions"]
    assert version["requests"] == 40
    assert version["replicas"] == len(pids)


def test_spawned_workers_of_looptap_run(programs: Programs) -> None:
    """The application says nothing of looptap but for its model: each worker counts the requests by route, in the store that was
    typed."""
    programs.script(APP, "app.py")
    port = free_port()
    words = [*uvicorn(port), "--workers", "2"]
    words[3:3] = ["--store", "typed"]
    with server(programs, words, port, LOOPTAP_STORE="") as process:
        pids = {until(lambda: predict(port, 1))["pid"] for _ in range(40)}
        process.terminate()
        process.wait(30)
    told = programs.looptap("serving", "double", "--json", LOOPTAP_STORE=str(programs.folder / "typed"))
    assert told.returncode == 0, told.stderr
    (version,) = json.loads(told.stdout)["versions"]
    assert (version["requests"], version["replicas"]) == (40, len(pids))
    assert set(version["endpoints"]) == {"POST /predict/{user}"}
