"""When samples are taken, and what a reader that fails, hangs or is somebody else's does to a run."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from typing import Any

import pytest

from integrations.recording import Recording
from looptap.resources.rates import Rates
from looptap.resources.reader import Absent, Reader, Subject, Unreadable
from looptap.resources.sampler import SHARE, Sampler, Source, pause, usual_cost
from programs import ALL_INTEGRATIONS, Programs, assert_conserved

HERE = Subject(os.getpid(), os.getpid(), os.getcwd(), {})


class Counting(Reader):
    """Counts how often it is read, and fails when it is told to."""

    error: Exception | None = None
    is_slow = False
    opened = closed = 0
    let_go = threading.Event()

    def open(self, subject: Subject) -> None:
        type(self).opened += 1
        if isinstance(self.error, Absent):
            raise self.error
        self.count = 0

    def allotted(self) -> dict[str, Any]:
        return {"allotted.test": 5}

    def read(self, now: float) -> dict[str, float]:
        if self.error is not None:
            raise self.error
        if self.is_slow:
            self.let_go.wait(60)
        self.count += 1
        return {"system.test.count": float(self.count)}

    def close(self) -> None:
        type(self).closed += 1


@pytest.fixture
def kind() -> type[Counting]:
    return type("Fresh", (Counting,), {"let_go": threading.Event()})


def sampling(record: Recording, *kinds: type[Reader], seconds: float = 0.01) -> Sampler:
    record.begin()
    sampler = Sampler(
        record, HERE, seconds, lambda: {kind.__name__ + str(at): _loads(kind) for at, kind in enumerate(kinds)}
    )
    sampler.start()
    return sampler


def _loads(kind: type[Reader]) -> Any:
    return lambda: kind


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def of(record: Recording, key: str) -> list[tuple[int, float]]:
    return [(step, value) for name, step, value, _ in record.points if name == key]


def test_first_and_last_sample(kind: type[Counting]) -> None:
    """One when the run begins, one when it ends, numbered from 0, with what each cost; the reader is closed."""
    record = Recording()
    sampler = sampling(record, kind, seconds=3600.0)
    wait_until(lambda: of(record, "system.test.count"))
    sampler.stop()
    assert of(record, "system.test.count") == [(0, 1.0), (1, 2.0)]
    assert [step for step, cost in of(record, "system.sampler.cost") if 0 <= cost < 1] == [0, 1]
    assert ("allotted.test", 5, "allotment") in record.written
    assert (kind.opened, kind.closed) == (1, 1)


def test_again_and_again(kind: type[Counting]) -> None:
    """Samples come while the run is under way, and none after it."""
    record = Recording()
    sampler = sampling(record, kind)
    wait_until(lambda: len(of(record, "system.test.count")) > 5)
    sampler.stop()
    count = len(record.points)
    assert not any(thread.name == "looptap-sampler" for thread in threading.enumerate())
    assert [step for step, _ in of(record, "system.test.count")] == list(range(count // 2))


def test_one_dear_sample_does_not_silence_the_next_minute() -> None:
    """The first one is no measure, and later a single one counts for a quarter; what stays dear is believed in the end."""
    cost = 0.0
    for number, spent in enumerate([0.02, 0.001, 0.001, 0.001, 0.001, 0.02]):
        cost = usual_cost(cost, spent, number)
    assert cost == pytest.approx(0.001 + 0.019 / 4)
    for number in range(6, 30):
        cost = usual_cost(cost, 0.02, number)
    assert cost == pytest.approx(0.02, rel=0.01)


def test_pauses_grow_with_the_run_and_with_the_cost() -> None:
    """One second for the first ten minutes, ten seconds in the end; longer where 0.3 % of a core would not be enough."""
    assert pause(0.0, 0.001, 1.0, SHARE) == 1.0
    assert pause(600.0, 0.001, 1.0, SHARE) == 1.0
    assert pause(3000.0, 0.001, 1.0, SHARE) == 5.0
    assert pause(10**6, 0.001, 1.0, SHARE) == 10.0
    assert pause(0.0, 0.006, 1.0, SHARE) == pytest.approx(2.0)
    assert pause(10**6, 0.3, 1.0, SHARE) == pytest.approx(100.0)
    assert pause(0.0, 0.0, 30.0, SHARE) == 30.0


def test_dear_samples_are_seldom() -> None:
    """A reader that takes 20 ms of a core is not read again before 20 ms are 0.3 % of the time. The first sample, which finds
    everything cold, does not count."""

    class Dear(Reader):
        reads = 0

        def read(self, now: float) -> dict[str, float]:
            Dear.reads += 1
            end = time.thread_time() + 0.02
            while time.thread_time() < end:
                pass
            return {}

    record = Recording()
    sampler = sampling(record, Dear)
    wait_until(lambda: Dear.reads == 2)
    time.sleep(0.5)
    assert Dear.reads == 2
    sampler.stop()
    assert Dear.reads == 3
    assert all(cost >= 0.02 for _, cost in of(record, "system.sampler.cost"))


def test_a_reader_that_fails_is_tried_again(kind: type[Counting]) -> None:
    """After ten seconds, then after twice as long each time; its failure is told once; when it works again it goes on."""
    told: list[str] = []
    kind.error = Unreadable("GPU 0 is lost")
    source = Source("gpu", _loads(kind), HERE, told.append)
    source.open(0.0)
    assert source.read(0.0) == {}
    tries = []
    for now in range(200):
        before = kind.opened
        source.read(float(now))
        tries += [now] if kind.opened > before else []
    assert tries == [10, 30, 70, 150]
    kind.error = None
    assert source.read(1000.0) == {"system.test.count": 1.0}
    assert told == ["gpu: GPU 0 is lost"]
    assert kind.closed == kind.opened - 1


def test_what_is_not_there_is_nobodys_fault(kind: type[Counting]) -> None:
    """No note, and no second look."""
    told: list[str] = []
    kind.error = Absent("no GPU")
    source = Source("gpu", _loads(kind), HERE, told.append)
    assert source.open(0.0) == {}
    assert [source.read(now) for now in (0.0, 100.0, 1e9)] == [{}, {}, {}]
    assert (told, kind.opened) == ([], 1)


def test_one_bad_reader_does_not_cost_the_others(kind: type[Counting], monkeypatch: pytest.MonkeyPatch) -> None:
    """A third party's mistake is one note, and the others are read as before."""
    monkeypatch.delenv("LOOPTAP_STRICT")
    bad: type[Counting] = type("Bad", (Counting,), {"error": ZeroDivisionError("by zero")})
    record = Recording()
    sampler = sampling(record, bad, kind)
    wait_until(lambda: len(of(record, "system.test.count")) > 2)
    sampler.stop()
    assert record.notes == ["Bad0: ZeroDivisionError: by zero"]


def test_a_reader_that_hangs_does_not_hold_up_the_end(kind: type[Counting]) -> None:
    """The run ends without its last sample. What comes when the reader goes on is written nowhere, and begins no run."""
    kind.is_slow = True
    record = Recording()
    sampler = sampling(record, kind)
    wait_until(lambda: kind.opened)
    began = time.monotonic()
    sampler.stop()
    assert time.monotonic() - began < 20
    kind.let_go.set()
    wait_until(lambda: kind.closed)
    assert record.points == []


def test_rates() -> None:
    """Growth per second since the time before; none at first, when the counter has jumped back, and too soon."""
    rates = Rates()
    assert rates.of("a", 100.0, 10.0) is None
    assert rates.of("b", 1.0, 10.0) is None
    assert rates.of("a", 150.0, 12.0) == 25.0
    assert rates.of("a", 160.0, 12.01) is None
    assert rates.of("a", 250.0, 14.0) == 50.0
    assert rates.of("a", 3.0, 15.0) is None
    assert rates.of("a", 5.0, 16.0) == 2.0
    assert rates.of("a", None, 17.0) is None


PROGRAM = """
import looptap, os, time
looptap.autolog()
looptap.log_metric("loss", 1.0)
time.sleep(float(os.environ["FOR"]))
"""


def test_every_run_is_sampled(programs: Programs) -> None:
    """A plain program has the series of its process and its host, with the first sample at its begin and the last at its end. The
    steps of the training are not touched by them."""
    done = programs.python(PROGRAM, FOR="1.5", LOOPTAP_RESOURCES="1")
    assert done.returncode == 0, done.stderr
    record = programs.record()
    assert_conserved(record)
    metrics = record["metrics"]
    assert metrics["loss"]["count"] == 1
    assert "unit" not in metrics["loss"]
    memory = metrics["system.process.memory"]
    assert (memory["unit"], memory["first_step"]) == ("bytes", 0)
    assert memory["count"] >= 3
    assert metrics["system.process.cpu"]["first_step"] == 1
    last_ns = max(metric["last_time_ns"] for metric in metrics.values())
    assert memory["last_time_ns"] == last_ns
    assert record["run"]["ended_ns"] - last_ns < 10**9
    assert record["params"]["allotted.disk"]["source"] == "allotment"
    shown = programs.looptap("show").stdout
    training, _, resources = shown.partition("resource")
    assert "loss" in training
    assert "process.memory" not in training
    assert "process.memory" in resources


def test_switched_off(programs: Programs) -> None:
    """Neither series nor params."""
    assert programs.python(PROGRAM, FOR="0", LOOPTAP_RESOURCES="0").returncode == 0
    record = programs.record()
    assert list(record["metrics"]) == ["loss"]
    assert record["params"] == {}


def test_a_reader_of_another_package(programs: Programs) -> None:
    """Found by its entry point, read with the others; its unit is told, too."""
    (programs.folder / "room.py").write_text(
        "from looptap.resources import Metric, Reader\n"
        "class RoomReader(Reader):\n"
        "    metrics = (Metric('system.room.temperature', 'celsius', 'of the room'),)\n"
        "    def read(self, now):\n"
        "        return {'system.room.temperature': 21.5}\n"
    )
    package = programs.folder / "room-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: room\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[looptap.readers]\nroom = room:RoomReader\n")
    path = os.pathsep.join([str(programs.folder), os.environ.get("PYTHONPATH", "")])
    assert programs.python(PROGRAM, FOR="0", LOOPTAP_RESOURCES="1", PYTHONPATH=path).returncode == 0
    shown = programs.looptap("show", "--json", PYTHONPATH=path).stdout
    assert '"system.room.temperature"' in shown
    assert '"celsius"' in shown


def test_doctor_says_what_is_read(programs: Programs) -> None:
    """What is read here, what is not and why."""
    lines = programs.looptap(
        "doctor", LOOPTAP_RESOURCES="1", LOOPTAP_DISABLE=ALL_INTEGRATIONS, CUDA_VISIBLE_DEVICES=""
    ).stdout.splitlines()
    (read,) = [line for line in lines if line.startswith("resources: ")]
    assert {"process", "host"} <= set(read.removeprefix("resources: ").split(", "))
    assert any(line.startswith("  - nvidia: ") for line in lines)
    assert (
        "resources: switched off by the setting 'resources'"
        in programs.looptap("doctor", LOOPTAP_DISABLE=ALL_INTEGRATIONS).stdout
    )


def test_a_program_that_stood_still(programs: Programs) -> None:
    """Stopped for a while, as by a suspend or a debugger: the samples after it are over the whole time, and none is absurd."""
    running = programs.start(
        """
        import looptap, os, time
        looptap.autolog()
        looptap.log_metric("loss", 1.0)
        print("up", flush=True)
        end = time.process_time() + 2.5
        while time.process_time() < end:
            sum(range(50_000))
            time.sleep(0.001)  # lets the sampler in, on a machine that is busy with other things as well
        """,
        LOOPTAP_RESOURCES="1",
    )
    assert running.stdout is not None
    running.stdout.readline()
    time.sleep(0.5)
    running.send_signal(signal.SIGSTOP)
    time.sleep(2.0)
    running.send_signal(signal.SIGCONT)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 0, errors
    metrics = programs.record()["metrics"]
    assert metrics["system.process.cpu"]["count"] >= 2
    assert 0 <= metrics["system.process.cpu"]["min"] <= metrics["system.process.cpu"]["max"] <= 130
    assert all(metric["min"] >= 0 for metric in metrics.values())


def test_a_forked_child_does_not_sample(programs: Programs) -> None:
    """It is of its parent's process tree, and adds its own points to the run and no samples."""
    done = programs.python(
        """
        import os, time
        import looptap
        looptap.autolog()
        looptap.log_metric("loss", 1.0)
        time.sleep(0.3)
        if os.fork() == 0:
            looptap.log_metric("child", 1.0)
            time.sleep(1.2)
            looptap.flush()
            os._exit(0)
        os.wait()
        """,
        LOOPTAP_RESOURCES="1",
    )
    assert done.returncode == 0, done.stderr
    metrics = programs.record()["metrics"]
    assert "child" in metrics
    samples = metrics["system.process.processes"]
    assert samples["max"] == 2
    assert samples["last_step"] == samples["count"] - 1


def test_ranks_of_a_host(programs: Programs) -> None:
    """Each process of a job tells of its own tree; what belongs to the host is told once."""

    def start(rank: str) -> subprocess.Popen[str]:
        return programs.start(
            PROGRAM,
            FOR="1.2",
            LOOPTAP_RESOURCES="1",
            RANK=rank,
            LOCAL_RANK=rank,
            WORLD_SIZE="2",
            LOCAL_WORLD_SIZE="2",
            TORCHELASTIC_RUN_ID="x" * 40,
        )

    for process in (start("0"), start("1")):
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    keys = set(programs.record()["metrics"])
    assert {"system.process.memory", "system.process.memory{rank=1}", "system.memory.used"} <= keys
    assert "system.memory.used{rank=1}" not in keys
