"""The command line of a launcher, changed so that what it starts is recorded."""

from __future__ import annotations

import pytest

from looptap.launchers import through_looptap

RUN = "torch.distributed.run"
OPTIONS = ["--nproc-per-node", "4", "--rdzv-id=7"]


@pytest.mark.parametrize(
    ("given", "changed"),
    [
        ([*OPTIONS, "t.py", "--lr", "1"], [*OPTIONS, "--module", "looptap", "run", "t.py", "--lr", "1"]),
        ([*OPTIONS, "-m", "pkg.train", "-m"], [*OPTIONS, "-m", "looptap", "run", "-m", "pkg.train", "-m"]),
        (["t.py", "t.py", "t.py"], ["--module", "looptap", "run", "t.py", "t.py", "t.py"]),
        (["--no-python", "bash", "t.sh"], ["--no-python", "bash", "t.sh"]),
    ],
)
def test_torchrun(given: list[str], changed: list[str]) -> None:
    """Its own options stay in front, the program's own behind; another program than Python is left alone."""
    assert through_looptap(RUN, given, {"store": None, "quiet": None}) == changed


def test_settings_go_with_it() -> None:
    """What was typed for looptap is typed for each process."""
    settings = {"store": "/a b", "experiment": None, "name": "x", "quiet": True}
    expected = ["--module", "looptap", "run", "--store", "/a b", "--name", "x", "--quiet", "t.py"]
    assert through_looptap(RUN, ["t.py"], settings) == expected


def test_other_modules() -> None:
    """A module that starts nothing gets what was typed."""
    assert through_looptap("http.server", ["8000"], {"quiet": True}) == ["8000"]
