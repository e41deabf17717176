"""The mapped end of a segment: as safe as a write call, and gone without a trace when the segment is closed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.journal.scenes import contents, folder_of, new_writer, point, steps
from looptap.journal.folder import segments
from looptap.journal.reader import JournalReader, tail_position
from looptap.journal.window import Window, can_map


@pytest.fixture(autouse=True)
def mappable(tmp_path: Path) -> None:
    if not can_map(tmp_path):
        pytest.skip("the file system of the test folder is none that is mapped")


def size_of(folder: Path) -> int:
    return sum((folder / segment.name).stat().st_size for segment in segments(folder))


def test_records_are_in_the_file_at_once(tmp_path: Path) -> None:
    """Another reader finds each record as soon as append has returned; behind the last there are zeros."""
    writer = new_writer(tmp_path / "journal")
    folder = folder_of(writer)
    reader = JournalReader(folder)
    assert len(reader.read(2**20)) == 1
    for step in range(1000):
        writer.append(point(step))
        assert [seq for seq, _, _ in reader.read(2**20)] == [step + 1]
    assert tail_position(folder) == 1001
    (segment,) = segments(folder)
    assert (folder / segment.name).read_bytes().endswith(bytes(100))


def test_closing_cuts_the_zeros_off(tmp_path: Path) -> None:
    """A closed segment ends with its last record, and so does one that was full."""
    writer = new_writer(tmp_path / "journal", segment_bytes=20_000)
    for step in range(2000):
        writer.append(point(step))
    folder = folder_of(writer)
    writer.close()
    assert len(segments(folder)) > 2
    for segment in segments(folder):
        assert not (folder / segment.name).read_bytes().endswith(bytes(9))
    assert steps(folder) == list(range(2000))


def test_big_records_cross_windows(tmp_path: Path) -> None:
    """Records of every size up to several windows find their place."""
    writer = new_writer(tmp_path / "journal")
    for step in range(60):
        writer.append(point(step, **{f"{index:0200d}": 1.0 for index in range(step * 40)} | {"loss": 0.5}))
    writer.close()
    assert steps(folder_of(writer)) == list(range(60))


def test_without_room_for_a_window_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no window can be allocated, write calls go on from exactly where the file ended."""
    allocate, calls = os.posix_fallocate, 0

    def until_the_second(fd: int, start: int, length: int) -> None:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise OSError(28, "No space left on device")
        allocate(fd, start, length)

    # The disk cannot be filled to the byte from here; a small tmpfs really is in test_disk.py.
    monkeypatch.setattr(os, "posix_fallocate", until_the_second)
    writer = new_writer(tmp_path / "journal")
    for step in range(10_000):
        writer.append(point(step))
    assert calls == 2
    assert writer.problem is None
    assert writer.dropped == {}
    folder = folder_of(writer)
    assert steps(folder) == list(range(10_000))
    writer.close()
    assert steps(folder) == list(range(10_000))


def test_child_leaves_the_parents_file_alone(tmp_path: Path) -> None:
    """A forked child that gives the journal up cuts nothing off what the parent goes on to write."""
    writer = new_writer(tmp_path / "journal")
    writer.append(point(0))
    before = size_of(folder_of(writer))
    pid = os.fork()
    if pid == 0:
        writer.abandon_in_child()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert size_of(folder_of(writer)) == before
    writer.append(point(1))
    writer.close()
    assert steps(folder_of(writer)) == [0, 1]


def test_killed_process_leaves_zeros_that_are_no_records(tmp_path: Path) -> None:
    """After SIGKILL the segment still has its zeros; a reader takes the records and nothing else, and they are no gap."""
    program = (
        "import os, signal, sys\nfrom pathlib import Path\n"
        "from agent.journal.scenes import new_writer, point\n"
        "writer = new_writer(Path(sys.argv[1]))\n"
        "for step in range(500):\n    writer.append(point(step))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    tests = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "journal")], env={**os.environ, "PYTHONPATH": str(tests)}
    )
    assert done.returncode == -signal.SIGKILL
    (folder,) = (tmp_path / "journal").iterdir()
    assert [record for _, _, record in contents(folder)][-1].step == 499  # type: ignore[union-attr]
    assert tail_position(folder) == 501


def test_window_is_allocated_on_disk(tmp_path: Path) -> None:
    """What is mapped has its blocks already: a write into it cannot find the disk full."""
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    opened = Window(fd, 100, 50_000)
    try:
        assert os.fstat(fd).st_blocks * 512 >= opened.end >= 50_100
        opened.put(49_000, b"there")
        assert os.pread(fd, 5, 49_000) == b"there"
    finally:
        opened.close()
        os.close(fd)


@pytest.mark.parametrize("folder", ["/proc", "/sys"])
def test_unknown_file_systems_are_not_mapped(folder: str) -> None:
    """Only file systems that are known to keep what they have allocated."""
    assert not can_map(Path(folder))


@pytest.fixture
def overlay(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """An overlay, as a container has it for its root, on a small disk with the file system of the parameter."""
    kind = request.param
    image, disk, merged, lower = (tmp_path / name for name in ("image", "disk", "merged", "lower"))
    for folder in (disk, merged, lower):
        folder.mkdir()
    with open(image, "wb") as file:
        file.truncate(320 * 2**20 if kind == "xfs" else 128 * 2**20)
    if kind != "tmpfs":
        subprocess.run([f"mkfs.{kind}", str(image)], check=True, capture_output=True)
    mount = (
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs"] if kind == "tmpfs" else ["mount", "-o", "loop", str(image)]
    )
    if subprocess.run([*mount, str(disk)], capture_output=True).returncode:
        pytest.skip("cannot mount a small file system here")
    try:
        (disk / "upper").mkdir()
        (disk / "work").mkdir()
        options = f"lowerdir={lower},upperdir={disk}/upper,workdir={disk}/work"
        if subprocess.run(
            ["mount", "-t", "overlay", "overlay", "-o", options, str(merged)], capture_output=True
        ).returncode:
            pytest.skip("cannot mount an overlay here")
        yield merged
        subprocess.run(["umount", "-l", str(merged)], check=True)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize(
    ("overlay", "expected"), [("ext4", True), ("xfs", True), ("btrfs", False), ("tmpfs", False)], indirect=["overlay"]
)
def test_overlay_is_what_lies_below(overlay: Path, expected: bool) -> None:
    """In a container: ext4 and xfs are recognised through the overlay, anything else is not mapped."""
    assert can_map(overlay) is expected
    assert list(overlay.iterdir()) == []


@pytest.mark.parametrize("overlay", ["ext4", "xfs"], indirect=True)
def test_full_disk_below_an_overlay_raises_no_signal(overlay: Path) -> None:
    """The disk is filled to the last block while points go into mapped cells: the process lives, and every point is in the journal
    or waits in memory."""
    program = textwrap.dedent(
        """
        import contextlib, os, sys
        from pathlib import Path
        from agent.journal.scenes import Store, assert_conserved, folder_of, new_writer, put
        from looptap.journal import cells
        from looptap.journal.courier import Courier
        from looptap.journal.reader import JournalReader

        writer = new_writer(Path(sys.argv[1]) / "journal", min_free=0.0)
        for step in range(300):
            put(writer, step)
        assert writer.put is not cells.no_cell
        with open(Path(sys.argv[1]) / "ballast", "wb", buffering=0) as ballast:
            for size in (2**20, 2**12, 1):
                with contextlib.suppress(OSError):
                    while True:
                        ballast.write(bytes(size))
        os.sync()
        for step in range(300, 30_000):
            put(writer, step)
        store = Store()
        courier = Courier("run-1", writer.journal, store, JournalReader(folder_of(writer)), writer)
        while courier.deliver_next():
            pass
        assert store.steps() == list(range(30_000))
        assert_conserved(writer.position, store, writer.journal)
        """
    )
    tests = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(tests)}
    done = subprocess.run(
        [sys.executable, "-c", program, str(overlay)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
