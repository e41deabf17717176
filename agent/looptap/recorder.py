"""What hooks and user calls hand their values to. One recorder per process; it writes into the run under way.

Every method may be called from any thread at any time, returns at once, and never raises on account of a value: what cannot
be recorded is counted by reason. When a method returns, the record is in the journal and survives the death of the process.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from looptap.events import Context, File, JournalRecord, Note, Param, Points, Tag
from looptap.journal.frames import encode
from looptap.plain import clean, number, plain, step_number
from looptap.redaction import Redactor

if TYPE_CHECKING:
    from looptap.journal.writer import JournalWriter

_NO_CONTEXT: Context = {}
#: What is known before a run begins (argparse, seeds) is kept for it; more than this means that none will ever begin.
_PREAMBLE_LIMIT = 10_000


class Recorder:
    #: The last completed training step, counted from 0 by the integration that sees the optimizer; -1 before the first.
    step: int = -1
    #: Whether the step after that one has begun, as far as the integration can tell.
    is_step_under_way: Callable[[], bool] = staticmethod(lambda: False)
    #: Another number for every run, and when one is over: what is recorded once per run is then due again.
    generation: int = 0

    #: Takes the values that only a device has so far, to record each as soon as it is handed over, and returns the others. Set by
    #: the integration that knows such values.
    postpone: Callable[[Mapping[str, Any], int, Context | None, int], Mapping[str, Any]] = staticmethod(  # noqa: RUF012
        lambda values, step, context, time_ns: values
    )
    #: While a framework leads: the losses that the layer below has recorded at the last step. Those of a device are no floats yet.
    losses: Mapping[str, Any] = MappingProxyType({})

    def __init__(
        self,
        begin: Callable[[], JournalWriter | None],
        redactor: Redactor,
        renew: Callable[[], None] = lambda: None,
    ) -> None:
        """``begin`` starts a run and returns its journal, or None where this process must stay silent. ``renew`` ends the run under
        way and begins another, unless the user began it."""
        self._begin = begin
        self._renew = renew
        self._journal: JournalWriter | None = None
        self.redactor = redactor
        self.keeps_files = True
        self.keeps_constants = True
        self._preamble: list[JournalRecord] = []
        self._notes: set[tuple[str, str]] = set()
        self._next_step: dict[str, int] = {}
        #: How many threads suppress, and how many frameworks lead; where it is 0, nobody has to ask for either.
        self.unusual = 0
        self._covers: list[frozenset[str]] = []
        self._suppressed_here = threading.local()

    # --- the run that records go to -------------------------------------------------------------------------------

    def begin(self) -> None:
        """Training has shown itself (an optimizer, a backward pass): start the run if none is under way."""
        if self._journal is None and not self.is_suppressed():
            self._begin()

    def begin_training(self, step: int) -> int:
        """A framework on top begins a training, or resumes one: its next step has this number in its own count. From here on the
        layers below count from there too. Returns what to add to the framework's numbers in this run.

        Where steps would come a second time, this is another run; in a run that the user began, they follow those before.
        """
        if step <= self.step:
            self._renew()
        self.begin()
        distance = max(0, self.step + 1 - step)
        self.step = step + distance - 1
        self.losses = {}
        return distance

    def attach(self, journal: JournalWriter) -> None:
        """From now on records go to this journal. What was told outside any run holds for every run after it."""
        self._notes.clear()
        self._next_step.clear()
        self.step = -1
        self.generation += 1
        for record in self._preamble:
            journal.append(encode(record))
        self._journal = journal

    def detach(self) -> None:
        """The run is over, or belongs to another process since a fork."""
        self._journal = None
        self.generation += 1

    @contextmanager
    def suppress(self) -> Iterator[None]:
        """Nothing that this thread does inside is recorded."""
        here = self._suppressed_here
        here.depth = getattr(here, "depth", 0) + 1
        self.unusual += 1
        try:
            yield
        finally:
            here.depth -= 1
            self.unusual -= 1

    @contextmanager
    def cover(self, *what: str) -> Iterator[None]:
        """Inside, a framework on top leads the training and records these itself, under its own names: ``loss``, ``lr``,
        ``epoch``, ``grad_norm``, ``validation``. The layers below leave them out, so that nothing is recorded twice, and go on with
        the rest (steps, times, settings, files)."""
        covered = frozenset(what)
        self._covers.append(covered)
        self.unusual += 1
        try:
            yield
        finally:
            self._covers.remove(covered)
            self.unusual -= 1

    def covers(self, what: str) -> bool:
        """Whether a framework on top records this."""
        return self.unusual > 0 and any(what in covered for covered in self._covers)

    def is_suppressed(self) -> bool:
        return self.unusual > 0 and getattr(self._suppressed_here, "depth", 0) > 0

    # --- records --------------------------------------------------------------------------------------------------

    def metrics(
        self,
        values: Mapping[str, float],
        step: int,
        context: Context | None = None,
        time_ns: int | None = None,
    ) -> None:
        """Values at one step. This is the path of every training step: hand over all that belongs together at once.

        ``values`` must be float64 already; :meth:`log_metrics` is for values of any kind.
        """
        journal = self._journal
        if journal is None:
            journal = self._begin()
            if journal is None:
                return
        if self.unusual and self.is_suppressed():
            return
        if time_ns is None:
            time_ns = time.time_ns()
        if context is None:
            context = _NO_CONTEXT
        done = journal.put(values, step, time_ns, context)
        if done == len(values):
            return
        if done:
            values = dict(list(values.items())[done:])
        try:
            journal.append_points(values, step, time_ns, context)
        except Exception:  # noqa: BLE001 - one odd value must not cost the others
            self._metrics_one_by_one(journal, values, step, context, time_ns)

    def log_metrics(
        self,
        values: Mapping[str, Any],
        step: Any = None,
        context: Context | None = None,
        time_ns: int | None = None,
    ) -> None:
        """Values of any kind that has one number in it, at ``step`` or, without one, at the training step that is under way, or at
        the last one.

        Where no training step has been seen, each metric counts its own calls from 0.
        """
        journal = None if self.is_suppressed() else self._journal or self._begin()
        if journal is None:
            return
        at: int | None = None
        if step is not None:
            try:
                at = step_number(step)
            except Exception as error:  # noqa: BLE001
                self._refuse(journal, "not a step", f"metrics {', '.join(map(str, values))}", error, len(values))
                return
        elif self.step >= 0:
            at = self.step + 1 if self.is_step_under_way() else self.step
        if at is not None:
            values = self.postpone(values, at, context, time_ns or time.time_ns())
        numbers: dict[str, float] = {}
        for key, value in values.items():
            try:
                numbers[clean(str(key))] = number(value)
            except Exception as error:  # noqa: BLE001 - a user's __float__ or __str__ may raise anything
                self._refuse(journal, "not a number", f"metric {key!r}", error)
        if not numbers:
            return
        if at is not None:
            self.metrics(numbers, at, context, time_ns)
        else:
            for key, value in numbers.items():
                at = self._next_step[key] = self._next_step.get(key, -1) + 1
                self.metrics({key: value}, at, context, time_ns)

    def param(self, key: str, value: Any, source: str) -> None:
        """A setting. Before the run has begun it is kept and written when it does."""
        key = clean(str(key))
        self._write(Param(key, self.redactor.value(key, plain(value)), source, time.time_ns()))

    def params(self, values: Mapping[str, Any], source: str) -> None:
        """Several settings; dicts inside become dotted keys (``optimizer.lr``)."""
        for key, value in values.items():
            if isinstance(value, Mapping) and value:
                self.params({f"{key}.{inner}": item for inner, item in value.items()}, source)
            else:
                self.param(key, value, source)

    def tag(self, key: str, value: str) -> None:
        key = clean(str(key))
        self._write(Tag(key, self.redactor.value(key, clean(str(value))), time.time_ns()))

    def file(
        self,
        path: Any,
        *,
        name: str | None = None,
        role: str = "output",
        kind: str | None = None,
        step: int | None = None,
        description: str | None = None,
    ) -> None:
        """A file that has just been written (``output``) or read (``input``). Hashed and stored off this thread.

        Raises OSError when there is no such file.
        """
        if not self.keeps_files:
            return
        absolute = os.path.abspath(os.fsdecode(os.fspath(path)))
        facts = os.stat(absolute)
        if self._journal is None:
            self._begin()
        self._write(
            File(
                path=clean(absolute),
                name=clean(name or os.path.basename(absolute)),
                time_ns=time.time_ns(),
                size_bytes=facts.st_size,
                modified_ns=facts.st_mtime_ns,
                role=role,
                kind=kind,
                step=step,
                description=None if description is None else clean(description),
            )
        )

    def folder(self, path: Any, *, step: int | None = None, description: str | None = None) -> None:
        """A checkpoint that is a folder: each file in it is recorded, as ``folder/file``. Folders inside are left out."""
        if os.path.isdir(path):
            top = os.path.basename(os.path.abspath(path))
            with os.scandir(path) as entries:
                names = sorted(entry.name for entry in entries if entry.is_file())
            for name in names:
                kind = "model" if name.endswith((".safetensors", ".bin", ".pt", ".pth")) else "checkpoint"
                self.file(
                    os.path.join(path, name), name=f"{top}/{name}", kind=kind, step=step, description=description
                )

    def note(self, topic: str, message: str) -> None:
        """Why something is not captured; one sentence. The same note again is ignored."""
        if (topic, message) not in self._notes:
            self._notes.add((topic, message))
            self._write(Note(clean(topic), self.redactor.text(clean(message)), time.time_ns()))

    # --- private --------------------------------------------------------------------------------------------------

    def _write(self, record: JournalRecord) -> None:
        if self.is_suppressed():
            return
        journal = self._journal
        if journal is not None:
            journal.append(encode(record))
        elif len(self._preamble) < _PREAMBLE_LIMIT:
            self._preamble.append(record)

    def _metrics_one_by_one(
        self,
        journal: JournalWriter,
        values: Mapping[str, Any],
        step: int,
        context: Context | None,
        time_ns: int | None,
    ) -> None:
        for key, value in values.items():
            try:
                point = {clean(str(key)): number(value)}
                payload = encode(Points(step_number(step), time_ns or time.time_ns(), point, context or _NO_CONTEXT))
            except Exception as error:  # noqa: BLE001
                self._refuse(journal, "not a number", f"metric {key!r}", error)
            else:
                journal.append(payload)

    def _refuse(self, journal: JournalWriter, reason: str, what: str, error: Exception, count: int = 1) -> None:
        journal.drop(reason.replace(" ", "_"), count)
        self.note("values", f"{what} was left out: {type(error).__name__}: {error}"[:500])
