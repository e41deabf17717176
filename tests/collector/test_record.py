"""The whole record of a run as plain data and as JSON."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as some

from collector.recorded import HOSTILE, START_NS, Recording, complete_run
from looptap_collector.backend import Backend
from looptap_collector.query import find_run
from looptap_collector.record import iso, run_list, run_record, to_json


def record_of(backend: Backend, run: str = "latest") -> dict[str, Any]:
    return run_record(backend, find_run(backend, run))


def test_a_complete_record(backend: Backend) -> None:
    """Everything that was delivered is in the record, in its place."""
    recording = complete_run(backend)
    record = record_of(backend)
    assert record["run"] == {
        "id": recording.run,
        "name": "calm-otter-12",
        "experiment": "default",
        "kind": "training",
        "status": "finished",
        "started": "2026-01-02T03:04:05.000000Z",
        "started_ns": START_NS,
        "ended": "2026-01-02T03:04:17.500000Z",
        "ended_ns": START_NS + 12_500_000_000,
        "heartbeat": "2026-01-02T03:04:06.000000Z",
        "heartbeat_ns": START_NS + 1_000_000_000,
        "duration_seconds": 12.5,
        "error": None,
        "script": "/home/ada/digits/train.py",
        "command": ["python", "train.py", "--lr", "0.001"],
        "working_directory": "/home/ada/digits",
        "host": "box",
        "user": "ada",
        "pid": 4711,
        "python": "3.12.4",
        "rank": 0,
        "world_size": 1,
    }
    moment = {"time": "2026-01-02T03:04:05.000000Z", "time_ns": START_NS}
    assert record["params"]["lr"] == {"value": 0.001, "source": "argparse", **moment}
    assert record["params"]["betas"]["value"] == [0.9, 0.999]
    assert record["tags"] == {"team": "vision"}
    assert list(record["metrics"]) == ["loss", "lr{group=0}", "lr{group=1}"]
    assert record["metrics"]["lr{group=1}"] == {
        "key": "lr",
        "context": {"group": "1"},
        "count": 500,
        "nan_count": 0,
        "last": 1e-4,
        "min": 1e-4,
        "max": 1e-4,
        "first_step": 0,
        "last_step": 499,
        "last_time": "2026-01-02T03:04:05.499000Z",
        "last_time_ns": START_NS + 499_000_000,
        "lasting": True,
    }
    assert record["artifacts"][0]["name"] == "model.pt"
    assert record["artifacts"][0]["digest"] == "ab" * 32
    assert record["environment"]["python"] == "3.12.4"
    assert record["environment"]["git"]["branch"] == "main"
    assert record["environment"]["git"]["dirty"] is True
    assert record["environment"]["packages"] == {"torch": "2.13.0", "numpy": "2.3.1"}
    assert record["environment"]["time_ns"] == record["artifacts"][0]["time_ns"] == START_NS
    assert record["notes"] == [
        {"topic": "torch", "message": "torch.compile hides the forward pass from us", **moment},
    ]
    stored = recording.next
    assert record["delivery"] == {
        "emitted": stored,
        "stored": stored,
        "in_journal": 0,
        "dropped": {},
        "points_stored": 1500,
        "journals": [
            {
                "journal": recording.journal,
                "next": stored,
                "stored": stored,
                "dropped": {},
                "rank": 0,
                "status": record["run"]["status"],
                "ended_ns": record["run"]["ended_ns"],
                "error": record["run"]["error"],
            }
        ],
    }


def test_revisions_of_a_param(backend: Backend) -> None:
    """A param that changed shows its newest value and all that it had; one that did not shows no revisions."""
    recording = Recording(backend, "tuned")
    recording.params({"lr": 0.1, "seed": 1})
    recording.params({"lr": 0.01, "seed": 1}, source="user")
    params = record_of(backend)["params"]
    assert params["lr"]["value"] == 0.01
    assert params["lr"]["source"] == "user"
    assert [(one["value"], one["source"]) for one in params["lr"]["revisions"]] == [(0.1, "argparse"), (0.01, "user")]
    assert "revisions" not in params["seed"]


def test_json_is_valid_whatever_was_stored(backend: Backend) -> None:
    """NaN and infinities are strings, large integers are exact, and hostile text is only text."""
    recording = Recording(backend, HOSTILE)
    recording.params({"big": 2**63 + 1, "nested": {"bad": [math.nan, -math.inf]}, HOSTILE: HOSTILE})
    recording.points("loss", [1.0, math.inf, math.nan])

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    record = json.loads(to_json(record_of(backend)), parse_constant=refuse)
    assert record["params"]["big"]["value"] == 2**63 + 1
    assert record["params"]["nested"]["value"] == {"bad": ["NaN", "-Infinity"]}
    assert record["params"][HOSTILE]["value"] == HOSTILE
    assert record["metrics"]["loss"]["last"] == "NaN"
    assert record["metrics"]["loss"]["max"] == "Infinity"
    assert record["metrics"]["loss"]["min"] == 1.0


@given(
    some.recursive(
        some.none() | some.booleans() | some.integers() | some.floats() | some.text(), some.lists, max_leaves=8
    )
)
def test_any_value_survives_json(value: Any) -> None:
    """Reading the JSON back gives the value, with what is not finite as its name."""

    def expected(item: Any) -> Any:
        if isinstance(item, list):
            return [expected(one) for one in item]
        if isinstance(item, float) and not math.isfinite(item):
            return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[repr(item)]
        return item

    assert json.loads(to_json(value)) == expected(value)


def test_list_of_runs(backend: Backend) -> None:
    """The list is newest first and has the points and the last loss of each run; limit and experiment narrow it."""
    complete_run(backend)
    Recording(backend, "empty", experiment="other", start_ns=START_NS + 1)
    listed = run_list(backend)
    assert [(one["name"], one["points"]) for one in listed] == [("empty", 0), ("calm-otter-12", 1500)]
    assert listed[0]["loss"] is None
    assert listed[1]["loss"]["key"] == "loss"
    assert [one["alerts"] for one in listed] == [{"fired": 0, "standing": 0}] * 2
    assert [one["name"] for one in run_list(backend, experiment="default")] == ["calm-otter-12"]
    assert [one["name"] for one in run_list(backend, limit=1)] == ["empty"]


def test_alerts(backend: Backend) -> None:
    """Oldest first, with all that was told; the list has their numbers."""
    recording = Recording(backend, "warned")
    recording.alert("not_finite", key="loss", value=math.nan, step=7, rank=1)
    recording.alert("not_finite", "recovered", after_seconds=2, message="finite again", key="loss", rank=1)
    recording.alert("stall", after_seconds=1)
    told = json.loads(to_json(record_of(backend)))["alerts"]
    assert [(one["kind"], one["state"], one["time_ns"] - START_NS) for one in told] == [
        ("not_finite", "fired", 0),
        ("stall", "fired", 1_000_000_000),
        ("not_finite", "recovered", 2_000_000_000),
    ]
    assert told[0] == {
        "kind": "not_finite",
        "severity": "warning",
        "state": "fired",
        "message": "no step for 75 s",
        "time": "2026-01-02T03:04:05.000000Z",
        "time_ns": START_NS,
        "key": "loss",
        "value": "NaN",
        "threshold": None,
        "step": 7,
        "rank": 1,
    }
    assert run_list(backend)[0]["alerts"] == {"fired": 2, "standing": 1}


def test_times_outside_of_the_calendar() -> None:
    """A time that no calendar has is None, not an error; early years keep four digits."""
    assert iso(None) is None
    assert iso(2**63 - 1) == "2262-04-11T23:47:16.854775Z"
    assert iso(-(2**63)) == "1677-09-21T00:12:43.145224Z"
    assert iso(10**24) is None
