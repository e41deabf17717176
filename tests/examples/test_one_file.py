"""The example of docs/backends.md is a backend like any other, and lives through what can happen to a file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from looptap.events import Param
from looptap_collector.backend import Backend, Outcome, TokenStore, Unavailable
from looptap_collector.testing.backend import BackendContract, Reopen, TokenContract
from looptap_collector.testing.batches import Journal, points, started, told, write
from scripts import load

EXAMPLE = Path(__file__).parents[2] / "examples" / "backends" / "one_file.py"


one_file = load(EXAMPLE)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.looptap"


@pytest.fixture
def reopen(path: Path) -> Iterator[Reopen]:
    opened: list[Backend] = []

    def open_another() -> Backend:
        opened.append(one_file.OneFile(path))
        return opened[-1]

    yield open_another
    for backend in opened:
        backend.close()


@pytest.fixture
def backend(reopen: Reopen) -> Backend:
    return reopen()


@pytest.fixture
def tokens(backend: Backend) -> TokenStore:
    return backend  # type: ignore[return-value]


class TestContract(BackendContract):
    pass


class TestTokens(TokenContract):
    pass


def test_it_is_short() -> None:
    """An example is read from the first line to the last one."""
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) < 150


def test_what_is_written_is_there_when_it_is_opened_again(backend: Backend, reopen: Reopen) -> None:
    """Values that are odd, whole numbers of any size, what others concluded, and what was deleted."""
    first, second = Journal("j1", "r1"), Journal("j2", "r2")
    write(backend, first.batch(started("r1"), Param("p", -(2**70), "user", 1), series=[points("x", [1], [-0.0])]))
    write(backend, second.batch(started("r2")))
    backend.set_status("r1", "lost", ended_ns=5)
    assert backend.delete_run("r2")
    again = reopen()
    assert list(again.runs()) == list(backend.runs())
    assert [row.status for row in again.runs()] == ["lost"]
    assert [row.value for row in again.params("r1")] == [-(2**70)]
    assert str(again.history("r1", "x", {}).values[0]) == "-0.0"
    assert again.position("j2") == 0


def test_what_a_killed_writer_left_is_nothing(path: Path, backend: Backend, reopen: Reopen) -> None:
    """Cut off anywhere in the last frame, with the end not yet moved: the batch is not there, and can be sent again."""
    journal = Journal()
    write(backend, journal.batch(started()))
    before = path.read_bytes()
    last = journal.batch(series=[points("x", range(100), [0.5] * 100)])
    write(backend, last)
    frame = path.read_bytes()[len(before) :]
    for size in (1, 11, 12, 13, len(frame) // 2, len(frame)):
        path.write_bytes(before + frame[:size])
        opened = reopen()
        assert opened.position("j1") == 1
        assert write(opened, last) is Outcome.STORED
        assert told(reopen().history("r1", "x", {}))["steps"] == list(range(100))
    assert path.read_bytes() == before[:8] + path.read_bytes()[8:16] + before[16:] + frame


WRITER = """
import importlib.util, sys
from looptap_collector.testing.batches import Journal, points, started, write

spec = importlib.util.spec_from_file_location("one_file", sys.argv[1])
one_file = importlib.util.module_from_spec(spec)
spec.loader.exec_module(one_file)
backend, journal = one_file.OneFile(sys.argv[2]), Journal("j" + sys.argv[3])
write(backend, journal.batch(started()))
while True:
    start = journal.next
    write(backend, journal.batch(series=[points("x" + sys.argv[3], range(start, start + 3_000), [0.5] * 3_000)]))
    print(journal.next, flush=True)
"""


def test_writers_that_are_killed(path: Path, backend: Backend) -> None:
    """Two at once, killed in the middle of it: what was answered is there, each batch once, and the store goes on."""
    answered = {0: 0, 1: 0}
    for turn in range(3):
        programs = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, str(EXAMPLE), str(path), f"{turn}-{number}"], stdout=subprocess.PIPE
            )
            for number in answered
        ]
        for number, program in enumerate(programs):
            assert program.stdout is not None
            for _ in range(5 + turn):
                answered[number] = int(program.stdout.readline())
        for program in programs:
            os.kill(program.pid, signal.SIGKILL)
        for number, program in enumerate(programs):
            rest = program.communicate()[0].split()
            answered[number] = int(rest[-1]) if rest else answered[number]
            position = backend.position(f"j{turn}-{number}")
            assert position - answered[number] in (0, 3_000)
            history = backend.history("r1", f"x{turn}-{number}", {})
            assert history.steps.tolist() == list(range(1, position))
    assert write(backend, Journal("after").batch(started())) is Outcome.STORED


def _flip(content: bytes) -> bytes:
    return content[:40] + bytes([content[40] ^ 1]) + content[41:]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_flip, "damaged at byte 16"),
        (lambda content: content[:-1], "it ends before byte"),
        (lambda content: b"SQLite format 3\0" + content, "not a store"),
        (lambda content: b"x", "it ends before byte"),
    ],
)
def test_damage_is_told(path: Path, backend: Backend, damage: Callable[[bytes], bytes], says: str) -> None:
    """Nothing is answered by halves, and nothing is changed in such a file."""
    write(backend, Journal().batch(started()))
    content = damage(path.read_bytes())
    path.write_bytes(content)
    with pytest.raises(Unavailable, match=says):
        one_file.OneFile(path)
    assert path.read_bytes() == content


def test_a_full_disk(path: Path) -> None:
    """What finds no room is not stored, in memory neither; later it is."""
    program = (
        "import importlib.util, resource, signal, sys\n"
        "from looptap_collector.backend import Unavailable\n"
        "from looptap_collector.testing.batches import Journal, points, started, write\n"
        "spec = importlib.util.spec_from_file_location('one_file', sys.argv[1])\n"
        "one_file = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(one_file)\n"
        "backend, journal = one_file.OneFile(sys.argv[2]), Journal()\n"
        "write(backend, journal.batch(started()))\n"
        "batch = journal.batch(series=[points('x', range(1000), [0.5] * 1000)])\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))\n"
        "for _ in range(2):\n"
        "    try: write(backend, batch)\n"
        "    except Unavailable: print(backend.position('j1'), len(backend.series(['r1'])))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
        "print(write(backend, batch).value, backend.position('j1'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(EXAMPLE), str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["1 0", "1 0", "stored 1001"]
