"""Which token goes where, and that none goes anywhere else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from looptap.credentials import is_loopback, token_file, token_for
from looptap.settings import Settings
from looptap.sinks import NeedsUser

LOCAL = "lt_" + "l" * 49
GIVEN = "lt_" + "g" * 49
NEAR = ["http://127.0.0.1:8766", "http://localhost:8766", "https://[::1]:8766", "http://127.8.8.8"]
FAR = ["https://example.org", "http://10.0.0.1:8766", "http://localhost.example.org", "http://127.0.0.1.nip.io:8766"]


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """The file that the first start of a collector leaves."""
    path = tmp_path / "config" / "looptap" / "token"
    path.parent.mkdir(parents=True)
    path.write_text(f"{LOCAL}\n")
    path.chmod(0o600)
    assert token_file() == path
    return path


@pytest.mark.parametrize("address", NEAR)
def test_local_token_stays_here(local: Path, address: str) -> None:
    """A collector on this machine gets the token of the file, where no other is set."""
    assert is_loopback(address)
    assert token_for(address, Settings()) == LOCAL
    assert token_for(address, Settings(token=GIVEN)) == GIVEN
    local.unlink()
    assert token_for(address, Settings()) is None


@pytest.mark.parametrize("address", FAR)
def test_local_token_goes_nowhere_else(local: Path, address: str) -> None:
    """A collector elsewhere does not, whatever its name looks like and whatever is allowed."""
    assert not is_loopback(address)
    assert token_for(address, Settings()) is None
    assert token_for(address, Settings(insecure=True)) is None


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_file_that_others_can_read(local: Path, mode: int) -> None:
    """It is not used, and the line says how to mend that, without what is in it."""
    local.chmod(mode)
    with pytest.raises(NeedsUser, match="chmod 600") as caught:
        token_for(NEAR[0], Settings())
    assert LOCAL not in str(caught.value)


def test_file_that_is_none(local: Path) -> None:
    """Neither a link, nor a pipe, nor a folder, nor what holds no token is read."""
    other = local.with_name("other")
    os.rename(local, other)
    local.symlink_to(other)
    with pytest.raises(NeedsUser, match="cannot be read"):
        token_for(NEAR[0], Settings())
    local.unlink()
    os.mkfifo(local, 0o600)
    with pytest.raises(NeedsUser, match="not a file of this user"):
        token_for(NEAR[0], Settings())
    local.unlink()
    local.mkdir()
    with pytest.raises(NeedsUser):
        token_for(NEAR[0], Settings())
    local.rmdir()
    for content in (b"two\nlines", "lt_täuschung".encode(), b"a\r\nX-Header: b"):
        local.write_bytes(content)
        local.chmod(0o600)
        with pytest.raises(NeedsUser, match="holds no token"):
            token_for(NEAR[0], Settings())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_file_of_another_user(local: Path) -> None:
    """Somebody else's file is not used."""
    os.chown(local, 65534, -1)
    with pytest.raises(NeedsUser, match="not a file of this user"):
        token_for(NEAR[0], Settings())


def test_plain_http_to_another_machine() -> None:
    """The token is not sent where anybody on the way can read it, unless that is asked for."""
    with pytest.raises(NeedsUser, match="LOOPTAP_INSECURE=1") as caught:
        token_for("http://10.0.0.1:8766", Settings(token=GIVEN))
    assert GIVEN not in str(caught.value)
    assert token_for("http://10.0.0.1:8766", Settings(token=GIVEN, insecure=True)) == GIVEN
    assert token_for("https://10.0.0.1:8766", Settings(token=GIVEN)) == GIVEN


def test_token_belongs_to_one_collector() -> None:
    """The token of one collector is not sent to another, whose journals may lie on the same machine."""
    here = Settings(token=GIVEN, store="https://one.example.org")
    assert token_for("https://one.example.org:443/under/a/path", here) == GIVEN
    assert token_for("https://two.example.org", here) is None
    assert token_for("https://one.example.org:8443", here) is None
    assert token_for("https://two.example.org", Settings(token=GIVEN)) == GIVEN


def test_token_is_not_shown() -> None:
    """Printing the settings does not print it."""
    assert GIVEN not in repr(Settings(token=GIVEN))
