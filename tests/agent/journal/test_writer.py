"""The writer: fast when all is well, in order and counted when it is not."""

from __future__ import annotations

import gc
import os
import signal
import stat
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from types import FrameType

import pytest

from agent.journal.scenes import contents, folder_of, meta, new_writer, point, put, start, steps
from looptap.events import Dropped, Points, RunStarted
from looptap.journal import cells
from looptap.journal import writer as writing
from looptap.journal.folder import segments, try_adopt
from looptap.journal.reader import tail_position
from looptap.journal.writer import JournalWriter


def test_what_was_appended_is_read_back_in_order(tmp_path: Path) -> None:
    """Records come back as they were, each under the number that it took."""
    writer = new_writer(tmp_path / "journal")
    writer.append(point(0, loss=1.5, accuracy=float("nan")), 2)
    writer.append(point(1, loss=float("-inf")))
    found = contents(folder_of(writer))
    assert [(seq, count) for seq, count, _ in found] == [(0, 1), (1, 2), (3, 1)]
    assert isinstance(found[0][2], RunStarted)
    assert isinstance(found[1][2], Points)
    assert repr(found[1][2].values) == "{'loss': 1.5, 'accuracy': nan}"
    assert writer.position == 4


def test_folder_is_private(tmp_path: Path) -> None:
    """The folder is 0700 and every file in it 0600, whatever the umask."""
    before = os.umask(0)
    try:
        folder = folder_of(new_writer(tmp_path / "journal"))
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_segments_are_named_after_their_first_record(tmp_path: Path) -> None:
    """A full segment is followed by one whose name is the next number, and nothing is lost between."""
    writer = new_writer(tmp_path / "journal", segment_bytes=4096)
    for step in range(1000):
        writer.append(point(step))
    folder = folder_of(writer)
    found = segments(folder)
    assert len(found) > 5
    assert steps(folder) == list(range(1000))
    assert all(contents(folder, first=segment.first)[0][0] == segment.first for segment in found)


def test_dropped_records_leave_a_gap_with_a_reason(tmp_path: Path) -> None:
    """A drop takes its numbers, and the totals stand in the journal before what follows the gap."""
    writer = new_writer(tmp_path / "journal")
    writer.drop("not_a_number", 3)
    writer.append(point(7))
    found = contents(folder_of(writer))
    assert found[1] == (4, 0, Dropped({"not_a_number": 3}))
    assert found[2][0] == 4
    assert writer.position == 5


def test_signal_handler_may_append_in_the_middle_of_an_append(tmp_path: Path) -> None:
    """Appends of a handler that interrupts an append neither block nor mix with it, and none is lost."""
    writer = new_writer(tmp_path / "journal")
    handled = 0

    def handler(number: int, frame: FrameType | None) -> None:
        nonlocal handled
        handled += 1
        writer.append(point(-handled))

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        step = 0
        while handled < 300:
            writer.append(point(step))
            step += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    found = steps(folder_of(writer))
    assert [each for each in found if each >= 0] == list(range(step))
    # On a busy machine a handler is itself interrupted by the next one.
    assert sorted(each for each in found if each < 0) == list(range(-handled, 0))
    assert tail_position(folder_of(writer)) == writer.position == 1 + step + handled


@pytest.mark.parametrize("in_cells", [False, True])
def test_interrupted_appends_leave_a_usable_writer(tmp_path: Path, in_cells: bool) -> None:
    """Ctrl-C at any instant inside append or put: what returned is in the journal once, and the writer goes on."""
    writer = new_writer(tmp_path / "journal", segment_bytes=20_000)
    acknowledged: list[int] = []
    interrupts = 0
    deadline = 400

    def handler(number: int, frame: FrameType | None) -> None:
        inside = frame
        while inside is not None and inside.f_code.co_filename not in (writing.__file__, cells.__file__):
            inside = inside.f_back
        if inside is not None:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, handler)
    gc.disable()  # an interrupt in somebody's gc callback reaches nobody
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0003)
    step = 0
    try:
        while interrupts < deadline:
            payload = point(step)
            try:
                if in_cells and step % 200:
                    put(writer, step)
                else:
                    writer.append(payload)
            except KeyboardInterrupt:
                interrupts += 1
            else:
                acknowledged.append(step)
            step += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        gc.enable()
    writer.append(point(step))
    acknowledged.append(step)
    found = steps(folder_of(writer))
    assert len(found) == len(set(found))
    assert found == sorted(found)
    assert set(acknowledged) <= set(found)
    assert tail_position(folder_of(writer)) == writer.position


def test_threads_append_side_by_side(tmp_path: Path) -> None:
    """Four threads lose nothing and no number is used twice."""
    writer = new_writer(tmp_path / "journal", segment_bytes=50_000)

    def work(base: int) -> None:
        for step in range(base, base + 2000):
            writer.append(point(step))

    threads = [threading.Thread(target=work, args=(base,)) for base in range(0, 8000, 2000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(steps(folder_of(writer))) == list(range(8000))
    assert writer.position == 8001


def test_forked_child_leaves_the_journal_to_its_parent(tmp_path: Path) -> None:
    """A child that abandons the journal writes nothing into it, and the parent keeps the lock."""
    writer = new_writer(tmp_path / "journal")
    child = os.fork()
    if child == 0:
        writer.abandon_in_child()
        writer.append(point(99))
        os._exit(0)
    os.waitpid(child, 0)
    assert try_adopt(folder_of(writer)) is None
    writer.append(point(0))
    assert steps(folder_of(writer)) == [0]


def test_two_processes_of_one_run_are_apart(tmp_path: Path) -> None:
    """Two processes with the same run and journal root write side by side and neither sees the other's records (case 24)."""
    program = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from agent.journal.scenes import new_writer, point
        writer = new_writer(Path(sys.argv[1]), segment_bytes=20_000)
        for step in range(int(sys.argv[2]), int(sys.argv[2]) + 3000):
            writer.append(point(step))
        print(writer.folder, flush=True)
        sys.stdin.read()
        """
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / "journal"), str(base)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": _TESTS},
        )
        for base in (0, 10_000)
    ]
    try:
        for base, process in zip((0, 10_000), processes, strict=True):
            assert process.stdout is not None
            folder = Path(process.stdout.readline().strip())
            assert steps(folder) == list(range(base, base + 3000))
            assert try_adopt(folder) is None, "its owner lives"
    finally:
        for process in processes:
            process.communicate()


def test_over_the_limit_points_stop_and_the_rest_goes_on(tmp_path: Path) -> None:
    """A journal at its size limit drops points, counted; other records are still written."""
    writer = new_writer(tmp_path / "journal", segment_bytes=4096, max_bytes=8192)
    for step in range(1000):
        writer.append(point(step))
    writer.append(start())
    written = steps(folder_of(writer))
    assert 100 < len(written) < 1000
    assert writer.dropped == {"journal_full": 1000 - len(written)}
    assert writer.problem is not None
    assert isinstance(contents(folder_of(writer))[-1][2], RunStarted)
    assert writer.position == 1002 == 2 + len(written) + writer.dropped["journal_full"]


def test_full_journal_does_not_grow_by_what_it_refuses(tmp_path: Path) -> None:
    """Once the limit is reached, refused points leave no bytes behind; the sender's visit writes their totals once."""
    writer = new_writer(tmp_path / "journal", segment_bytes=4096, max_bytes=8192)
    while not writer.dropped:
        writer.append(point(0))
    folder = folder_of(writer)
    before = sum(path.stat().st_size for path in folder.iterdir())
    for _ in range(1000):
        writer.append(point(0))
    assert sum(path.stat().st_size for path in folder.iterdir()) == before
    writer.settle()
    writer.settle()
    assert contents(folder)[-1] == (writer.position, 0, Dropped({"journal_full": 1001}))
    assert sum(path.stat().st_size for path in folder.iterdir()) < before + 100


def test_room_again_means_points_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When delivered segments go, the journal takes points again, and says so by having no problem."""
    monkeypatch.setattr(writing, "RETRY_SECONDS", 0.0)
    writer = new_writer(tmp_path / "journal", segment_bytes=4096, max_bytes=8192, may_map=False)
    for step in range(1000):
        writer.append(point(step))
    assert writer.problem is not None
    folder = folder_of(writer)
    for segment in segments(folder)[:-1]:
        (folder / segment.name).unlink()
    writer.append(point(5000))
    assert steps(folder)[-1] == 5000
    assert writer.problem is None


def test_record_beyond_all_sense_is_dropped(tmp_path: Path) -> None:
    """A record of more than 16 MiB is counted as too_large, and its neighbours are written."""
    writer = new_writer(tmp_path / "journal")
    writer.append(b"\x95" + bytes(16 * 2**20))
    writer.append(point(1))
    assert steps(folder_of(writer)) == [1]
    assert writer.dropped == {"too_large": 1}


def test_after_close_records_are_counted(tmp_path: Path) -> None:
    """A late record changes nothing on disk and is counted as closed."""
    writer = new_writer(tmp_path / "journal")
    writer.close()
    writer.append(point(1))
    writer.close()
    assert writer.dropped == {"closed": 1}
    assert steps(folder_of(writer)) == []


def test_without_a_root_records_stay_in_memory() -> None:
    """No home folder: one line says so, and records wait in memory for the sender."""
    writer = JournalWriter.create(None, meta())
    writer.append(point(1))
    assert writer.folder is None
    assert writer.problem is not None
    assert "\n" not in writer.problem
    assert len(writer.waiting(0)[1]) == 1


_TESTS = str(Path(__file__).resolve().parents[2])
