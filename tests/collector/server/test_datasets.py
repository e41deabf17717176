"""Questions about data over HTTP."""

from __future__ import annotations

import httpx
import pytest

from collector.server.collectors import Collector
from looptap.events import Artifact, Dataset
from looptap_collector.testing.batches import Journal, started


def dataset(name: str, fingerprint: str | None, role: str = "train", time_ns: int = 1, **more: object) -> Dataset:
    return Dataset(
        name,
        time_ns,
        role,
        **{"fingerprint": fingerprint, "algorithm": "sha256", "covers": "content", **more},  # type: ignore[arg-type]
    )


@pytest.fixture
def client(collector: Collector) -> httpx.Client:
    """``one`` and ``two`` have the same training data; ``two`` and ``three`` the same for validation, under two names."""
    runs = {
        "one": [dataset("digits", "ab", length=10), dataset("held out", None, "validation")],
        "two": [dataset("digits", "ab", length=10), dataset("held out", "cd", "validation")],
        "three": [dataset("digits", "ef", length=11), dataset("held", "cd", "validation")],
    }
    for number, (run, told) in enumerate(runs.items()):
        file = Artifact("x.csv", 1, 1, digest="ab" * 32, role="input")
        batch = Journal(f"j-{run}", run).batch(started(run, name=f"name-{run}", time_ns=number), *told, file)
        assert collector.send(batch).status_code == 200
    return collector.client("read")


def uses(client: httpx.Client, **params: object) -> list[str]:
    answer = client.get("/v1/datasets", params=params)  # type: ignore[arg-type]
    assert answer.status_code == 200, answer.text
    return sorted(f"{item['run']} {item['role']} {item['name']}" for item in answer.json()["datasets"])


def test_which_runs_used_it(client: httpx.Client) -> None:
    """By fingerprint, under whatever name; by name; by run and role; and all."""
    assert uses(client, fingerprint="ab") == ["one train digits", "two train digits"]
    assert uses(client, fingerprint="cd") == ["three validation held", "two validation held out"]
    assert uses(client, fingerprint=["ab", "cd"], role="validation") == uses(client, fingerprint="cd")
    assert uses(client, name="digits", run=["one", "three"]) == ["one train digits", "three train digits"]
    assert len(uses(client)) == 6
    assert uses(client, name="nothing") == []


def test_a_use_has_all_that_was_told(client: httpx.Client) -> None:
    """And the version that it is."""
    answer = client.get("/v1/datasets", params={"run": "one", "role": "train"}).json()
    assert answer["complete"] is True
    (item,) = answer["datasets"]
    assert (
        item.pop("version")
        == client.get("/v1/datasets", params={"run": "two", "role": "train"}).json()["datasets"][0]["version"]
    )
    assert item == {
        "run": "one",
        "name": "digits",
        "time_ns": 1,
        "role": "train",
        "kind": None,
        "class_name": None,
        "length": 10,
        "split": None,
        "root": None,
        "transform": None,
        "fingerprint": "ab",
        "algorithm": "sha256",
        "covers": "content",
        "missing": None,
        "schema": None,
        "details": {},
    }


def test_more_than_was_asked_for(client: httpx.Client) -> None:
    """Is said."""
    answer = client.get("/v1/datasets", params={"limit": 5}).json()
    assert (len(answer["datasets"]), answer["complete"]) == (5, False)
    assert client.get("/v1/datasets", params={"limit": 6}).json()["complete"] is True
    assert client.get("/v1/datasets", params={"limit": 0}).status_code == 422


def test_what_differs(client: httpx.Client) -> None:
    """Between two runs, by any of their names."""
    answer = client.get("/v1/datasets/comparison", params={"first": "name-two", "second": "latest"}).json()
    assert (answer["first"], answer["second"]) == ("two", "three")
    told = [(item["role"], item["name"], item["outcome"], item["fields"]) for item in answer["datasets"]]
    assert told == [
        ("train", "digits", "different", ["length"]),
        ("validation", "held out", "same", ["name"]),
    ]
    assert [answer["datasets"][0][side]["fingerprint"] for side in ("first", "second")] == ["ab", "ef"]
    answer = client.get("/v1/datasets/comparison", params={"first": "one", "second": "two"}).json()
    assert [item["outcome"] for item in answer["datasets"]] == ["same", "unknown"]


def test_a_run_that_there_is_not(client: httpx.Client) -> None:
    """Has no data to compare."""
    answer = client.get("/v1/datasets/comparison", params={"first": "one", "second": "nothing"})
    assert (answer.status_code, answer.json()["error"]["field"]) == (404, "run")
    assert client.get("/v1/datasets/comparison", params={"first": "one"}).status_code == 422


def test_a_run_has_its_data(client: httpx.Client) -> None:
    """In its record, and in the lineage that it is part of."""
    record = client.get("/v1/runs/one").json()
    assert [item["name"] for item in record["datasets"]] == ["digits", "held out"]
    drawn = client.get("/v1/lineage", params={"artifact": "ab" * 32}).json()
    assert len(drawn["datasets"]) == 6
    alone = client.get("/v1/lineage", params={"run": "one", "direction": "up"}).json()
    assert {item["run"] for item in alone["datasets"]} == {"one"}
