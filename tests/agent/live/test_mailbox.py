"""Requests and answers in the folder of a journal."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.journal.scenes import folder_of, new_writer
from looptap.journal.folder import sweep, try_adopt
from looptap.live import mailbox
from looptap.live.mailbox import Answer, Request


def test_a_request_is_heard_once(tmp_path: Path) -> None:
    assert mailbox.asked(tmp_path) is None
    assert mailbox.ask(tmp_path, Request("a", 2.5))
    assert not mailbox.ask(tmp_path, Request("b", 1)), "one at a time"
    assert mailbox.asked(tmp_path) == Request("a", 2.5)
    assert mailbox.asked(tmp_path) is None
    assert mailbox.ask(tmp_path, Request("b", 1))
    mailbox.take_back(tmp_path)
    mailbox.take_back(tmp_path)
    assert mailbox.asked(tmp_path) is None
    assert os.listdir(tmp_path) == []


def test_the_latest_answer_counts(tmp_path: Path) -> None:
    assert mailbox.answered(tmp_path) is None
    mailbox.answer(tmp_path, Answer("a", mailbox.TAKING))
    told = Answer("a", mailbox.DONE, ("profile/1/x.json",), ("no trace of torch: …",), True)
    mailbox.answer(tmp_path, told)
    assert mailbox.answered(tmp_path) == told


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"id": 1, "seconds": 1}',
        b'{"id": "a", "seconds": 0}',
        b'{"id": "a", "seconds": 1e9}',
        b"\xff" * 9,
    ],
)
def test_what_is_no_request(tmp_path: Path, content: bytes) -> None:
    """Is thrown away, so that the next one is heard."""
    (tmp_path / "beside.request").write_bytes(content)
    assert mailbox.asked(tmp_path) is None
    assert mailbox.ask(tmp_path, Request("a", 1))


def test_links_are_not_followed(tmp_path: Path) -> None:
    """Neither to read a request nor to write an answer."""
    folder = tmp_path / "journal"
    folder.mkdir()
    victim = tmp_path / "victim"
    victim.write_text('{"id": "a", "seconds": 1}')
    (folder / "beside.request").symlink_to(victim)
    assert mailbox.asked(folder) is None
    (folder / "beside.answer").symlink_to(victim)
    mailbox.answer(folder, Answer("a", mailbox.DONE))
    assert victim.read_text() == '{"id": "a", "seconds": 1}'


def test_a_folder_that_has_gone(tmp_path: Path) -> None:
    assert mailbox.asked(tmp_path / "gone") is None
    with pytest.raises(FileNotFoundError):
        mailbox.ask(tmp_path / "gone", Request("a", 1))


@pytest.mark.parametrize("state", ["asked", "being asked", "answered"])
def test_the_journal_goes_with_what_was_written_there(tmp_path: Path, state: str) -> None:
    """Also where the process was killed before it had read or answered, and what an older version could not remove."""
    root = tmp_path / "journal"
    for is_left in (False, True):
        writer = new_writer(root)
        folder = folder_of(writer)
        if state == "answered":
            mailbox.answer(folder, Answer("a", mailbox.DONE))
            (folder / "beside.answer.new").write_bytes(b"{")
        elif state == "asked":
            assert mailbox.ask(folder, Request("a", 1))
        else:
            (folder / "beside.request.a").write_bytes(b"{")
        writer.close()
        if is_left:
            folder.rename(root / f".{folder.name}.gone")
            sweep(root)
        else:
            owned = try_adopt(folder)
            assert owned is not None
            owned.remove()
        assert list(root.iterdir()) == []
