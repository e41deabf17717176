"""What of ten million points arrives when everything goes wrong: ``python benchmarks/faults.py [--store URL] [--points N]``.

Ten agents (the real recorder, journal, sender and HTTP sink, each a process) record at a steady pace and send to ``looptap server``
through a network that misbehaves: every third request meets a fault, drawn from a seed, and every few seconds the collector is
killed with -9 and started again. This goes on until everything is delivered. Then every value in the store is compared to the bit
with what was recorded.

``retries`` are the requests that an agent made from a fault until it got through, ``caught up`` the time that this took; both
belong to the fault that came first. ``collector down`` is no fault of the network: nobody answered behind it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))  # the fault proxy and the agents are those of the tests

from collector.backends.servers import free_port  # noqa: E402
from collector.server.collectors import server_process  # noqa: E402
from faultproxy import (  # noqa: E402
    Exchange,
    FaultProxy,
    answer,
    delayed,
    dripping,
    lost_answer,
    passing,
    portal,
    redirect,
    refusal,
    reset_mid_body,
    silent,
    truncated,
)
from looptap_collector.server.access import Scope  # noqa: E402
from looptap_collector.server.tokens import new_token, row_of  # noqa: E402
from looptap_collector.stores import open_store  # noqa: E402
from sending import KEYS, Load, Sending, Told, verify  # noqa: E402

SHARE = 0.33
SMALL_BODY = 32 * 2**10
#: By name, with how often it is drawn. What is drawn for a request that it does not suit lets it pass.
FAULTS = {
    "answer lost after the commit": (6, lost_answer),
    "cut in the middle of the body": (4, reset_mid_body),
    "answer cut short": (3, truncated),
    "500": (3, answer(500, b"Internal Server Error", "text/plain")),
    "503, Retry-After 1": (2, refusal(503, "busy", retry_after=1)),
    "429, Retry-After 1": (2, refusal(429, "busy", retry_after=1)),
    "413 above 32 KiB": (3, answer(413, b"<html>Request Entity Too Large</html>", "text/html")),
    "captive portal (HTML)": (3, portal()),
    "redirect to another host": (3, redirect("http://127.0.0.1:9/")),
    "no answer at all": (1, silent),
    "half a second late": (3, delayed(0.5)),
    "answer in drips": (2, dripping(skip=20, seconds=0.01)),
}
DOWN = "collector down (kill -9)"


class Weather:
    """A fault for every request, and how each agent came through."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        self._since: dict[str, tuple[str, float]] = {}
        self.requests = 0
        self.injected: dict[str, int] = defaultdict(int)
        self.retries: dict[str, int] = defaultdict(int)
        self.caught_up: dict[str, list[float]] = defaultdict(list)

    async def __call__(self, exchange: Exchange) -> None:
        agent, now = exchange.seen.headers.get("authorization", ""), time.monotonic()
        self.requests += 1
        if agent in self._since:
            self.retries[self._since[agent][0]] += 1
        name = self._draw(exchange)
        if name is not None:
            self.injected[name] += 1
            self._since.setdefault(agent, (name, now))
        try:
            await (passing if name is None else FAULTS[name][1])(exchange)
        except ConnectionError:
            if name is None or exchange.answered is not None:
                self.injected[DOWN] += 1
                self._since.setdefault(agent, (DOWN, now))
            raise
        is_answered = (exchange.answered or b"").startswith(b"HTTP/1.1 200")
        if is_answered and (name is None or FAULTS[name][1] in _ARRIVES) and agent in self._since:
            first, since = self._since.pop(agent)
            self.caught_up[first].append(time.monotonic() - since)

    def _draw(self, exchange: Exchange) -> str | None:
        if self._dice.random() >= SHARE:
            return None
        (name,) = self._dice.choices(list(FAULTS), [weight for weight, _ in FAULTS.values()])
        return None if name.startswith("413") and exchange.seen.length <= SMALL_BODY else name

    def rows(self) -> list[dict[str, Any]]:
        rows = []
        for name in [*FAULTS, DOWN]:
            waits = self.caught_up[name]
            rows.append(
                {
                    "fault": name,
                    "injected": self.injected[name],
                    "retries": self.retries[name],
                    "caught_up_median_s": statistics.median(waits) if waits else None,
                    "caught_up_most_s": max(waits, default=None),
                }
            )
        return rows


_ARRIVES = [FAULTS[name][1] for name in ("half a second late", "answer in drips")]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--store", help="URL of an empty database; default: a fresh folder (SQLite)")
    parser.add_argument("--points", type=int, default=10_000_000, help="of all agents together")
    parser.add_argument("--agents", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=150, help="for which the agents record")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--results", type=Path, default=HERE / "results" / "faults.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), arguments)
    show(found)
    known = json.loads(arguments.results.read_text()) if arguments.results.exists() else {}
    arguments.results.write_text(json.dumps({**known, found["store"]: found}, indent=2) + "\n")
    verdict = found["verdict"]
    is_whole = not (verdict["lost"] or verdict["duplicated"] or verdict["altered"])
    sys.exit(0 if is_whole and found["is_conserved"] and found["is_clean"] else 1)


def measure(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    store = arguments.store or str(folder / "store")
    port, weather, over = free_port(), Weather(arguments.seed), threading.Event()
    each = arguments.points // arguments.agents // len(KEYS)
    loads = [Load(number, each, arguments.seconds, interval=0.25, patience=600) for number in range(arguments.agents)]
    tokens = [new_token() for _ in loads]
    backend = open_store(store, create=True)
    for load, token in zip(loads, tokens, strict=True):
        backend.add_token(row_of(token, load.run, Scope.INGEST))
    killing = Kills(folder, store, port, arguments.seed, over)
    killing.start()
    killing.is_up.wait()
    began = time.monotonic()
    with FaultProxy("127.0.0.1", port) as network:
        network.behave(weather)
        agents = [Sending(network.url, token, folder, load) for load, token in zip(loads, tokens, strict=True)]
        try:
            told = [agent.result() for agent in agents]
        finally:
            over.set()
            for agent in agents:
                agent.close()
    seconds = time.monotonic() - began
    kills = killing.result()
    verdict = verify(backend, dict(zip(loads, told, strict=True)))
    is_conserved = all(_is_conserved(backend.delivery(load.run), one) for load, one in zip(loads, told, strict=True))
    backend.close()
    check = [sys.executable, "-m", "looptap.cli", "store", "check", store]
    is_clean = subprocess.run(check, cwd=folder, stdout=sys.stderr, check=False).returncode == 0
    return {
        "machine": {"python": platform.python_version(), "machine": platform.machine(), "cores": os.cpu_count()},
        "store": store.partition("://")[0] if "://" in store else "sqlite",
        "agents": len(loads),
        "seed": arguments.seed,
        "recording_s": arguments.seconds,
        "all_s": seconds,
        "verdict": asdict(verdict),
        "is_conserved": is_conserved,
        "is_clean": is_clean,
        "kills": kills,
        "requests": weather.requests,
        "faults": weather.rows(),
    }


def _is_conserved(entries: Any, told: Told) -> bool:
    """All that was emitted is stored, and nothing was dropped."""
    return told.delivered and [(entry.stored, entry.dropped) for entry in entries] == [(told.emitted, {})]


class Kills(threading.Thread):
    """A collector that is killed every few seconds, until the event; then it ends in order."""

    def __init__(self, folder: Path, store: str, port: int, seed: int, over: threading.Event) -> None:
        super().__init__()
        self._folder, self._store, self._port, self._over = folder, store, port, over
        self._dice = random.Random(seed)
        self._kills = 0
        self.is_up = threading.Event()

    def run(self) -> None:
        words = ("--port", str(self._port), "--artifacts", str(self._folder / "artifacts"))
        while not self._over.is_set():
            with server_process(self._folder, *words, store=self._store) as running:
                self.is_up.set()
                if not self._over.wait(self._dice.uniform(4, 10)):
                    running.process.kill()
                    self._kills += 1

    def result(self) -> int:
        self.join()
        return self._kills


def show(found: dict[str, Any]) -> None:
    verdict = found["verdict"]
    print(
        f"{verdict['points']:,} points of {found['agents']} agents, {found['requests']:,} requests, collector killed "
        f"{found['kills']} times: {verdict['lost']} lost, {verdict['duplicated']} duplicated, {verdict['altered']} altered"
    )
    print(
        f"recorded in {found['recording_s']:.0f} s, all delivered after {found['all_s']:.0f} s; ledger "
        f"{'adds up' if found['is_conserved'] else 'DOES NOT ADD UP'}, store check {'clean' if found['is_clean'] else 'NOT CLEAN'}"
    )
    print()
    print("| fault | injected | retries | caught up, median | most |")
    print("|---|---|---|---|---|")
    for row in found["faults"]:
        times = (row["caught_up_median_s"], row["caught_up_most_s"])
        shown = " | ".join("" if time is None else f"{time:.2f} s" for time in times)
        print(f"| {row['fault']} | {row['injected']} | {row['retries']} | {shown} |")


if __name__ == "__main__":
    main()
