"""What models answered is kept as it was told, each window once, and found by what it is of."""

from __future__ import annotations

from typing import Any

import msgspec

from looptap.events import Example, Window
from looptap.sketches.distribution import Distribution
from looptap.sketches.histogram import Histogram
from looptap_collector.backend import Backend, RunWindow, Served, WindowQuery, all_windows
from looptap_collector.testing.batches import Journal, started, write

VERSION, OTHER = "ab" * 32, "cd" * 32


#: One of a call with everything, and one of a call that failed.
EXAMPLES = (
    Example(
        0.001,
        -(2**63),
        {
            "text": "ü🦦\0'",
            "rows": [{"shape": [2, None], "values": [1, -0.0, 1e300, "NaN"]}],
            "…": "(3 keys)",
            "none": None,
        },
        {"label": True, "scores": [0.5, 2**63 - 1]},
        None,
        ("abc", "def"),
    ),
    Example(0.5, 2**63 - 1, {}, error="ValueError"),
)


def window(model: str = "intent", time_ns: int = 1, requests: int = 1, **more: Any) -> Window:
    return Window(**{"model": model, "time_ns": time_ns, "seconds": 10.0, "requests": requests, **more})


def full(time_ns: int = 1) -> Window:
    """Every field of it."""
    latency, answers = Histogram(), Distribution(center=-3.5, spread=1e-300)
    latency.add([0.001, 0.0, 1e-320, 1e300])
    answers.add_numbers([1.0, float("nan"), float("inf"), -0.0])
    answers.add_classes(["ü", "🦦"])
    told = answers.encode()
    return window(
        time_ns=time_ns,
        version=VERSION,
        digest=OTHER,
        endpoint="POST /predict/{id}",
        requests=7,
        errors={"ValueError": 2, "HTTP 503": 1},
        in_flight=0.1,
        in_flight_max=3,
        latency={"total": latency.encode(), "model": latency.encode()},
        batch=latency.encode(),
        shapes={"float32[*, 3, 224, 224]": 7},
        predictions={"class": told, "confidence": told},
        outcomes={"correct": told},
        labels={"class": told},
        features={"age": told},
        skipped={"busy": 4},
        resources={"system.process.memory.rss": float("nan"), "x": -0.0},
        examples=EXAMPLES,
    )


class WindowContract:
    def test_windows_come_back_as_told(self, backend: Backend) -> None:
        """Every field to the bit; a name that is not known is another one than the empty one."""
        told = [full(5), window(time_ns=4), window("", time_ns=3, version="", endpoint="ü"), window(time_ns=-(2**63))]
        write(backend, Journal().batch(started(), *told))
        found = backend.windows(WindowQuery())
        assert [(one.run, one.journal) for one in found] == [("r1", "j1")] * 4
        assert [msgspec.msgpack.encode(one.window) for one in found] == [msgspec.msgpack.encode(one) for one in told]

    def test_of_two_with_more_requests(self, backend: Backend) -> None:
        """Counts the one with more, whichever comes first; of equal ones the later to arrive. What differs in version, endpoint,
        time, split or journal is another window."""
        journal, other = Journal(), Journal("j2")
        write(backend, journal.batch(started(), window(requests=2), window(requests=3), window(requests=1)))
        write(backend, journal.batch(window(requests=2), window(requests=3, in_flight=0.5)))
        assert backend.windows(WindowQuery()) == [RunWindow("r1", "j1", window(requests=3, in_flight=0.5))]
        others = [window(version=VERSION), window(version=""), window(endpoint="x"), window("x"), window(time_ns=2)]
        write(backend, journal.batch(*others, window(split="test")))
        write(backend, other.batch(started(), window()))
        assert len(backend.windows(WindowQuery())) == 7
        assert len(backend.windows(WindowQuery(reference=True))) == 1

    def test_windows_are_found(self, backend: Backend) -> None:
        """By run, model, version and time, alone and together, the latest first; of the same time in the order of their ids, page
        by page."""
        for number in range(3):
            run = f"r{number}"
            told = [window("a", time, version=VERSION if time % 2 else None) for time in range(4)]
            told += [window("b", 9, version=OTHER), window("a", number, split="test", version=VERSION)]
            write(backend, Journal(f"j{number}", run).batch(started(run), *told))

        def found(**how: Any) -> list[str]:
            return [f"{one.run} {one.window.model} {one.window.time_ns}" for one in backend.windows(WindowQuery(**how))]

        everything = backend.windows(WindowQuery())
        assert len(everything) == 15
        assert [one.place for one in everything] == sorted(
            (one.place for one in everything), key=lambda at: (-at[0], at[1])
        )
        assert found(runs=("r1",)) == ["r1 b 9", "r1 a 3", "r1 a 2", "r1 a 1", "r1 a 0"]
        assert found(runs=("r1",), limit=2) == ["r1 b 9", "r1 a 3"]
        assert found(runs=("r1", "r1"), models=("a",), since_ns=1, until_ns=3) == ["r1 a 2", "r1 a 1"]
        assert found(runs=("r2",), versions=(VERSION, "x")) == ["r2 a 3", "r2 a 1"]
        assert found(reference=True, runs=("r0", "r1"), versions=(VERSION,)) == ["r1 a 1", "r0 a 0"]
        assert sorted(found(models=("b",))) == ["r0 b 9", "r1 b 9", "r2 b 9"]
        nothing: list[dict[str, Any]] = [
            {"runs": []},
            {"models": []},
            {"versions": []},
            {"models": ["A"]},
            {"models": ["a "]},
        ]
        assert [found(**how) for how in nothing] == [[]] * 5
        many = [f"x{number}" for number in range(1_200)]
        assert found(runs=(*many, "r1"), models=("b", *many)) == ["r1 b 9"]
        pages = [backend.windows(WindowQuery(limit=4))]
        while pages[-1]:
            pages.append(backend.windows(WindowQuery(limit=4, before=pages[-1][-1].place)))
        assert [one for page in pages for one in page] == list(everything)
        assert list(all_windows(backend, WindowQuery(models=("a",), until_ns=1, limit=2))) == [
            one for one in everything if one.window.time_ns == 0
        ]

    def test_which_models_were_served(self, backend: Backend) -> None:
        """With their numbers; evaluations are no serving."""
        told = [window("a", time, 5, version=OTHER, errors={"x": 1, "y": 1}) for time in range(3)]
        told += [window("a", 7, 4), window("b", 8, 2**40), window("b", 9, 2**40), window("c", split="test")]
        write(backend, Journal().batch(started(), *told))
        assert list(backend.served()) == [
            Served("a", None, 4, 0, 1, 7, 7),
            Served("a", OTHER, 15, 6, 3, 0, 2),
            Served("b", None, 2**41, 0, 2, 8, 9),
        ]
        assert list(backend.served(since_ns=2, until_ns=8)) == [
            Served("a", None, 4, 0, 1, 7, 7),
            Served("a", OTHER, 5, 2, 1, 2, 2),
        ]
        assert list(backend.served(since_ns=100)) == []
        write(backend, Journal("j2", "r2").batch(started("r2"), window("a", 7, 1), window("d", 1, 1, errors={"x": 1})))
        of_second = [Served("a", None, 1, 0, 1, 7, 7), Served("d", None, 1, 1, 1, 1, 1)]
        assert list(backend.served(runs=["r2", "r2", "nobody"])) == of_second
        assert list(backend.served(runs=["r1", "r2"], since_ns=7, until_ns=8)) == [Served("a", None, 5, 0, 2, 7, 7)]
        assert list(backend.served(runs=[])) == []

    def test_the_longest_window(self, backend: Backend) -> None:
        """What validation lets through fits."""
        longest = window(
            "🦦" * 128, 2**63 - 1, 2**40, version="🦦" * 63, endpoint="🦦" * 128, split="🦦" * 16, errors={"🦦": 2**40}
        )
        write(backend, Journal("🦦" * 63).batch(started(), longest))
        assert [one.window for one in backend.windows(WindowQuery(models=("🦦" * 128,), reference=True))] == [longest]

    def test_windows_of_a_deleted_run(self, backend: Backend) -> None:
        """Are gone; those of others stay."""
        for run in ("r1", "r2"):
            write(backend, Journal(f"j-{run}", run).batch(started(run), window()))
        assert backend.delete_run("r1")
        assert [one.run for one in backend.windows(WindowQuery())] == ["r2"]
