"""What the author of a reader of resources writes.

One class per source of figures, registered under the entry point group ``looptap.readers``. It says which metrics it has, and reads
them; when, how often and what to do when that fails is the sampler's business (:mod:`looptap.resources.sampler`)::

    class RoomReader(Reader):
        metrics = (Metric("system.room.temperature", "celsius", "of the machine room"),)

        def open(self, subject):
            self.sensor = find_sensor() or absent("there is no sensor")

        def read(self, now):
            return {"system.room.temperature": self.sensor.value()}

What cannot be read is left out of what :meth:`Reader.read` returns. Nothing is ever invented, not even a zero.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

if TYPE_CHECKING:
    from looptap.jobs import Job

#: The units that a metric may have.
UNITS = (
    *("percent", "bytes", "bytes/s", "count", "1/s", "seconds"),
    *("watts", "joules", "celsius", "hertz"),
)


class Metric(NamedTuple):
    """One row of the table in ``docs/resources.md``. In ``name``, ``N`` stands for the number of a device."""

    name: str
    unit: str
    #: In the user's words.
    meaning: str


class Absent(Exception):
    """There is no such thing here, which is nobody's fault: no GPU, no container. The reader is not asked again in this run."""


class Unreadable(Exception):
    """It is there and cannot be read now; the message says why in one line, which becomes a note of the run. Tried again later."""


@dataclass(frozen=True)
class Subject:
    """Whose resources are read: the process ``pid`` and what it has started. ``job`` is the process above all ranks of its job on
    this host, or ``pid`` itself. ``environment`` is that of the process at its start."""

    pid: int
    job: int
    folder: str
    environment: Mapping[str, str] = field(repr=False)
    #: What is the same for all processes of a host is recorded by the one that this is True for.
    is_first_on_host: Callable[[], bool] = lambda: True
    #: For what is wrong with a part of it, while the rest goes on; one sentence, which becomes a note of the run.
    note: Callable[[str], None] = lambda message: None

    @classmethod
    def of_this_process(cls, job: Callable[[], Job | None], folder: str, note: Callable[[str], None]) -> Subject:
        """``job`` may be known later only; ``folder`` is where the program was started."""
        pid = os.getpid()
        # One process has started all ranks of a host: a launcher, or a batch system's.
        above = pid if job() is None else os.getppid()
        return cls(pid, above, folder, dict(os.environ), lambda: (now := job()) is None or now.is_first_on_host, note)


class Reader:
    """One per run. All methods are called from one thread, in this order: :meth:`open`, :meth:`allotted`, :meth:`read` again and
    again, :meth:`close`. After any error it is closed, and opened again later."""

    metrics: ClassVar[tuple[Metric, ...]] = ()

    def open(self, subject: Subject) -> None:
        """Raises :class:`Absent` or :class:`Unreadable`."""

    def is_wanted(self, subject: Subject) -> bool:
        """Whether this process of its job is the one to read it."""
        return subject.is_first_on_host()

    def allotted(self) -> dict[str, Any]:
        """What the run was given of it, as params; the keys begin with ``allotted.``."""
        return {}

    def read(self, now: float) -> dict[str, float]:
        """Values by name. ``now`` is :func:`time.monotonic`, for rates (:class:`looptap.resources.rates.Rates`)."""
        raise NotImplementedError

    def close(self) -> None:
        """Give back what :meth:`open` has taken, as far as it came."""
