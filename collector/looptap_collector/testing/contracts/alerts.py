"""What runs warned of is kept as it was told, in order, and counted."""

from __future__ import annotations

from typing import Any

import msgspec

from looptap.events import Alert
from looptap_collector.backend import AlertCount, Backend, RunAlert
from looptap_collector.testing.batches import Journal, started, write


def alert(kind: str = "stall", state: str = "fired", time_ns: int = 1, **more: Any) -> Alert:
    return Alert(kind, "warning", state, more.pop("message", "no step for 75 s"), time_ns, **more)


class AlertContract:
    def test_alerts_come_back_as_told(self, backend: Backend) -> None:
        """Every field to the bit; NaN, infinities and -0.0 are values like any other."""
        told = [
            alert("not_finite", key="loss", value=float("nan"), threshold=float("-inf"), step=-(2**63), rank=7),
            msgspec.structs.replace(alert(value=-0.0, threshold=1e-320, step=2**63 - 1), severity="critical"),
            alert(message="ü\n🦦 '; DROP TABLE run; --"),
        ]
        write(backend, Journal().batch(started(), *told))
        found = backend.alerts(runs=["r1"])
        assert [one.run for one in found] == ["r1"] * 3
        # Bit by bit, so that NaN is NaN; of the same time, the latest to arrive comes first.
        assert [msgspec.msgpack.encode(one.alert) for one in found] == [
            msgspec.msgpack.encode(one) for one in told[::-1]
        ]

    def test_the_same_alert_twice_is_two(self, backend: Backend) -> None:
        """Nothing is thrown together: what fired, recovered and fired again did so."""
        journal = Journal()
        write(backend, journal.batch(started(), alert(), alert()))
        write(backend, journal.batch(alert()))
        assert backend.alerts() == [RunAlert("r1", alert())] * 3

    def test_alerts_are_found(self, backend: Backend) -> None:
        """By run and kind, alone and together, the latest first; of the same time by run."""
        for number in range(3):
            run = f"r{number}"
            records = [alert(time_ns=9), alert(state="recovered", time_ns=10 + number), alert("disk", time_ns=number)]
            write(backend, Journal(f"j{number}", run).batch(started(run), *records))

        def found(**how: Any) -> list[str]:
            return [f"{one.run} {one.alert.kind} {one.alert.time_ns}" for one in backend.alerts(**how)]

        latest = ["r2 stall 12", "r1 stall 11", "r0 stall 10", "r0 stall 9", "r1 stall 9", "r2 stall 9"]
        assert found() == [*latest, "r2 disk 2", "r1 disk 1", "r0 disk 0"]
        assert found(limit=4) == latest[:4]
        assert found(runs=["r1"]) == ["r1 stall 11", "r1 stall 9", "r1 disk 1"]
        assert found(runs=["r2", "r0", "r0"], kind="disk") == ["r2 disk 2", "r0 disk 0"]
        assert found(kind="disk", limit=1) == ["r2 disk 2"]
        assert found(runs=[]) == found(kind="Disk") == found(kind="disk ") == found(runs=["nothing"]) == []
        many = [f"x{number}" for number in range(1_200)]
        assert found(runs=[*many, "r1"], kind="disk") == ["r1 disk 1"]

    def test_alerts_are_counted(self, backend: Backend) -> None:
        """Those that were raised, and of them those that were not taken back; none for a run without and for one unknown."""
        records = [alert(), alert(state="recovered", time_ns=2), alert(time_ns=3), alert("disk", time_ns=4)]
        write(backend, Journal().batch(started(), *records))
        write(backend, Journal("j2", "r2").batch(started("r2")))
        expected = {"r1": AlertCount(3, 2), "r2": AlertCount(), "nothing": AlertCount()}
        assert backend.alert_counts(["r1", "r2", "nothing"]) == expected
        assert backend.alert_counts([]) == {}

    def test_the_longest_alert(self, backend: Backend) -> None:
        """What validation lets through fits."""
        longest = Alert("🦦" * 16, "critical", "recovered", "🦦" * 1_024, 2**63 - 1, key="🦦" * 128, rank=2**31 - 1)
        write(backend, Journal().batch(started(), longest))
        assert backend.alerts(kind="🦦" * 16) == [RunAlert("r1", longest)]

    def test_alerts_of_a_deleted_run(self, backend: Backend) -> None:
        """Are gone; those of others stay."""
        for run in ("r1", "r2"):
            write(backend, Journal(f"j-{run}", run).batch(started(run), alert()))
        assert backend.delete_run("r1")
        assert [one.run for one in backend.alerts()] == ["r2"]
        assert backend.alert_counts(["r1"]) == {"r1": AlertCount()}
