"""Reading from a collector as users do: commands, Python, the page; and what they are told when it does not work."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import looptap
from collector.recorded import START_NS, Recording, complete_run
from collector.server.collectors import Collector
from looptap_collector.artifacts import LocalArtifacts, Source
from looptap_collector.backend import Unavailable
from looptap_collector.server.binding import listen

pd = pytest.importorskip("pandas")
CONTENT = bytes(range(256)) * 40_000  # more than one piece


@pytest.fixture
def digest(collector: Collector, tmp_path: Path) -> str:
    """Two runs; the newer one has a model file of this content."""
    Recording(collector.store, "older", run="older", start_ns=START_NS - 10**9).params({"lr": 5})
    file = tmp_path / "model.pt"
    file.write_bytes(CONTENT)
    state = file.stat()
    digest = LocalArtifacts(tmp_path / "store" / "artifacts").put(Source(str(file), state.st_size, state.st_mtime_ns))
    file.unlink()
    recording = complete_run(collector.store)
    recording.artifact("weights.pt", kind="model", digest=digest, size_bytes=len(CONTENT))
    recording.points("step_time", [0.001] * 500)
    recording.points("time.data", [0.0004] * 500)
    return digest


@pytest.fixture(autouse=True)
def environment(collector: Collector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOPTAP_STORE", collector.address)
    monkeypatch.setenv("LOOPTAP_TOKEN", collector.tokens["read"])
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)


def command(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "looptap.cli", *words],
        capture_output=True,
        text=True,
        env={**os.environ, **more},
        timeout=120,
        check=False,
    )


def printed(*words: str) -> str:
    done = command(*words)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


@pytest.mark.parametrize(
    "words",
    [
        ["runs"],
        ["runs", "--json", "--filter", "params.lr = 0.001"],
        ["show"],
        ["show", "calm-otter-12", "--json"],
        ["profile", "--price", "3.5"],
        ["profile", "calm-otter-12", "--json", "--grid", "0.4"],
        ["export", "latest", "--format", "csv", "-o", "-"],
        ["artifact", "list"],
    ],
    ids=" ".join,
)
def test_a_command_prints_what_it_prints_of_the_folder(digest: str, tmp_path: Path, words: list[str]) -> None:
    """``LOOPTAP_STORE`` names the collector as it would name a folder, and the words are the same."""
    command(
        "runs", "--store", str(tmp_path / "store")
    )  # marks the silent run as lost, which is said to nobody over HTTP
    here = printed(*words, "--store", str(tmp_path / "store"))
    assert len(here) > 100
    assert printed(*words) == here


def test_a_file_is_got_and_verified(digest: str, tmp_path: Path) -> None:
    """``artifact get`` and ``Run.download`` bring the content, in pieces; one that is not there any more is told."""
    assert "weights.pt" in printed("artifact", "get", "latest", "weights.pt", "-o", "got.pt")
    assert hashlib.sha256((tmp_path / "got.pt").read_bytes()).hexdigest() == digest
    looptap.get_run().download("weights.pt", tmp_path / "again.pt")
    assert (tmp_path / "again.pt").read_bytes() == CONTENT
    done = command("artifact", "get", "latest", "model.pt")
    assert (done.returncode, done.stderr) == (
        2,
        "looptap: the content of 'model.pt' is no longer in the store\n",
    )


def test_in_python(collector: Collector, digest: str, tmp_path: Path) -> None:
    """``get_run`` and ``search_runs`` give what they give of the folder, by the argument or the setting."""
    folder = str(tmp_path / "store")
    for asked in (None, collector.address, collector.address + "/"):
        pd.testing.assert_frame_equal(looptap.search_runs(store=asked), looptap.search_runs(store=folder))
        there, here = looptap.get_run("calm-otter-12", store=asked), looptap.get_run("calm-otter-12", store=folder)
        assert there.params == here.params
        assert there.metrics == here.metrics
        assert there.environment == here.environment
        assert there.delivery == here.delivery
        assert there.profile(price_per_hour=2.0) == here.profile(price_per_hour=2.0)
        assert [finding.rule for finding in there.profile().findings] == ["waiting_for_data"]
        for thin in (None, 50):
            pd.testing.assert_frame_equal(there.history("loss", thin=thin), here.history("loss", thin=thin))
    assert list(looptap.search_runs(filter="params.lr > 1")["id"]) == ["older"]
    with pytest.raises(LookupError, match="did you mean 'calm-otter-12'"):
        looptap.get_run("calm-otter-13")


@pytest.fixture
def page() -> Iterator[httpx.Client]:
    words = [sys.executable, "-m", "looptap.cli", "ui", "--port", "0", "--no-browser"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            found = re.search(r" at (http://\S+) ", process.stdout.readline())
            assert found
            with httpx.Client(base_url=found[1], trust_env=False, timeout=60) as client:
                yield client
        finally:
            process.terminate()
            process.wait(30)


def test_the_page(collector: Collector, digest: str, page: httpx.Client) -> None:
    """``looptap ui`` shows a collector's runs, charts and files."""
    listed = page.get("/api/runs").json()
    assert listed["store"] == collector.address
    assert page.get("/api/runs/latest/profile").json()["findings"][0]["rule"] == "waiting_for_data"
    assert [run["name"] for run in listed["runs"]] == ["calm-otter-12", "older"]
    run = listed["runs"][0]["id"]
    assert page.get(f"/api/runs/{run}").json()["params"]["seed"]["value"] == 2**63 + 1
    series = page.get(f"/api/runs/{run}/histories", params={"series": ["loss", "lr{group=1}"], "points": 100}).json()
    assert series["series"]["loss"]["count"] == 500
    assert series["series"]["loss"]["steps"][-1] == 499
    assert page.get(f"/api/runs/{run}/artifacts/{digest}").content == CONTENT
    assert page.get("/api/runs/nothing").status_code == 404
    collector.store.revoke_token(next(row.id for row in collector.store.tokens() if row.scope == "read"), 1)
    patience = time.monotonic() + 30
    while (answer := page.get("/api/runs")).status_code == 200 and time.monotonic() < patience:
        time.sleep(0.05)  # a collector looks for revoked tokens each second
    assert answer.status_code == 503
    assert "does not let us in" in answer.json()["detail"]
    assert collector.tokens["read"] not in answer.text


@pytest.mark.parametrize(
    ("token", "said"),
    [
        ("ingest", r"does not let us in \(HTTP 403\): this token has the scope ingest; read is needed; .*--scope read"),
        ("", r"does not let us in \(HTTP 401\) \(no token is set: LOOPTAP_TOKEN\): this collector wants a token"),
        ("lt_" + "x" * 43, r"does not let us in \(HTTP 401\): this token is unknown; make one .*looptap token create"),
    ],
)
@pytest.mark.parametrize(
    "words", [["runs"], ["show"], ["export", "--format", "csv", "-o", "-"], ["ui", "--no-browser"]]
)
def test_who_is_not_let_in_hears_why(collector: Collector, words: list[str], token: str, said: str) -> None:
    """One line: which collector, what it says, how to mend it; never the token."""
    token = collector.tokens.get(token, token)
    done = command(*words, LOOPTAP_TOKEN=token)
    assert done.returncode == 2
    assert re.fullmatch(rf"looptap: {re.escape(collector.address)} {said}.*\n", done.stderr), done.stderr
    assert not token or token not in done.stderr


def test_nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port where nobody listens, and a server that is something else, are told in one line."""
    with listen("127.0.0.1", 0) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    done = command("runs", "--store", address)
    assert (done.returncode, done.stderr) == (2, f"looptap: {address} cannot be reached: Connection refused\n")
    with pytest.raises(Unavailable, match="cannot be reached"):
        looptap.get_run(store=address)


def test_not_a_collector(tmp_path: Path) -> None:
    """Any other web server is called what it is, also where it answers every address with a page."""
    words = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"]
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout is not None
            found = re.search(r"port (\d+)", server.stdout.readline())
            assert found
            done = command("show", "--store", f"http://127.0.0.1:{found[1]}")
        finally:
            server.kill()
    assert done.returncode == 2
    assert re.search(r"is not a looptap collector \(HTTP 404, text/html\)$", done.stderr.strip()), done.stderr


def test_an_unknown_run(digest: str) -> None:
    """In the same words as of a folder."""
    done = command("show", "calm-otter-13")
    assert done.returncode == 2
    assert done.stderr == (
        "looptap: there is no run 'calm-otter-13'; did you mean 'calm-otter-12'? The newest are: calm-otter-12, older. "
        "See them all: looptap runs\n"
    )


def test_a_filter_that_is_wrong(digest: str) -> None:
    """With a caret under the place."""
    done = command("runs", "--filter", "params.lr >")
    assert done.returncode == 2
    assert done.stderr.splitlines()[1:] == ["  params.lr >", "             ^"]


def test_json_is_exact(digest: str) -> None:
    """Integers beyond 64 bits come over HTTP, too."""
    assert json.loads(printed("show", "--json"))["params"]["seed"]["value"] == 2**63 + 1
