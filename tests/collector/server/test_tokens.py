"""Tokens from their making to their end."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from collector.server.collectors import Collector
from looptap_collector.server.access import Caller, Scope
from looptap_collector.server.tokens import (
    Keyring,
    UnsafeTokenFile,
    ensure_local_token,
    hash_of,
    is_token,
    new_token,
    row_of,
)
from looptap_collector.stores import open_store
from looptap_collector.testing.batches import Journal, points, started


def test_a_token_knows_its_own_form() -> None:
    """A token ends in a checksum: one changed character, or another word, is no token."""
    token = new_token()
    assert is_token(token)
    assert token.startswith("lt_")
    assert new_token() != token
    for position in range(3, len(token)):
        changed = token[:position] + ("0" if token[position] != "0" else "1") + token[position + 1 :]
        assert not is_token(changed)
    assert not any(is_token(text) for text in ("", "lt_", token + "x", token.upper(), f" {token}", token + "\n"))


def test_first_start_makes_a_token_that_only_the_user_can_read(tmp_path: Path) -> None:
    """The file is 0600 in a 0700 folder; the store has only the hash; a second start changes nothing."""
    store = open_store(str(tmp_path / "store"), create=True)
    path = ensure_local_token(store, tmp_path / "config" / "looptap" / "token")
    token = path.read_text().strip()
    assert is_token(token)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert os.listdir(path.parent) == ["token"]
    (row,) = store.tokens()
    assert (row.name, row.scope, row.hash) == ("local", "admin", hash_of(token))
    assert ensure_local_token(store, path).read_text().strip() == token
    assert len(store.tokens()) == 1
    store.close()
    for file in (tmp_path / "store").iterdir():
        if file.is_file():
            assert token[3:].encode() not in file.read_bytes()


@pytest.mark.parametrize("how", ["readable", "link", "nonsense"])
def test_an_unsafe_token_file_is_refused(tmp_path: Path, how: str) -> None:
    """A file that others could read, a link and a file with something else in it are not used."""
    store = open_store(str(tmp_path / "store"), create=True)
    path = tmp_path / "token"
    real = tmp_path / "real"
    real.write_text(new_token() + "\n" if how != "nonsense" else "hello\n")
    real.chmod(0o600)
    if how == "link":
        path.symlink_to(real)
    else:
        real.rename(path)
    if how == "readable":
        path.chmod(0o644)
    with pytest.raises((UnsafeTokenFile, OSError)):
        ensure_local_token(store, path)
    assert store.tokens() == []
    store.close()


def test_the_keyring_tells_why_not(tmp_path: Path) -> None:
    """Live, expired, revoked and unknown tokens are told apart, and use is noted."""
    store = open_store(str(tmp_path / "store"), create=True)
    live, old, gone = new_token(), new_token(), new_token()
    store.add_token(row_of(live, "alice", Scope.INGEST))
    store.add_token(row_of(old, "bob", Scope.READ, expires_ns=time.time_ns() - 1))
    store.add_token(row_of(gone, "carol", Scope.READ))
    assert store.revoke_token(row_of(gone, "carol", Scope.READ).id, time.time_ns())
    assert not store.revoke_token("nothing", time.time_ns())
    keyring = Keyring(store)
    keyring.refresh()
    found = keyring.caller(live)
    assert isinstance(found, Caller)
    assert (found.name, found.scope) == ("alice", Scope.INGEST)
    assert [keyring.caller(token) for token in (old, gone, new_token(), "x")] == ["expired", "revoked"] + [
        "unknown"
    ] * 2
    keyring._told_used_at = float("-inf")
    keyring.refresh()
    assert {row.name: row.last_used_ns is not None for row in store.tokens()} == {
        "alice": True,
        "bob": False,
        "carol": False,
    }
    store.close()


def test_a_new_token_works_at_once_and_a_revoked_one_soon_does_not(collector: Collector) -> None:
    """Nobody waits for a token that was just made; one that was revoked is refused within a second or so."""
    collector.tokens["new"] = collector.token("alice", "read")
    assert collector.client("new").get("/v1/runs").status_code == 200
    (row,) = [row for row in collector.store.tokens() if row.name == "alice"]
    collector.store.revoke_token(row.id, time.time_ns())
    deadline = time.monotonic() + 10
    while collector.client("new").get("/v1/runs").status_code == 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    refused = collector.client("new").get("/v1/runs")
    assert refused.status_code == 401
    assert "revoked" in refused.json()["error"]["message"]


def test_runs_belong_to_the_name_of_the_token(collector: Collector) -> None:
    """Another name can neither go on with a run, nor with its journal, nor repeat a batch of it; a new token of the same name
    can (rotation)."""
    for name in ("alice", "mallory"):
        collector.tokens[name] = collector.token(name, "ingest")
    journal = Journal()
    first = journal.batch(started())
    assert collector.send(first, "alice").json() == {"outcome": "stored"}
    second = journal.batch(series=[points("loss", [1], [1.0])])
    stranger = Journal("other").batch(started(), series=[points("loss", [1], [6.6])])
    for batch in (first, second, stranger):
        answer = collector.send(batch, "mallory")
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_yours")
    collector.tokens["alice2"] = collector.token("alice", "ingest")
    assert collector.send(second, "alice2").json() == {"outcome": "stored"}
    assert collector.store.history("r1", "loss", {}).values.tolist() == [1.0]


def test_wrong_tokens_are_slowed_down_and_right_ones_are_not(collector: Collector) -> None:
    """Guessing is answered 429 after a while; the good token of the same address works all the time."""
    guesser, good = collector.client(None), collector.client("read")
    answers = [
        guesser.get("/v1/runs", headers={"authorization": f"Bearer {new_token()}"}).status_code for _ in range(60)
    ]
    assert set(answers) == {401, 429}
    assert answers.count(429) > 20
    assert good.get("/v1/runs").status_code == 200


def test_a_token_is_never_taken_from_the_address(collector: Collector) -> None:
    """A token in the query is no token: addresses end up in logs."""
    client = collector.client(None)
    assert client.get("/v1/runs", params={"token": collector.tokens["admin"]}).status_code == 401
    assert client.get("/v1/runs", headers={"cookie": f"token={collector.tokens['admin']}"}).status_code == 401
    assert client.get("/v1/runs", headers={"authorization": f"Basic {collector.tokens['admin']}"}).status_code == 401
