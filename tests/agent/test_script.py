"""Constants of the main script: what is one is found, what only looks like one is not."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import msgspec

PROBE = """
import sys, json
from looptap.script import script_constants
from looptap.frames import outward
def show():
    print("FOUND " + json.dumps(script_constants(list(outward(sys._getframe(1))))))
"""


def constants(tmp_path: Path, code: str) -> dict[str, Any]:
    (tmp_path / "probe.py").write_text(PROBE)
    script = tmp_path / "main.py"
    script.write_text("from probe import show\n" + textwrap.dedent(code))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stdout.splitlines() if line.startswith("FOUND "))
    found: dict[str, Any] = msgspec.json.decode(line.removeprefix("FOUND ").encode())
    return found


def test_literals_of_the_module(tmp_path: Path) -> None:
    """Numbers, text, bools, None, small containers of these, and arithmetic."""
    code = """
    LR = 1e-3
    NAME: str = "resnet"
    EPOCHS, BATCH = 3, 2 ** 5
    DEBUG = not True
    NOTHING = None
    betas = (0.9, 0.999)
    config = {"lr": 0.1, "layers": [64, -1]}
    show()
    """
    assert constants(tmp_path, code) == {
        "LR": 0.001,
        "NAME": "resnet",
        "EPOCHS": 3,
        "BATCH": 32,
        "DEBUG": False,
        "NOTHING": None,
        "betas": [0.9, 0.999],
        "config": {"lr": 0.1, "layers": [64, -1]},
    }


def test_what_is_no_constant(tmp_path: Path) -> None:
    """Assigned twice, counted up, bound by a loop, an import, a function or a global statement, changed, private, computed."""
    code = """
    import math as later
    later = 3
    twice = 1
    twice = 2
    step = 0
    step += 1
    for turn in range(2): pass
    _private = 1
    computed = len("abc")
    items = [1]
    items.append(2)
    empty = []
    history = {"loss": [], "val": {"loss": []}}
    shared = 1
    def change():
        global shared
        shared = 1
    if False:
        never = 1
    huge = 10 ** 1000000 if False else 1
    if (walrus := 3): pass
    show()
    """
    assert constants(tmp_path, code) == {}


def test_functions_that_are_running(tmp_path: Path) -> None:
    """Constants of the functions on the stack are found, those of others are not; a function's own name wins."""
    code = """
    import functools
    LR = 0.5
    SIZE = 8
    def decorate(function):
        @functools.wraps(function)
        def inner(): return function()
        return inner
    @decorate
    def train():
        LR = 0.25
        epochs = 4
        show()
    def other():
        unseen = 1
    def main(seed=1):
        width = 16
        train()
    if __name__ == "__main__":
        main()
    """
    assert constants(tmp_path, code) == {"LR": 0.25, "SIZE": 8, "epochs": 4, "width": 16}


def test_a_script_that_cannot_be_read(tmp_path: Path) -> None:
    """Without source there is nothing to find, and nothing to raise."""
    code = """
    import os
    LR = 1
    os.remove(__file__)
    show()
    """
    assert constants(tmp_path, code) == {}
