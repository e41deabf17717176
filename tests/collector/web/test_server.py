"""``looptap ui`` as a process of its own."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from collector.recorded import complete_run, new_store
from looptap_collector.server.binding import CannotServe
from looptap_collector.web.server import listen_here, serve

PROGRAM = "from looptap_collector.cli import ui; ui()"


def test_ui_serves_until_interrupted(store: Path) -> None:
    """It prints its address, answers there, and ends quietly with Ctrl-C."""
    complete_run(new_store(store))
    command = [sys.executable, "-u", "-c", PROGRAM, "--port", "0", "--no-browser", "--store", str(store)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        address = re.search(r"http://127\.0\.0\.1:\d+/", line)
        assert address is not None, line
        with urllib.request.urlopen(f"{address.group()}api/runs") as answer:
            assert json.load(answer)["runs"][0]["name"] == "calm-otter-12"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert errors == ""


def test_a_taken_port_is_told() -> None:
    """A port that somebody else listens on is one clear line."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotServe, match=f"cannot listen on 127.0.0.1:{port} .* --port"):
            listen_here("127.0.0.1", port)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])
def test_only_this_machine(host: str) -> None:
    """Without a login, nothing but loopback is listened on."""
    with pytest.raises(CannotServe, match="no login yet"):
        listen_here(host, 0)


def test_an_artifact_store_that_is_away_is_told(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that could show no file is not served; the line says why."""
    monkeypatch.setenv("LOOPTAP_ARTIFACT_STORE", "ftp://host/x")
    with pytest.raises(CannotServe, match="artifacts cannot be kept at ftp://"):
        serve(str(store), browser=False)
