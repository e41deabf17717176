"""Webhooks, commands and functions are told, and do no harm when they fail."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from looptap.alerts import telling
from looptap.alerts.telling import Teller
from looptap.events import Alert
from looptap.settings import Settings

RUN = {"run": "r1", "name": "calm-otter-12", "experiment": "demo", "host": "box", "store": "/x"}
NAN = Alert(
    "not_finite", "critical", "fired", "loss is NaN since step 3", 7, "loss", math.nan, -math.inf, step=3, rank=2
)
SAID = {
    "text": "calm-otter-12: loss is NaN since step 3",
    **RUN,
    "kind": "not_finite",
    "severity": "critical",
    "state": "fired",
    "message": "loss is NaN since step 3",
    "time_ns": 7,
    "key": "loss",
    "value": "NaN",
    "threshold": "-Infinity",
    "step": 3,
    "rank": 2,
}


class Hook(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = self.server.answers(self.path, self.headers["Content-Type"], json.loads(body))  # type: ignore[attr-defined]
        self.send_response(status)
        if status in (301, 302, 307):
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def webhook(answers: Callable[[str, str, Any], int]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    server.answers = answers  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook?secret=hunter2"
    finally:
        server.shutdown()
        server.server_close()


def tell(*alerts: Alert, seconds: float = 30, **settings: Any) -> list[str]:
    """The notes that come of it."""
    notes: list[str] = []
    teller = Teller(Settings(**settings), RUN, notes.append)
    teller.start()
    for alert in alerts:
        teller.tell(alert)
    teller.stop(seconds)
    return notes


def test_a_webhook_gets_all_that_is_known() -> None:
    """As JSON that is valid, with a text that chats show; its address is in no representation of the settings."""
    heard: list[Any] = []
    with webhook(lambda *told: heard.append(told) or 204) as address:  # type: ignore[func-returns-value]
        over = Alert("not_finite", "critical", "recovered", "finite again", 8)
        assert tell(NAN, over, alert_webhook=address) == []
        assert "hunter2" not in repr(Settings(alert_webhook=address))
    assert heard[0] == ("/hook?secret=hunter2", "application/json", SAID)
    assert heard[1][2]["text"] == "calm-otter-12: finite again · over"


def test_a_webhook_that_fails_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Is tried again, so many times at most."""
    monkeypatch.setattr(telling, "WEBHOOK_PAUSE_SECONDS", 0.01)
    heard: list[int] = []

    def answers(*_: Any) -> int:
        heard.append(1)
        return 503 if len(heard) % 3 else 200

    with webhook(answers) as address:
        assert tell(NAN, alert_webhook=address) == []
        assert len(heard) == 3
    with webhook(lambda *told: heard.append(1) or 503) as address:  # type: ignore[func-returns-value]
        assert tell(NAN, alert_webhook=address) == ["alert_webhook failed: OSError: it answers HTTP 503"]
    assert len(heard) == 6


@pytest.mark.parametrize("status", [302, 307, 404])
def test_a_webhook_that_refuses(status: int) -> None:
    """Is asked once; no redirect is followed."""
    heard: list[str] = []

    def answers(path: str, *_: Any) -> int:
        heard.append(path)
        return status

    with webhook(answers) as address:
        (note,) = tell(NAN, alert_webhook=address)
    assert note == f"alert_webhook failed: OSError: it answers HTTP {status}"
    assert heard == ["/hook?secret=hunter2"]


def test_a_webhook_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """The note does not tell its address: that is a secret."""
    monkeypatch.setattr(telling, "WEBHOOK_PAUSE_SECONDS", 0.01)
    (note,) = tell(NAN, alert_webhook="http://127.0.0.1:1/hunter2")
    assert note.startswith("alert_webhook failed: OSError: it cannot be reached")
    assert "hunter2" not in note


def test_a_webhook_that_hangs() -> None:
    """Holds nobody up: neither who tells nor the end of the run."""
    gate = threading.Event()
    with webhook(lambda *told: gate.wait(20) and 200) as address:
        began = time.monotonic()
        tell(NAN, seconds=0.2, alert_webhook=address)
        assert time.monotonic() - began < 5
        gate.set()


def test_a_command(tmp_path: Path) -> None:
    """Has the alert on its standard input and in its environment; what is in a message is never a part of the command."""
    evil = f"$(touch {tmp_path}/evil); `touch {tmp_path}/evil` \"' && touch {tmp_path}/evil"
    alert = Alert("stall", "critical", "fired", evil, 1)
    command = f'cat > {tmp_path}/told.json; echo "$LOOPTAP_ALERT_KIND $LOOPTAP_ALERT_STATE" > {tmp_path}/env; echo out'
    assert tell(alert, alert_command=command) == []
    told = json.loads((tmp_path / "told.json").read_text())
    assert (told["message"], told["value"], told["run"]) == (evil, None, "r1")
    assert (tmp_path / "env").read_text() == "stall fired\n"
    assert not (tmp_path / "evil").exists()


def test_commands_that_fail(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Are noted with the last thing they said; one that hangs is stopped, with its children."""
    assert tell(NAN, alert_command="echo first >&2; echo no such chat >&2; exit 3") == [
        "alert_command failed: OSError: exit code 3 (no such chat)"
    ]
    monkeypatch.setattr(telling, "COMMAND_SECONDS", 0.3)
    (note,) = tell(NAN, alert_command=f"(sleep 3; touch {tmp_path}/late) & sleep 30")
    assert note == "alert_command failed: TimeoutError: it was stopped after 0 s"


def test_a_function() -> None:
    """Gets a dict with real numbers, in another thread; what it raises is noted, and the next alert is told all the same."""
    heard: list[Any] = []

    def on_alert(told: dict[str, Any]) -> None:
        heard.append((threading.current_thread(), told))
        told.clear()
        if len(heard) == 1:
            raise SystemExit("stop\nnow")

    over = Alert("not_finite", "critical", "recovered", "finite again", 8)
    caught: list[Any] = []

    def twice(told: dict[str, Any]) -> None:
        caught.append(dict(told))
        on_alert(told)

    assert tell(NAN, over, on_alert=twice) == ["on_alert failed: SystemExit: stop"]
    assert [one["kind"] for one in caught] == ["not_finite"] * 2
    assert math.isnan(caught[0]["value"])
    assert all(thread is not threading.current_thread() for thread, _ in heard)


def test_all_three_are_told(tmp_path: Path) -> None:
    """A failing one does not keep the others from it."""
    heard: list[Any] = []
    with webhook(lambda *_: 500 - 100) as address:
        notes = tell(NAN, alert_webhook=address, alert_command=f"touch {tmp_path}/told; exit 1", on_alert=heard.append)
    assert len(notes) == 2
    assert (tmp_path / "told").exists()
    assert len(heard) == 1


def test_nobody_to_tell() -> None:
    """Costs no thread."""
    before = threading.active_count()
    teller = Teller(Settings(), RUN, lambda said: None)
    teller.start()
    teller.tell(NAN)
    teller.stop(1)
    assert threading.active_count() == before
