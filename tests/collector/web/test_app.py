"""What the page's server answers, to whom, and how it is hedged in."""

from __future__ import annotations

import http.client
import json
import math
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from collector.recorded import HOSTILE, Recording, complete_run, new_store


def test_before_the_first_run(client: httpx.Client, store: Path) -> None:
    """Without a store there are no runs, which is no error, and asking does not make one."""
    assert client.get("/api/runs").json() == {"store": "here", "runs": []}
    assert client.get("/api/runs/latest").status_code == 404
    assert not store.exists()


def test_the_store_is_found_when_it_appears(client: httpx.Client, store: Path) -> None:
    """A store that is made while the page is open is read from then on."""
    assert client.get("/api/runs").json()["runs"] == []
    complete_run(new_store(store))
    assert [run["name"] for run in client.get("/api/runs").json()["runs"]] == ["calm-otter-12"]


def test_record(client: httpx.Client, store: Path) -> None:
    """The record is the one of ``looptap show --json``, and says which metrics are losses."""
    complete_run(new_store(store))
    record = client.get("/api/runs/calm-otter-12").json()
    assert record["metrics"]["loss"]["is_loss"] is True
    assert record["metrics"]["lr{group=1}"]["is_loss"] is False
    assert record["params"]["seed"]["value"] == 2**63 + 1
    assert record["delivery"]["in_journal"] == 2


def test_several_histories_in_one_call(client: httpx.Client, store: Path) -> None:
    """Series are asked for by label, each as often as one likes; long ones come thinned, with their full count."""
    complete_run(new_store(store))
    answer = client.get("/api/runs/latest/histories", params={"series": ["loss", "lr{group=1}"], "points": 100}).json()
    assert list(answer["series"]) == ["loss", "lr{group=1}"]
    loss = answer["series"]["loss"]
    assert loss["count"] == 500
    assert len(loss["steps"]) == len(loss["values"]) <= 100
    assert loss["steps"][0] == 0
    assert loss["steps"][-1] == 499


def test_values_that_are_not_finite(client: httpx.Client, store: Path) -> None:
    """They are null in the line, and named beside it."""
    Recording(new_store(store), "odd").points("loss", [1.0, math.nan, -math.inf])
    text = client.get("/api/runs/odd/histories", params={"series": "loss"}).text
    assert "NaN," not in text
    loss = json.loads(text)["series"]["loss"]
    assert loss["values"] == [1.0, None, None]
    assert loss["odd"] == [[1, "NaN"], [2, "-Infinity"]]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/runs/nope", 404),
        ("/api/runs/latest/histories?series=nope", 404),
        ("/api/runs/latest/histories", 422),
        ("/api/runs/latest/histories?series=loss&points=1", 422),
        ("/api/runs/latest/histories?" + "&".join(["series=loss"] * 65), 422),
        ("/api/runs?limit=0", 422),
        ("/api/runs?limit=x", 422),
        ("/api/runs/latest/artifacts/" + "cd" * 32, 404),
        ("/api/runs/latest/artifacts/..%2f..%2flooptap.db", 404),
        ("/static/..%2fapp.py", 404),
        ("/static/../app.py", 404),
        ("/docs", 404),
        ("/redoc", 404),
        (f"/{quote(HOSTILE, safe='')}", 404),
    ],
)
def test_what_is_not_there(client: httpx.Client, store: Path, path: str, status: int) -> None:
    """Wrong questions get a JSON or text answer with the right status, under the same protection."""
    complete_run(new_store(store))
    answer = client.get(path)
    assert answer.status_code == status
    assert not answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    "path", ["/", "/runs/x", "/api/runs", "/static/run.js", "/static/plotly.min.js", "/favicon.ico"]
)
def test_every_answer_is_hedged_in(client: httpx.Client, path: str) -> None:
    """Pages, data and scripts all come with the policy that forbids anything from elsewhere."""
    answer = client.get(path)
    assert answer.status_code == (404 if path == "/runs/x" else 200)
    assert answer.headers["content-security-policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    )
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


def test_page_of_a_run_that_is_not_there(client: httpx.Client, store: Path) -> None:
    """The same page, whose script tells it and waits for the run; a program that asks sees it by the status."""
    complete_run(new_store(store))
    there, missing = client.get("/runs/latest"), client.get("/runs/nope")
    assert (there.status_code, missing.status_code) == (200, 404)
    assert there.text == missing.text


@pytest.mark.parametrize("page", ["runs.html", "run.html"])
def test_pages_have_no_inline_script(client: httpx.Client, page: str) -> None:
    """Every script is a file of ours; there is no handler and no style in the markup."""
    text = client.get(f"/static/{page}").text
    assert text.count("<script") == text.count(' src="/static/') - text.count('<img src="/static/')
    assert "http" not in text
    assert " on" not in text.replace(" one", "").lower().replace(" only", "")
    assert "style=" not in text


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_only_reading(client: httpx.Client, method: str) -> None:
    """Any method that could change something is refused, on every path."""
    for path in ("/", "/api/runs", "/api/runs/x", "/static/run.js", "/nope"):
        assert client.request(method, path).status_code == 405


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1", "127.0.0.1:8765", "[::1]", "[::1]:8765"])
def test_our_hosts(client: httpx.Client, host: str) -> None:
    """The names of this machine's own loopback are answered, with any port."""
    assert client.get("/api/runs", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.com", "127.0.0.1.nip.io", "localhost.evil.com", "127.0.0.1:80@evil.com", "", "0.0.0.0", "localhost:", "::1"],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS"])
def test_foreign_hosts(client: httpx.Client, host: str, method: str) -> None:
    """Any other host is refused on every method: a web site cannot read the page through its own name."""
    assert client.request(method, "/api/runs", headers={"host": host}).status_code == 421


def test_two_hosts_and_an_absolute_address(address: str) -> None:
    """Two Host headers, or a foreign one behind a harmless absolute address, are refused by the real server."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"))
    connection.putrequest("GET", "/api/runs", skip_host=True)
    connection.putheader("Host", "127.0.0.1")
    connection.putheader("Host", "evil.com")
    connection.endheaders()
    assert connection.getresponse().status == 421
    connection.close()
    connection.putrequest("GET", f"{address}/api/runs", skip_host=True)
    connection.putheader("Host", "evil.com")
    connection.endheaders()
    assert connection.getresponse().status == 421
    connection.close()


def test_no_web_sockets(client: httpx.Client) -> None:
    """Asking for a WebSocket opens none."""
    upgrade = {
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    assert client.get("/api/runs", headers=upgrade).status_code != 101


def test_a_file_is_only_a_download(client: httpx.Client, store: Path) -> None:
    """A stored page comes as an attachment in a sandbox, under a name that is no path."""
    recording = complete_run(new_store(store))
    recording.artifact('../../"evil\r\n.html', digest="cd" * 32)
    answer = client.get(f"/api/runs/latest/artifacts/{'ab' * 32}")
    assert answer.content == b"<html><script>alert(1)</script></html>"
    assert answer.headers["content-disposition"] == 'attachment; filename="model.pt"'
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-security-policy"] == "sandbox"
    assert client.get(f"/api/runs/latest/artifacts/{'cd' * 32}").status_code == 404
