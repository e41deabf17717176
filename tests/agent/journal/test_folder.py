"""Whose folder it is, and where none can be (case 27)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.journal.scenes import folder_of, meta, new_writer, point, start, steps
from looptap.journal.folder import Cursor, find_journals, read_cursor, read_meta, try_adopt, write_cursor
from looptap.journal.writer import JournalWriter


def symlink(path: Path) -> None:
    (path.parent / "elsewhere").mkdir()
    path.symlink_to(path.parent / "elsewhere")


def plain_file(path: Path) -> None:
    path.write_text("not a folder")


def writable_by_all(path: Path) -> None:
    path.mkdir()
    path.chmod(0o777)


def of_another_user(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    path.mkdir()
    os.chown(path, 12345, 12345)


def read_only(path: Path) -> None:
    path.mkdir()
    if os.geteuid() != 0:
        path.chmod(0o500)
    elif subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(path)], capture_output=True).returncode:
        pytest.skip("root writes everywhere, and cannot mount here")


@pytest.mark.parametrize("spoil", [symlink, plain_file, writable_by_all, of_another_user, read_only])
def test_unusable_root_means_memory_and_one_line(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    """Nothing is written there, nothing is raised, records are kept in memory, and the reason is one line."""
    root = tmp_path / "journal"
    spoil(root)
    try:
        writer = JournalWriter.create(root, meta())
        writer.append(start())
        writer.append(point(0))
        assert writer.folder is None
        assert writer.problem is not None
        assert "\n" not in writer.problem
        assert str(root) in writer.problem
        assert [item.seq for item in writer.waiting(0)[1]] == [0, 1]
        assert root.is_file() or list(root.iterdir()) == []
    finally:
        subprocess.run(["umount", str(root)], capture_output=True)


def test_memory_is_bounded_and_what_it_cannot_hold_is_counted() -> None:
    """Without a disk the newest 4 MiB stay, points go first, and emitted = in memory + dropped."""
    writer = JournalWriter.create(None, meta())
    writer.append(start())
    for step in range(150_000):
        writer.append(point(step))
    position, waiting = writer.waiting(0)
    assert sum(len(item.payload) for item in waiting) <= 4 * 2**20
    assert waiting[0].seq == 0, "the start of the run is never given up for points"
    assert waiting[-1].seq == 150_000
    assert position == len(waiting) + writer.dropped["journal_full"]


def test_living_owner_keeps_its_journal(tmp_path: Path) -> None:
    """The lock is held while the writer is open and free after it has closed."""
    writer = new_writer(tmp_path / "journal")
    assert try_adopt(folder_of(writer)) is None
    writer.close()
    owned = try_adopt(folder_of(writer))
    assert owned is not None
    assert try_adopt(folder_of(writer)) is None, "one adopter at a time"
    owned.remove()
    assert find_journals(tmp_path / "journal") == []
    assert try_adopt(folder_of(writer)) is None, "it is gone"


def test_meta_survives(tmp_path: Path) -> None:
    """What the folder says of its owner is what the owner said."""
    written = meta("/somewhere/.looptap")
    writer = JournalWriter.create(tmp_path / "journal", written)
    assert read_meta(folder_of(writer)) == written


@pytest.mark.parametrize("content", [b"", b"{", b"\0" * 64, b'{"next":-3}', b'{"next":"x"}', b"\xff\xfe"])
def test_damaged_cursor_is_the_beginning(tmp_path: Path, content: bytes) -> None:
    """A cursor that cannot be read counts as 0; the next commit replaces it."""
    (tmp_path / "cursor").write_bytes(content)
    assert read_cursor(tmp_path) == Cursor(0, False)
    write_cursor(tmp_path, Cursor(7, True), durable=True)
    assert read_cursor(tmp_path) == Cursor(7, True)


def test_symlinked_segment_is_not_followed(tmp_path: Path) -> None:
    """A link in place of a segment is neither read through nor written through."""
    writer = new_writer(tmp_path / "journal", segment_bytes=200)
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    for name in (f"{number:020d}.ltj" for number in range(2, 30)):
        (folder_of(writer) / name).symlink_to(target)
    for step in range(10):
        writer.append(point(step))
    assert target.read_bytes() == b"precious"
    for path in folder_of(writer).glob("*.ltj"):
        if path.is_symlink():
            path.unlink()
    assert steps(folder_of(writer)) == list(range(10))
