"""Points over HTTP."""

from __future__ import annotations

import math
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest

from collector.server.collectors import Collector
from looptap.exchange import Exchange
from looptap.settings import Settings
from looptap_collector import slowest
from looptap_collector.remote.backend import RemoteBackend
from looptap_collector.testing.batches import START_NS, Journal, points, started


@pytest.fixture
def client(collector: Collector) -> httpx.Client:
    """Two runs of 3,000 steps with loss and acc; the loss of r1 has odd values, and lr has two contexts."""
    for number, run in enumerate(("r1", "r2")):
        steps = np.arange(3_000)
        loss = np.sin(steps / 100) + number
        if run == "r1":
            loss[[10, 20, 30]] = math.nan, math.inf, -math.inf
            loss[1_234] = 99.0
        rates = [points("lr", [0, 5], [0.1, 0.2], {"group": str(group)}) for group in range(2)]
        batch = Journal(run, run).batch(
            started(run), series=[points("loss", steps, loss), points("acc", steps, steps / 3), *rates]
        )
        assert collector.send(batch).status_code == 200
    return collector.client("read")


def test_all_points_exactly(client: httpx.Client) -> None:
    """Without thinning every point comes, in order of step, NaN and infinities as text."""
    (found,) = client.get("/v1/histories", params={"run": "r1", "key": "loss"}).json()["histories"]
    assert (found["run"], found["key"], found["context"], found["count"]) == ("r1", "loss", {}, 3_000)
    assert found["steps"] == list(range(3_000))
    assert found["times_ns"][:2] == [START_NS, START_NS + 1_000_000]
    assert [found["values"][step] for step in (10, 20, 30)] == ["NaN", "Infinity", "-Infinity"]
    assert found["values"][100] == math.sin(1.0)


def test_columns_to_the_bit(client: httpx.Client) -> None:
    """As MessagePack, columns are little-endian arrays and equal what was sent to the last bit."""
    answer = client.get(
        "/v1/histories", params={"run": "r1", "key": "acc"}, headers={"accept": "application/x-msgpack"}
    )
    assert answer.headers["content-type"] == "application/x-msgpack"
    (found,) = msgspec.msgpack.decode(answer.content)["histories"]
    assert np.frombuffer(found["values"], "<f8").tobytes() == (np.arange(3_000) / 3).tobytes()
    assert np.frombuffer(found["steps"], "<i8").tolist() == list(range(3_000))


def test_thinned_points_keep_what_one_looks_for(client: httpx.Client) -> None:
    """First, last, the extremes and every kind of odd value survive."""
    (found,) = client.get("/v1/histories", params={"run": "r1", "key": "loss", "points": 100}).json()["histories"]
    assert len(found["steps"]) <= 100
    assert found["count"] == 3_000
    assert (found["steps"][0], found["steps"][-1]) == (0, 2_999)
    assert 99.0 in found["values"]
    assert {"NaN", "Infinity", "-Infinity"} <= {value for value in found["values"] if isinstance(value, str)}


def test_a_range_of_steps(client: httpx.Client) -> None:
    """Both bounds belong to it; either may be left out; with thinning, too."""
    for bounds, steps in (
        ({"first_step": 5, "last_step": 8}, [5, 6, 7, 8]),
        ({"last_step": 1}, [0, 1]),
        ({"first_step": 2_998}, [2_998, 2_999]),
        ({"first_step": 9_000}, []),
        ({"first_step": 5, "last_step": 8, "points": 7}, [5, 6, 7, 8]),
    ):
        (found,) = client.get("/v1/histories", params={"run": "r1", "key": "acc", **bounds}).json()["histories"]
        assert found["steps"] == steps, bounds


def test_several_runs_and_keys_in_one_call(client: httpx.Client) -> None:
    """Every combination that exists comes, each context on its own; what a run does not have is left out."""
    params: dict[str, Any] = {"run": ["r1", "r2"], "key": ["loss", "lr", "nothing"], "points": 20}
    found = client.get("/v1/histories", params=params).json()["histories"]
    assert [(item["run"], item["key"], item["context"]) for item in found] == [
        (run, key, context)
        for run in ("r1", "r2")
        for key, context in (("loss", {}), ("lr", {"group": "0"}), ("lr", {"group": "1"}))
    ]
    (one,) = client.get("/v1/histories", params={"run": "r1", "key": "lr{group=1}"}).json()["histories"]
    assert one["context"] == {"group": "1"}


@pytest.mark.parametrize(
    ("params", "status", "field"),
    [
        ({"key": "loss"}, 422, "run"),
        ({"run": "r1"}, 422, "key"),
        ({"run": "r1", "key": "loss", "points": 6}, 422, "points"),
        ({"run": "r1", "key": "loss", "points": 1_000_000}, 422, "points"),
        ({"run": "r1", "key": "loss", "first_step": 2**63}, 422, "first_step"),
        ({"run": "nothing", "key": "loss"}, 404, "run"),
        ({"run": ["r1"] * 65, "key": "loss"}, 422, "run"),
    ],
)
def test_wrong_questions(client: httpx.Client, params: dict[str, object], status: int, field: str) -> None:
    """What cannot be asked is refused by name."""
    answer = client.get("/v1/histories", params=params)  # type: ignore[arg-type]
    assert (answer.status_code, answer.json()["error"]["field"]) == (status, field)


def test_an_answer_has_a_size(client: httpx.Client, collector: Collector) -> None:
    """More than a million points at once are refused with a way out."""
    for turn in range(11):
        steps = np.arange(100_000) + turn * 100_000
        journal = Journal(f"long{turn}", "long")
        assert (
            collector.send(journal.batch(started("long"), series=[points("x", steps, steps * 1.0)])).status_code == 200
        )
    answer = client.get("/v1/histories", params={"run": "long", "key": "x"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "too_many")
    (found,) = client.get("/v1/histories", params={"run": "long", "key": "x", "points": 50}).json()["histories"]
    assert (found["count"], found["steps"][-1]) == (1_100_000, 1_099_999)
    part: dict[str, str | int] = {"run": "long", "key": "x", "first_step": 1, "last_step": 1_050_000}
    assert client.get("/v1/histories", params=part).json()["error"]["code"] == "too_many"


def test_a_series_by_its_exact_context(client: httpx.Client) -> None:
    """``context`` chooses one series where a key has several; ``{}`` is the one without; what is no context is refused."""
    for context, found in (('{"group": "1"}', [{"group": "1"}]), ("{}", []), ('{"group": "1", "rank": "0"}', [])):
        answer = client.get("/v1/histories", params={"run": "r1", "key": "lr", "context": context})
        assert [one["context"] for one in answer.json()["histories"]] == found
    (one,) = client.get("/v1/histories", params={"run": "r1", "key": "loss", "context": "{}"}).json()["histories"]
    assert one["count"] == 3_000
    for wrong in ("", "[]", '{"group": 1}', "{"):
        answer = client.get("/v1/histories", params={"run": "r1", "key": "lr", "context": wrong})
        assert (answer.status_code, answer.json()["error"]["field"]) == (422, "context")


def test_the_slowest_rank(collector: Collector) -> None:
    """Made from the times of the ranks when it is asked for, here and by who reads from afar; of one process there is none."""
    for rank in range(2):
        series = [points("step_time", [1, 2, 3], [0.1 + rank, 0.5, 0.5 + rank], {"rank": str(rank)} if rank else {})]
        batch = Journal(f"s{rank}", "job").batch(started("job", rank=rank, world_size=2), series=series)
        assert collector.send(batch).status_code == 200
    client = collector.client("read")
    keys = ["slowest_rank", "slowest_rank_lag", "step_time"]
    found = client.get("/v1/histories", params={"run": "job", "key": keys}).json()["histories"]
    values = {(one["key"], one["context"].get("rank")): one["values"] for one in found}
    assert values["slowest_rank", None] == [1.0, 0.0, 1.0]
    assert values["slowest_rank_lag", None] == [1.0, 0.0, 1.0]
    assert len(found) == 4
    remote = RemoteBackend(Exchange(collector.address, Settings(token=collector.tokens["read"])))
    assert slowest.history(remote, "job", slowest.RANK).values.tolist() == [1.0, 0.0, 1.0]
    assert slowest.history(remote, "job", slowest.LAG, steps=(3, 9)).steps.tolist() == [3]
    assert [(entry.rank, entry.status) for entry in remote.delivery("job")] == [(0, None), (1, None)]
    remote.close()
    assert collector.send(Journal("alone", "alone").batch(started("alone"))).status_code == 200
    assert client.get("/v1/histories", params={"run": "alone", "key": "slowest_rank"}).json()["histories"] == []
