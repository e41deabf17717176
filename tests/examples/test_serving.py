"""The examples of serving, by the one command that their users have: train, serve with a real uvicorn and a real gunicorn, good
traffic, shifted traffic. The alert names the version and its training run, and so does what is read afterwards."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import sys
from pathlib import Path

import pytest

from programs import Programs, assert_conserved

EXAMPLES = Path(__file__).parents[2] / "examples"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@pytest.mark.slow
@pytest.mark.parametrize(("name", "replicas"), [("fastapi", 1), ("flask", 2)])
def test_drift_is_told_with_the_version_and_its_training(programs: Programs, name: str, replicas: int) -> None:
    pytest.importorskip("torch")
    programs.seconds = 270
    done = programs.command([sys.executable, str(EXAMPLES / f"serve_{name}.py"), str(free_port())])
    assert done.returncode == 0, done.stderr
    trained = next(run for run in programs.runs() if run["kind"] == "training")
    digest = hashlib.sha256((programs.folder / "serving-output" / "intent.pt").read_bytes()).hexdigest()
    alert = f"alert: predictions of intent (version {digest[:12]}, trained by {trained['name']}) have drifted"
    assert alert in done.stderr
    # The good traffic raised none.
    _, _, after = done.stdout.partition("good traffic")
    assert "shifted traffic" in after
    served = [run for run in programs.runs() if run["kind"] == "serving"]
    assert [run["status"] for run in served] == ["finished"] * replicas
    for run in served:
        record = programs.record(run["id"])
        assert_conserved(record)
        assert {one["kind"] for one in record["alerts"]} <= {"drift"}
    told = json.loads(programs.looptap("serving", "intent", "--json").stdout)
    (version,) = told["versions"]
    assert version["version"] == digest
    assert version["origin"]["run"] == trained["id"]
    assert version["replicas"] == replicas
    # Every customer was in a request of sixteen, and every request is counted.
    customers = sum(int(number.replace(",", "")) for number in re.findall(r"traffic: ([\d,]+)", done.stdout))
    assert version["requests"] * 16 == customers
    assert trained["name"] in done.stdout
    assert "class" in done.stdout
