"""Files of the kernel that stay open, against the same files opened anew."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from looptap.resources.kernel_files import KernelFiles, content, number


def held() -> set[str]:
    """What this process has open below ``/proc``, but for the folder that this is read from."""
    told = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            told.add(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:
            continue
    return {name for name in told if name.startswith("/proc/") and not name.endswith("/fd")}


@pytest.fixture
def files() -> Iterator[KernelFiles]:
    kept = KernelFiles(most=2)
    yield kept
    kept.close()


def test_what_it_holds_now(files: KernelFiles, tmp_path: Path) -> None:
    """Longer, shorter, and empty, each time from its beginning, and it was opened once."""
    path = tmp_path / "counter"
    for text in (b"5\n", b"1234567\n", b"6\n", b"", b"x" * 100_000 + b"\n"):
        path.write_bytes(text)
        assert files.content(str(path)) == content(str(path)) == text
    children = [subprocess.Popen(["sleep", "600"])]
    listed = f"/proc/{os.getpid()}/task/{os.getpid()}/children"
    assert str(children[0].pid) in files.content(listed).decode().split()
    children.append(subprocess.Popen(["sleep", "600"]))
    assert {str(child.pid) for child in children} <= set(files.content(listed).decode().split())
    for child in children:
        child.kill()
        child.wait()


def test_a_list_of_several_pages(files: KernelFiles) -> None:
    """The kernel gives a page at a time; all of it is read."""
    code = """
import mmap, sys
kept = [mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE * (at % 2)) for at in range(300)]
print(flush=True)
sys.stdin.readline()
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as child:  # type: ignore[call-overload]
        child.stdout.readline()
        path = f"/proc/{child.pid}/maps"
        whole = Path(path).read_bytes()
        assert len(whole) > 2 * os.sysconf("SC_PAGE_SIZE")
        assert files.content(path) == files.content(path) == content(path) == whole
        child.communicate(b"\n")


def test_no_more_than_so_many_stay_open(files: KernelFiles) -> None:
    """What comes too late is read all the same. Those that nobody asks for any more are closed, and make room."""
    before = held()
    for name in ("stat", "status", "io"):
        assert files.content(f"/proc/self/{name}")
    own = f"/proc/{os.getpid()}"
    assert held() - before == {f"{own}/stat", f"{own}/status"}
    files.close_unused()
    files.content("/proc/self/status")
    files.close_unused()
    files.content("/proc/self/io")
    assert held() - before == {f"{own}/status", f"{own}/io"}
    files.close()
    assert held() == before


def test_of_a_process_that_has_ended(files: KernelFiles) -> None:
    """An error as for a file that is not there, again and again."""
    child = subprocess.Popen(["sleep", "600"])
    path = f"/proc/{child.pid}/stat"
    assert files.content(path)
    child.kill()
    child.wait()
    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            files.content(path)
    assert path not in held()


def test_a_number_that_was_taken_by_a_file_of_the_program(files: KernelFiles, tmp_path: Path) -> None:
    """A program that closes whatever is open may get our numbers for its own files: those are not closed."""
    ours = os.open(os.devnull, os.O_RDONLY)
    os.close(ours)
    files.content("/proc/meminfo")
    assert os.readlink(f"/proc/self/fd/{ours}") == "/proc/meminfo"
    os.close(ours)
    theirs = os.open(tmp_path / "theirs", os.O_RDWR | os.O_CREAT)
    assert theirs == ours
    files.close()
    assert os.write(theirs, b"still open") == 10
    os.close(theirs)


def test_a_forked_child_has_none_of_them(files: KernelFiles) -> None:
    """Data-loader workers are forks. The parent's stay open."""
    ours = os.open(os.devnull, os.O_RDONLY)
    os.close(ours)
    files.content("/proc/meminfo")
    assert os.readlink(f"/proc/self/fd/{ours}") == "/proc/meminfo"
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, b"held" if os.path.lexists(f"/proc/self/fd/{ours}") else b"none")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 4) == b"none"
    assert os.readlink(f"/proc/self/fd/{ours}") == "/proc/meminfo"
    os.close(reading)
    os.close(writing)


def test_that_nobody_has_any_more() -> None:
    """What is forgotten without being closed leaves nothing open."""
    before = held()
    kept = KernelFiles(most=2)
    kept.content("/proc/self/stat")
    assert held() - before == {f"/proc/{os.getpid()}/stat"}
    del kept
    assert held() == before


def test_numbers_of_lines() -> None:
    """By how the line begins, the first and the last one included; a name that is the end of another one is not meant."""
    told = b"usage 5\nnr_usage 6\nVmSwap:\t     12 kB\nlast 7"
    assert [number(told, title) for title in (b"usage ", b"VmSwap:", b"last ", b"none ")] == [5, 12, 7, None]
