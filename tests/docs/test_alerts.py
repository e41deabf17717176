"""The table of alerts has the thresholds of the code."""

from __future__ import annotations

import re
from pathlib import Path

from looptap.alerts import losses, machine, not_finite, ranks, steps, telling

PAGE = (Path(__file__).parents[2] / "docs" / "resources.md").read_text(encoding="utf-8")


def numbers(kind: str) -> list[float]:
    row = re.search(rf"^\| `{kind}` \|(.*)", PAGE, re.MULTILINE)
    assert row, kind
    return [float(number) for number in re.findall(r"\d+", row[1])]


def test_the_table() -> None:
    assert numbers("not_finite") == [not_finite.FINITE_AGAIN_VALUES]
    assert numbers("diverging") == [losses.SCATTERS, losses.BLOCK_VALUES]
    in_validation = steps.STALL_FLOOR_IN_VALIDATION_SECONDS / 60
    assert numbers("stall") == [steps.STALL_FLOOR_SECONDS, steps.STALL_TIMES, in_validation]
    idle = [machine.IDLE_PERCENT, machine.IDLE_SECONDS / 60, machine.BUSY_SECONDS, machine.BUSY_PERCENT]
    assert numbers("gpu_idle") == idle
    share = 100 * ranks.LAG_SHARE
    assert numbers("rank_lag") == [share, ranks.LAG_SECONDS, ranks.LAG_SECONDS, share / 2]
    rooms = {"memory": machine.ROOM_IN_MEMORY, "disk": machine.ROOM_ON_DISK}
    for make, kind in (
        (machine.memory_of_container, "memory"),
        (machine.memory_of_host, "memory"),
        (machine.disk, "disk"),
    ):
        one = make("k")
        told = [one.full, rooms[kind] / 2**30, one.from_percent, one.horizon / 60, one.CLEAR_SECONDS, one.clear]
        assert numbers(kind) == told


def test_how_long_telling_takes() -> None:
    assert f"A webhook has {telling.WEBHOOK_SECONDS:.0f} s" in PAGE
    assert f"a command has {telling.COMMAND_SECONDS:.0f} s" in PAGE
