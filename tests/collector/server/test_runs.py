"""Runs over HTTP: by filter, order and page; whole records; deletion."""

from __future__ import annotations

import math
from typing import Any

import httpx
import pytest

from collector.server.collectors import Collector
from looptap.events import Artifact, Param, RunEnded, Tag
from looptap_collector import exact
from looptap_collector.testing.batches import START_NS, Journal, points, started, write

ODD = [math.nan, "NaN", math.inf, -0.0, 0, False, 1.0, 1, True, 2**64, -(2**63) - 1, 10**1000, [2**70, {"a": math.nan}]]


def record_runs(collector: Collector, count: int = 7) -> None:
    """Runs r0, r1, … a second apart, with loss 0/10, 1/10, …, two teams and a param."""
    for number in range(count):
        run = f"r{number}"
        batch = Journal(f"j{number}", run).batch(
            started(run, name=f"name-{number}", experiment="ab"[number % 2], time_ns=START_NS + number * 10**9),
            Param("lr", 10.0**-number, "user", 1),
            Tag("team", "nlp" if number % 3 else "cv", 1),
            Artifact("model.pt", 1, 10, digest=f"{number:064x}", kind="model"),
            RunEnded("finished", START_NS + 100 * 10**9),
            series=[points("loss", [0, 1], [9.0, number / 10])],
        )
        assert collector.send(batch).status_code == 200


def ids(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [run["id"] for run in answer.json()["runs"]]


@pytest.fixture
def client(collector: Collector) -> httpx.Client:
    record_runs(collector)
    return collector.client("read")


def test_newest_first_with_all_that_a_table_shows(client: httpx.Client) -> None:
    """Without a question all runs come, newest first, each with its params, tags and the summaries of its metrics."""
    answer = client.get("/v1/runs")
    assert ids(answer) == [f"r{number}" for number in range(7)][::-1]
    run = answer.json()["runs"][1]
    assert (run["name"], run["experiment"], run["status"]) == ("name-5", "b", "finished")
    assert (run["params"], run["tags"]) == ({"lr": 1e-05}, {"team": "nlp"})
    assert (
        run["metrics"]["loss"] | {"key": "loss", "count": 2, "last": 0.5, "min": 0.5, "max": 9.0}
        == run["metrics"]["loss"]
    )


def test_filter_order_and_limit(client: httpx.Client) -> None:
    """The filter language decides which, the order fields how."""
    wanted = 'metrics.loss.last < 0.5 and tags.team = "nlp" and params.lr > 0.000001'
    assert ids(client.get("/v1/runs", params={"filter": wanted, "order": "metrics.loss"})) == ["r1", "r2", "r4"]
    assert ids(client.get("/v1/runs", params={"order": ["-metrics.loss.last"], "limit": 2})) == ["r6", "r5"]
    assert ids(client.get("/v1/runs", params={"order": ["experiment", "-started"]})) == [
        "r6", "r4", "r2", "r0", "r5", "r3", "r1",
    ]  # fmt: skip


def test_pages_follow_each_other(collector: Collector, client: httpx.Client) -> None:
    """The cursor leads through all runs once, also while new ones arrive; it belongs to its question."""
    first = client.get("/v1/runs", params={"limit": 3})
    late = Journal("late", "late").batch(started("late", time_ns=START_NS + 10**12))
    assert collector.send(late).status_code == 200
    second = client.get("/v1/runs", params={"limit": 3, "cursor": first.json()["next"]})
    third = client.get("/v1/runs", params={"limit": 3, "cursor": second.json()["next"]})
    assert ids(first) + ids(second) + ids(third) == [f"r{number}" for number in range(7)][::-1]
    assert third.json()["next"] is None
    other = client.get("/v1/runs", params={"limit": 3, "cursor": first.json()["next"], "order": "name"})
    assert (other.status_code, other.json()["error"]["code"]) == (422, "invalid_cursor")
    assert other.json()["error"]["field"] == "cursor"


@pytest.mark.parametrize(
    ("filter", "position"),
    [
        ("loss < 0.3", 0),
        ("params.lr = ", 12),
        ("params.lr = 0.1 and", 19),
        ('name = "x" or name = "', 21),
        ("' OR 1=1--", 0),
        ('"; DROP TABLE run; --', 0),
        ("ATTACH DATABASE 'x' AS y", 7),
        ("(SELECT 1)", 8),
        ("__class__.__bases__ = 1", 0),
        ("{{7*7}}", 0),
    ],
)
def test_a_mistake_in_a_filter_has_a_position(client: httpx.Client, filter: str, position: int) -> None:
    """422 with the offset of the first character that cannot be understood, and a message in one line."""
    answer = client.get("/v1/runs", params={"filter": filter})
    assert answer.status_code == 422
    body = answer.json()
    assert (body["error"]["code"], body["error"]["field"]) == ("invalid_filter", "filter")
    assert body["position"] == position
    assert "\n" not in body["error"]["message"]


@pytest.mark.parametrize(
    "order", ["(SELECT name FROM run)", "nothing", "started; DROP TABLE run", "-", "1", "run.started_ns"]
)
def test_an_order_is_a_field_of_ours(client: httpx.Client, order: str) -> None:
    """Unknown fields and SQL in the order are 422; nothing of it reaches the database."""
    answer = client.get("/v1/runs", params={"order": order})
    assert (answer.status_code, answer.json()["error"]["field"]) == (422, "order")
    assert len(ids(client.get("/v1/runs"))) == 7


def test_wildcards_are_characters(collector: Collector, client: httpx.Client) -> None:
    """% and _ in a filter match themselves only."""
    assert collector.send(Journal("w", "w").batch(started("w", name="100%_x"))).status_code == 200
    assert ids(client.get("/v1/runs", params={"filter": 'name ~ "%_"'})) == ["w"]
    assert ids(client.get("/v1/runs", params={"filter": 'name = "%"'})) == []


@pytest.mark.parametrize(
    "params", [{"limit": 0}, {"limit": 1001}, {"limit": "x"}, {"filter": "x" * 9_000}, {"cursor": "zzz"}]
)
def test_wrong_values_name_their_field(client: httpx.Client, params: dict[str, str]) -> None:
    """What a question may not ask is 422 with the parameter's name."""
    answer = client.get("/v1/runs", params=params)
    assert answer.status_code == 422
    assert answer.json()["error"]["field"] == next(iter(params))


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("/v1/runs?fliter=x", "did you mean 'filter'?"),
        ("/v1/runs/r1?points=7", "there are: none"),
        ("/v1/histories?run=r1&key=loss&pionts=7", "did you mean 'points'?"),
        ("/v1/live?runs=r1", "did you mean 'run'?"),
        ("/v1/models?page=2", "there are: limit, before"),
    ],
)
def test_a_parameter_that_there_is_not(client: httpx.Client, path: str, hint: str) -> None:
    """A typing mistake in a parameter is refused, not passed over: the answer would be to another question."""
    answer = client.get(path)
    assert (answer.status_code, answer.json()["error"]["hint"]) == (422, hint)


def test_one_run_by_any_name(client: httpx.Client) -> None:
    """Id, beginning of it, name and `latest`; anything else is 404 and says what there is."""
    for which in ("r3", "name-3"):
        assert client.get(f"/v1/runs/{which}").json()["run"]["id"] == "r3"
    assert client.get("/v1/runs/latest").json()["run"]["id"] == "r6"
    answer = client.get("/v1/runs/nam-3")
    assert answer.status_code == 404
    assert "did you mean" in answer.json()["error"]["message"]


def test_experiments(client: httpx.Client) -> None:
    """Every experiment with its number of runs and its newest start."""
    assert [(item["name"], item["runs"]) for item in client.get("/v1/experiments").json()["experiments"]] == [
        ("a", 4),
        ("b", 3),
    ]


def test_a_deleted_run_is_gone(collector: Collector, client: httpx.Client) -> None:
    """Deleting takes all of a run and nothing of the others; only an admin may, and only by its whole id."""
    assert client.delete("/v1/runs/r3").status_code == 403
    admin = collector.client("admin")
    assert admin.delete("/v1/runs/name-3").status_code == 404
    assert admin.delete("/v1/runs/r3").json() == {"deleted": "r3"}
    assert client.get("/v1/runs/r3").status_code == 404
    assert ids(client.get("/v1/runs")) == ["r6", "r5", "r4", "r2", "r1", "r0"]
    assert collector.store.series(["r3"]) == []
    assert collector.store.position("j3") == 0
    assert admin.delete("/v1/runs/r3").status_code == 404


def test_messagepack_tells_a_float_from_its_name(collector: Collector) -> None:
    """With ``Accept: application/x-msgpack`` an answer has the same fields, and NaN is a number where it was one."""
    batch = Journal().batch(started(name="a/b"), *(Param(f"p{n}", value, "user", 1) for n, value in enumerate(ODD)))
    write(collector.store, batch)
    client = collector.client("read")
    for address in ("/v1/runs/r1", "/v1/runs/a%2Fb", "/v1/runs/a/b"):
        answer = client.get(address, headers={"accept": "application/x-msgpack"})
        assert answer.headers["content-type"] == "application/x-msgpack"
        record = exact.decode(answer.content, dict[str, Any])
        assert repr([record["params"][f"p{n}"]["value"] for n in range(len(ODD))]) == repr(ODD)
        assert record.keys() == client.get(address).json().keys()
    told = [client.get("/v1/runs/r1").json()["params"][f"p{n}"]["value"] for n in range(3)]
    assert told == ["NaN", "NaN", "Infinity"]


def test_details_of_a_table(client: httpx.Client) -> None:
    """Environment and notes of each run come when they are asked for."""
    plain, detailed = (client.get("/v1/runs", params=more).json()["runs"][0] for more in ({}, {"details": True}))
    assert detailed.keys() - plain.keys() == {"environment", "notes"}


def test_files_by_run_digest_and_kind(client: httpx.Client) -> None:
    """``/v1/edges`` tells who wrote or read which file, the latest first, page by page."""
    first = client.get("/v1/edges", params={"limit": 2, "kind": "model"}).json()
    assert [edge["run"] for edge in first["edges"]] == ["r6", "r5"]
    after = client.get("/v1/edges", params={"before": first["next"], "limit": 1}).json()
    assert [edge["run"] for edge in after["edges"]] == ["r4"]
    of_two = client.get("/v1/edges", params={"run": ["r1", "r2"], "artifact": [f"{2:064x}", f"{3:064x}"]}).json()
    assert [edge["run"] for edge in of_two["edges"]] == ["r2"]
    assert of_two["next"] is None
    for wrong in ({"artifact": "x"}, {"run": ["r"] * 65}, {"limit": 0}, {"before": 0}):
        assert client.get("/v1/edges", params=wrong).status_code == 422
