"""Disks that are full or fail, with real files and real system calls (cases 25 and 26)."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.journal.scenes import Store, assert_conserved, folder_of, new_writer, point, steps
from looptap.journal import ring
from looptap.journal import writer as writing
from looptap.journal.courier import Courier
from looptap.journal.reader import JournalReader

TESTS = str(Path(__file__).resolve().parents[2])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip("cannot mount a small file system here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_full_disk_is_survived_and_left_behind(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk records wait in memory; when room is made they follow, in order, and nothing is lost (case 25)."""
    monkeypatch.setattr(writing, "RETRY_SECONDS", 0.0)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(700_000))
    writer = new_writer(small_disk / "journal", min_free=0.0)
    filled = 0
    while "No space left" not in (writer.problem or ""):
        writer.append(point(filled))
        filled += 1
    for step in range(filled, filled + 500):
        writer.append(point(step))
    assert len(writer.waiting(0)[1]) == 1 + 500
    ballast.unlink()
    writer.append(point(filled + 500))
    assert writer.problem is None
    assert writer.waiting(0)[1] == []
    store = Store()
    courier = Courier("run-1", writer.journal, store, JournalReader(folder_of(writer)), writer)
    while courier.deliver_next():
        pass
    assert store.steps() == list(range(filled + 501))
    assert_conserved(writer.position, store, writer.journal)


def test_store_is_fed_from_memory_while_the_disk_is_full(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full journal disk does not keep records from a store elsewhere, and delivering empties the disk again (case 25)."""
    monkeypatch.setattr(writing, "RETRY_SECONDS", 0.0)
    writer = new_writer(small_disk / "journal", min_free=0.0, segment_bytes=200_000)
    store = Store()
    courier = Courier("run-1", writer.journal, store, JournalReader(folder_of(writer)), writer)
    for step in range(75_000):
        writer.append(point(step))
        if step % 25_000 == 24_999:
            assert writer.problem is not None
            while courier.deliver_next():
                pass
    while courier.deliver_next():
        pass
    assert store.steps() == list(range(75_000))
    assert writer.dropped == {}
    writer.append(point(75_000))
    assert writer.problem is None
    assert_conserved(writer.position - 1, store, writer.journal)


def test_what_memory_cannot_hold_is_counted(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Disk full for long and no delivery: memory stays bounded and every lost point is counted (case 25)."""
    monkeypatch.setattr(ring, "RING_BYTES", 20_000)
    writer = new_writer(small_disk / "journal", min_free=0.0)
    for step in range(30_000):
        writer.append(point(step))
    store = Store()
    courier = Courier("run-1", writer.journal, store, JournalReader(folder_of(writer)), writer)
    while courier.deliver_next():
        pass
    assert writer.dropped["journal_full"] > 1000
    assert len(store.points) == 30_000 - writer.dropped["journal_full"]
    assert store.steps() == sorted(set(store.steps()))
    assert_conserved(writer.position, store, writer.journal)


def test_file_size_limit_is_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RLIMIT_FSIZE, which needs no privileges: the segment at the limit is closed and the next one takes over (case 25)."""
    monkeypatch.setattr(writing, "RETRY_SECONDS", 0.0)
    writer = new_writer(tmp_path / "journal")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        for step in range(1000):
            writer.append(point(step))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    store = Store()
    courier = Courier("run-1", writer.journal, store, JournalReader(folder_of(writer)), writer)
    while courier.deliver_next():
        pass
    assert store.steps() == list(range(1000))
    assert_conserved(writer.position, store, writer.journal)


def test_disk_that_stays_full_collects_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often a write is tried in vain, no file is left behind for it."""
    monkeypatch.setattr(writing, "RETRY_SECONDS", 0.0)
    writer = new_writer(tmp_path / "journal")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, before[1]))  # room for a header and a torn frame
    try:
        for step in range(100):
            writer.append(point(step))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(list(folder_of(writer).glob("*.ltj"))) == 1
    writer.append(point(100))
    assert steps(folder_of(writer)) == list(range(101))


_SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static unsigned state = 26;
static unsigned dice(unsigned sides) { state = state * 1664525u + 1013904223u; return (state >> 8) % sides; }

static int is_ours(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return strstr(path, ".ltj") || strstr(path, "cursor");
}

ssize_t write(int fd, const void *data, size_t size) {
    ssize_t (*real)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
    if (is_ours(fd)) {
        unsigned throw = dice(100);
        if (throw == 0) { errno = EIO; return -1; }
        if (throw == 1) { errno = EINTR; return -1; }
        if (throw == 2) return real(fd, data, size / 2);
        if (throw == 3) { real(fd, data, size); errno = EIO; return -1; }
        if (throw == 4) { real(fd, data, size / 3); errno = ENOSPC; return -1; }
    }
    return real(fd, data, size);
}

int fsync(int fd) {
    int (*real)(int) = dlsym(RTLD_NEXT, "fsync");
    if (dice(3) == 0) { errno = EIO; return -1; }
    return real(fd);
}
"""


def test_failing_writes_are_written_again(tmp_path: Path) -> None:
    """One write in twenty fails (EIO, interrupted, short, or failed although it was done) and one fsync in three: every record
    is stored once, in order (case 26)."""
    shim = tmp_path / "shim.so"
    (tmp_path / "shim.c").write_text(_SHIM)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(shim), str(tmp_path / "shim.c"), "-ldl"], check=True)
    program = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from agent.journal.scenes import RUN, Store, assert_conserved, folder_of, meta, point, start
        from looptap.journal import writer as writing
        from looptap.journal.courier import Courier
        from looptap.journal.reader import JournalReader
        from looptap.journal.writer import JournalWriter

        writing.RETRY_SECONDS = 0.0
        writer = JournalWriter.create(Path(sys.argv[1]), meta(), segment_bytes=20_000, may_map=False)
        assert writer.folder is not None
        writer.append(start())
        store = Store()
        courier = Courier(RUN, writer.journal, store, JournalReader(writer.folder), writer)
        failures = troubles = 0
        for step in range(20_000):
            writer.append(point(step))
            failures += writer.problem is not None
            if step % 500 == 0:
                while courier.deliver_next():
                    troubles += courier.problem is not None
        while courier.deliver_next():
            pass
        assert failures > 10, failures
        assert troubles > 0, troubles
        assert store.steps() == list(range(20_000))
        assert writer.dropped == {}
        assert_conserved(writer.position, store, writer.journal)
        """
    )
    environment = {**os.environ, "PYTHONPATH": TESTS, "LD_PRELOAD": str(shim)}
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "journal")], env=environment, check=True)
