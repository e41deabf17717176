"""Profiles over HTTP."""

from __future__ import annotations

import pytest

from collector.profiles.recording import Training
from collector.server.collectors import Collector
from looptap_collector import exact
from looptap_collector.profiles.shapes import Profile


def test_a_profile(collector: Collector) -> None:
    """What `looptap profile --json` prints, in JSON and in MessagePack, with the price and the grid that are asked with."""
    training = Training(collector.store)
    training.phases(data=0.06, forward=0.04)
    training.samples("system.gpu.0.energy", [0.0, *[3.6e6] * 20])
    expected = training.profile(price_per_hour=3.0, grid_kg_per_kwh=0.5)
    client, parameters = collector.client("read"), {"price_per_hour": "3", "grid_kg_per_kwh": "0.5"}
    answer = client.get("/v1/runs/latest/profile", params=parameters)
    told = answer.json()
    assert told["findings"][0]["title"] == "waiting for data"
    assert told["energy"]["co2e_kg"] == pytest.approx(0.5)
    packed = client.get("/v1/runs/r1/profile", params=parameters, headers={"accept": exact.MEDIA_TYPE})
    assert exact.decode(packed.content, Profile) == expected


@pytest.mark.parametrize(
    ("path", "status", "field"),
    [
        ("/v1/runs/nope/profile", 404, "run"),
        ("/v1/runs/latest/profile?price=1", 422, "price"),
        ("/v1/runs/latest/profile?price_per_hour=-1", 422, "price_per_hour"),
        ("/v1/runs/latest/profile?grid_kg_per_kwh=nan", 422, "grid_kg_per_kwh"),
    ],
)
def test_wrong_questions(collector: Collector, path: str, status: int, field: str) -> None:
    Training(collector.store)
    answer = collector.client("read").get(path)
    assert (answer.status_code, answer.json()["error"]["field"]) == (status, field)
