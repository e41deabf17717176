"""Energy of the processors, by the counters that Linux shows of Intel and AMD ones (RAPL). Most systems let only root read them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from looptap.resources.reader import Absent, Metric, Reader, Subject

#: Names of the parts that are added up. Cores and graphics are in the package already, the memory is not.
_PACKAGE, _MEMORY = "package", "dram"


@dataclass
class _Counter:
    """Microjoules, which begin again at 0 behind ``wraps_at``."""

    path: Path
    wraps_at: int
    before: int

    def grown(self) -> int:
        before, self.before = self.before, _number(self.path)
        # A counter that begins again has passed its end; where the end is not known, that part is.
        return self.before - before if self.before >= before else max(0, self.wraps_at - before) + self.before


class EnergyReader(Reader):
    metrics = (
        Metric(
            "system.energy.cpu",
            "joules",
            "what the processors of the machine and their memory used since the run began",
        ),
    )

    def __init__(self, folder: Path = Path("/sys/class/powercap")) -> None:
        self._folder = folder

    def open(self, subject: Subject) -> None:
        try:
            self._counters = [
                _Counter(zone / "energy_uj", _number(zone / "max_energy_range_uj"), _number(zone / "energy_uj"))
                for zone in sorted(self._folder.glob("intel-rapl:*"))
                if (zone / "name").read_text("ascii").startswith((_PACKAGE, _MEMORY))
            ]
        except (OSError, ValueError) as error:
            raise Absent("the counters of energy cannot be read") from error
        if not self._counters:
            raise Absent("there are no counters of energy")
        self._joules = 0.0

    def read(self, now: float) -> dict[str, float]:
        self._joules += sum(counter.grown() for counter in self._counters) / 1e6
        return {"system.energy.cpu": self._joules}


def _number(path: Path) -> int:
    return int(path.read_text("ascii"))
