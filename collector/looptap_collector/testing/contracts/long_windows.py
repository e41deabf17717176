"""What a backend that merges old windows of serving makes of them: fewer, and nothing else."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any

import msgspec
import pytest

from looptap.events import Example, RunEnded, Window
from looptap.sketches.distribution import Distribution
from looptap.sketches.histogram import Histogram
from looptap_collector.backend import Backend, MergedWindows, WindowQuery, all_windows
from looptap_collector.serving.report import report
from looptap_collector.testing.batches import Journal, started, write
from looptap_collector.testing.contracts.company import Reopen

SECOND, HOUR, DAY = 10**9, 3_600 * 10**9, 86_400 * 10**9
#: The stretch of six hours that began so many days ago: all of it is as old.
_NOW_NS = time.time_ns() // (6 * HOUR) * 6 * HOUR


def ago(days: int) -> int:
    return _NOW_NS - days * DAY - 6 * HOUR


def served(time_ns: int, requests: int = 3, **more: Any) -> Window:
    """Ten seconds in which so many were asked, with everything that is counted of them."""
    chance = random.Random(time_ns)
    took, rows, scores = Histogram(), Histogram(), Distribution(4.0, 0.5)
    took.add([chance.expovariate(100) for _ in range(requests)])
    rows.add([float(chance.randrange(1, 9)) for _ in range(requests)])
    scores.add_numbers([chance.gauss(4, 0.5) for _ in range(requests)] + [float("nan")] * chance.randrange(2))
    classes = Distribution()
    classes.add_classes(chance.choices(["cat", "dog", "bird"], k=requests))
    right = Distribution()
    right.add_classes(chance.choices(["yes", "no"], k=2))
    known: dict[str, Any] = {
        "model": "intent",
        "version": "v1",
        "endpoint": "POST /predict",
        "requests": requests,
        "errors": {"ValueError": 1} if chance.random() < 0.2 else {},
        "in_flight": chance.random(),
        "in_flight_max": chance.randrange(1, 5),
        "latency": {"total": took.encode(), "model": took.encode()},
        "batch": rows.encode(),
        "shapes": {"float32[*, 4]": requests},
        "predictions": {"class": classes.encode(), "score": scores.encode()},
        "outcomes": {"correct": right.encode()},
        "labels": {"class": classes.encode()},
        "features": {"age": rows_of_age(chance)},
        "skipped": {"busy": 1},
        "resources": {"system.process.memory": 1e9 + chance.randrange(10**6)},
    }
    return Window(time_ns=time_ns, seconds=10.0, **known | more)


def rows_of_age(chance: random.Random) -> bytes:
    made = Distribution()
    made.add_numbers([float(chance.randrange(18, 90))])
    return made.encode()


def each_ten_seconds(since_ns: int, count: int, **more: Any) -> list[Window]:
    return [served(since_ns + number * 10 * SECOND, **more) for number in range(count)]


def deliver(backend: Backend, journal: Journal, windows: Iterable[Window], *, is_over: bool = True) -> None:
    end = [RunEnded("finished", _NOW_NS)] if is_over else []
    write(backend, journal.batch(started(journal.run, kind="serving"), *windows, *end))


def windows_of(backend: Backend) -> list[Window]:
    """The oldest first."""
    return [one.window for one in all_windows(backend, WindowQuery())][::-1]


def lengths(backend: Backend) -> list[int]:
    """Of how many windows each is made, the oldest first."""
    return [window.windows for window in windows_of(backend)]


def all_told(backend: Backend) -> Any:
    """What a report of all time says; means, which are weighed, are told apart."""
    told = msgspec.to_builtins(report(backend, "intent", since_ns=0, until_ns=2**62))
    means = []
    for version in told["versions"]:
        means += [version.pop("in_flight"), *(mean for mean, _ in version["resources"].values())]
        version["resources"] = {name: peak for name, (_, peak) in version["resources"].items()}
    return told, means


def assert_told_alike(backend: Backend, before: Any) -> None:
    told, means = all_told(backend)
    assert told == before[0]
    assert means == pytest.approx(before[1])


class LongWindowContract:
    def test_old_windows_become_long_ones(self, backend: Backend) -> None:
        """Those of two days ago are merged by ten minutes, those of two weeks ago by six hours; younger ones and evaluations stay.
        What is told of all the time is the same, and a second time there is nothing to do."""
        young, older, oldest = (each_ten_seconds(ago(days), 150) for days in (1, 3, 15))
        evaluation = [served(ago(3), split="test"), served(ago(3) + SECOND, split="test")]
        deliver(backend, Journal(), chain(oldest, older, young, evaluation))
        before = all_told(backend)
        assert before[0]["versions"][0]["requests"] == 1_350
        assert backend.merge_windows() == MergedWindows(150 + 150 + 3, 3 + 3 + 1)
        assert lengths(backend) == [150, 60, 60, 30, *[1] * 150]
        assert_told_alike(backend, before)
        assert [(one.time_ns, one.seconds) for one in windows_of(backend)[:3]] == [
            (ago(15), 1_500.0),
            (ago(3), 600.0),
            (ago(3) + 600 * SECOND, 600.0),
        ]
        assert windows_of(backend)[4:] == young
        assert [one.window for one in backend.windows(WindowQuery(reference=True))] == evaluation[::-1]
        everything = windows_of(backend)
        assert backend.merge_windows() == MergedWindows()
        assert windows_of(backend) == everything

    def test_examples_of_old_windows(self, backend: Backend) -> None:
        """Are those of all of their calls with the least draws, as they were."""
        chance = random.Random(1)
        calls = [Example(chance.random(), ago(15) + at, {"text": f"ü{at}"}, at) for at in range(300)]
        told = [served(ago(15) + at * 10 * SECOND, examples=tuple(calls[5 * at : 5 * at + 5])) for at in range(60)]
        deliver(backend, Journal(), told)
        assert backend.merge_windows() == MergedWindows(60, 1)
        (one,) = windows_of(backend)
        assert list(one.examples) == sorted(calls, key=lambda call: call.draw)[:20]

    def test_what_is_told_apart_stays_apart(self, backend: Backend) -> None:
        """Journals, models, versions and endpoints; what is only an outcome of earlier ones; numbers around different centers."""
        other = Distribution(1.0, 0.5)
        other.add_numbers([1.0])
        same = each_ten_seconds(ago(3), 3)
        told = [*same, *(msgspec.structs.replace(one, model="other") for one in same)]
        told += [msgspec.structs.replace(one, version=version) for one in same for version in ("v2", None)]
        told += [msgspec.structs.replace(one, endpoint="") for one in same]
        right = {"correct": same[0].outcomes["correct"]}
        told += [Window("intent", one.time_ns + 60 * SECOND, 10.0, "v1", outcomes=right) for one in same]
        centers = {"score": other.encode()}
        told += [served(one.time_ns + 120 * SECOND, endpoint="", predictions=centers) for one in same]
        for journal in (Journal("j1"), Journal("j2")):
            deliver(backend, journal, told)
        before = all_told(backend)
        assert backend.merge_windows() == MergedWindows(2 * 7 * 3, 2 * 7)
        assert lengths(backend) == [3] * 14
        assert_told_alike(backend, before)

    def test_a_process_that_may_still_tell(self, backend: Backend) -> None:
        """Its last windows stay as they are, since a copy of them may come when it is found to be dead; a copy counts once. When it
        is over, they are merged, too."""
        windows = each_ten_seconds(ago(3), 30)
        beside = msgspec.structs.replace(windows[-1], endpoint="other")
        journal = Journal()
        deliver(backend, journal, [*windows, beside], is_over=False)
        before = all_told(backend)
        assert backend.merge_windows() == MergedWindows(29, 1)
        assert backend.merge_windows() == MergedWindows()
        copies = [msgspec.structs.replace(windows[-1], requests=1), beside, windows[0]]
        write(backend, journal.batch(*copies, msgspec.structs.replace(windows[0], requests=10**6)))
        assert_told_alike(backend, before)
        write(backend, journal.batch(RunEnded("killed", _NOW_NS)))
        assert backend.merge_windows() == MergedWindows(2, 1)
        assert lengths(backend) == [30, 1]
        assert_told_alike(backend, before)

    def test_what_comes_late(self, backend: Backend) -> None:
        """Becomes part of the long window that is there, in both forms."""
        windows = each_ten_seconds(ago(3), 60) + each_ten_seconds(ago(15), 60)
        journal = Journal()
        deliver(backend, journal, windows[::2], is_over=False)
        backend.merge_windows()
        write(backend, journal.batch(*windows[1::2], RunEnded("finished", _NOW_NS)))
        before = all_told(backend)
        assert before[0]["versions"][0]["requests"] == 360
        backend.merge_windows()
        assert lengths(backend) == [60, 60]
        assert_told_alike(backend, before)

    def test_of_one_run_and_in_time(self, backend: Backend) -> None:
        """Without time nothing is done, and said so; a deleted run has none."""
        for run in ("r1", "r2"):
            deliver(backend, Journal(f"j-{run}", run), each_ten_seconds(ago(3), 5))
        assert backend.merge_windows(within_s=0) == MergedWindows(is_complete=False)
        assert backend.merge_windows(run="nobody") == MergedWindows()
        assert backend.merge_windows(run="r2") == MergedWindows(5, 1)
        assert sorted(lengths(backend)) == [*[1] * 5, 5]
        assert backend.merge_windows(within_s=60) == MergedWindows(5, 1)
        assert backend.merge_windows(within_s=0) == MergedWindows()
        assert backend.delete_run("r1")
        assert lengths(backend) == [5]

    def test_merging_beside_writers_and_readers(self, backend: Backend, reopen: Reopen) -> None:
        """While one writes, two merge and one reads: nothing is seen twice or missing, and in the end everything is there once."""
        journal = Journal()
        deliver(backend, journal, [], is_over=False)
        stores = [reopen(), reopen(), reopen()]
        is_done = threading.Event()
        written = [0]

        def merge(store: Backend) -> int:
            made = 0
            while not is_done.is_set():
                made += store.merge_windows().made
            return made

        def read(store: Backend) -> Sequence[int]:
            seen = []
            while not is_done.is_set():
                least = written[0]
                found = sum(one.requests for one in store.served())
                assert least <= found <= written[0] + 30
                seen.append(found)
            return seen

        def write_all() -> None:
            try:
                for turn in range(40):
                    write(backend, journal.batch(*each_ten_seconds(ago(3) + turn * 100 * SECOND, 10)))
                    written[0] += 30
            finally:
                is_done.set()

        with ThreadPoolExecutor(4) as pool:
            jobs = [pool.submit(merge, stores[0]), pool.submit(merge, stores[1])]
            reader = pool.submit(read, stores[2])
            pool.submit(write_all).result()
            made = [job.result() for job in jobs]
            assert reader.result() == sorted(reader.result())
        assert sum(made) > 0
        write(backend, journal.batch(RunEnded("finished", _NOW_NS)))
        before = all_told(backend)
        backend.merge_windows()
        assert lengths(backend) == [60] * 6 + [40]
        assert_told_alike(backend, before)
        assert before[0]["versions"][0]["requests"] == 1_200
