"""Tells alerts to whom the user has named: a webhook, a command, a function of the program. One daemon thread, so nobody waits;
what fails is tried a few times, noted, and harmless."""

from __future__ import annotations

import json
import math
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import msgspec

from looptap.events import Alert
from looptap.settings import Settings

WEBHOOK_SECONDS = 5.0
WEBHOOK_TRIES = 3
#: Before the second try; twice that before the third.
WEBHOOK_PAUSE_SECONDS = 1.0
COMMAND_SECONDS = 30.0
_ANSWER_BYTES = 64 * 2**10
#: More than this at once, and nobody reads them any more.
_WAITING = 100


class Teller:
    """:meth:`start`, any number of :meth:`tell`, :meth:`stop`.

    What it needs for that is imported when there is something to tell.
    """

    def __init__(self, settings: Settings, run: Mapping[str, Any], note: Callable[[str], None]) -> None:
        """``run``: what is told of it with each alert. ``note`` gets one sentence for what failed."""
        self._webhook = settings.alert_webhook
        self._command = settings.alert_command
        self._function = settings.on_alert
        self._run = dict(run)
        self._note = note
        self._queue: queue.Queue[Alert] = queue.Queue(_WAITING)
        self._hurry = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Now, and not with the first alert: an interpreter that is about to end starts no threads."""
        if self._webhook or self._command or self._function is not None:
            self._thread = threading.Thread(target=self._live, name="looptap-alerts", daemon=True)
            with suppress(RuntimeError):
                self._thread.start()

    def tell(self, alert: Alert) -> None:
        if self._thread is None:
            return
        try:
            self._queue.put_nowait(alert)
        except queue.Full:
            self._note("too many alerts at once: some were told to the store only")

    def stop(self, seconds: float) -> None:
        """Wait so long at most for what is still to be told. What is told later is not told again."""
        self._hurry.set()
        deadline = time.monotonic() + seconds
        while self._thread is not None and self._thread.is_alive() and self._queue.unfinished_tasks:
            if time.monotonic() >= deadline:
                return
            time.sleep(0.01)

    # --- private ------------------------------------------------------------------------------------------------------

    def _live(self) -> None:
        while True:
            alert = self._queue.get()
            told = self._told(alert)
            if self._webhook:
                self._attempt("alert_webhook", self._post, told)
            if self._command:
                self._attempt("alert_command", self._execute, told)
            if self._function is not None:
                self._attempt("on_alert", self._function, told)
            self._queue.task_done()

    def _attempt(self, name: str, attempt: Callable[[dict[str, Any]], object], told: dict[str, Any]) -> None:
        try:
            attempt(dict(told))
        except BaseException as error:  # noqa: BLE001 - a function of the user may raise anything, and there is nobody above us
            said = str(error).strip().splitlines()
            self._note(f"{name} failed: {type(error).__name__}{f': {said[0]}' if said else ''}"[:500])

    def _told(self, alert: Alert) -> dict[str, Any]:
        told = {**self._run, **msgspec.structs.asdict(alert)}
        # What chats show of a message.
        return {"text": f"{self._run.get('name')}: {alert.message}{' · over' * (alert.state == 'recovered')}", **told}

    def _post(self, told: dict[str, Any]) -> None:
        import requests

        from looptap.bounded import BoundedAdapter, allowed

        session = requests.Session()
        adapter = BoundedAdapter()
        found = session.merge_environment_settings(self._webhook, {}, True, None, None)
        headers = {"Content-Type": "application/json", "User-Agent": "looptap"}
        body = json.dumps(_sayable(told), allow_nan=False).encode()
        try:
            request = requests.Request("POST", self._webhook, headers=headers, data=body).prepare()
        except ValueError:
            raise ValueError("its address cannot be used") from None
        for attempt in range(WEBHOOK_TRIES):
            if attempt:
                self._hurry.wait(WEBHOOK_PAUSE_SECONDS * 2 ** (attempt - 1))
            try:
                with allowed(WEBHOOK_SECONDS, _ANSWER_BYTES):
                    # Past requests.Session: no redirect is followed, and no password taken from ~/.netrc.
                    answer = adapter.send(
                        request,
                        timeout=WEBHOOK_SECONDS,
                        verify=found["verify"] or True,
                        proxies=found["proxies"],
                    )
                status = answer.status_code
            except (OSError, ValueError) as error:
                # What requests says has the address in it, and that is a secret.
                failed = f"it cannot be reached ({type(error).__name__})"
                continue
            if status < 300:
                return
            failed = f"it answers HTTP {status}"
            if 300 <= status < 500 and status != 429:
                break
        raise OSError(failed)

    def _execute(self, told: dict[str, Any]) -> None:
        """The command has the alert as JSON on its standard input and in its environment. Nothing of it becomes a part of the
        command itself."""
        import subprocess
        import tempfile

        text = json.dumps(_sayable(told), allow_nan=False)
        own = {f"LOOPTAP_ALERT_{name.upper()}": str(told[name]) for name in ("kind", "severity", "state", "message")}
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(
                self._command,
                shell=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                # Whatever looptap there is in it records nothing of itself.
                env={**os.environ, **own, "LOOPTAP_ALERT": text, "LOOPTAP_ENABLED": "0"},
                start_new_session=True,
            )
            try:
                with suppress(BrokenPipeError):
                    process.communicate(text.encode(), COMMAND_SECONDS)
            except subprocess.TimeoutExpired:
                with suppress(OSError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                raise TimeoutError(f"it was stopped after {COMMAND_SECONDS:.0f} s") from None
            if process.returncode:
                errors.seek(max(0, errors.seek(0, os.SEEK_END) - 200))
                said = errors.read().decode(errors="replace").strip().splitlines()
                raise OSError(f"exit code {process.returncode}{f' ({said[-1]})' if said else ''}")


def _sayable(told: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no NaN and no infinities: as a collector's answers tell them."""
    names = {math.inf: "Infinity", -math.inf: "-Infinity"}
    return {
        name: names.get(value, "NaN") if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in told.items()
    }
