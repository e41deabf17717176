"""What hooks and user calls hand their values to. One recorder per process; it writes into the run under way.

Every method may be called from any thread at any time, returns at once, and never raises on account of a value: what cannot
be recorded is counted by reason. When a method returns, the record is in the journal and survives the death of the process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from looptap.data import RunData, record_of
from looptap.describing import Describers, Description
from looptap.events import Alert, Context, Dataset, File, JournalRecord, Note, Param, Points, Tag, Window
from looptap.files import RunFiles, in_folder
from looptap.journal.frames import encode
from looptap.plain import clean, exception, flat, number, plain, step_number
from looptap.redaction import Redactor
from looptap.rhythm import Regularly, Rhythm
from looptap.serving.origins import ORIGINS
from looptap.suppressing import Suppressible
from looptap.tees import Told, same

if TYPE_CHECKING:
    from looptap.jobs import Agree
    from looptap.journal.writer import JournalWriter

_NO_CONTEXT: Context = {}
#: What is known before a run begins (argparse, seeds) is kept for it; more than this means that none will ever begin.
_PREAMBLE_LIMIT = 10_000
#: Integrations use a handful, each time the same; a program may make one for every call.
_CONTEXTS_LIMIT = 1_000


class Recorder(Suppressible):
    #: The last completed training step, counted from 0 by the integration that sees the optimizer; -1 before the first.
    step: int = -1
    #: Brings that up to date, for an integration that is told of steps late.
    catch_up: Callable[[], None] = staticmethod(lambda: None)
    #: Whether the step after that one has begun, as far as the integration can tell.
    is_step_under_way: Callable[[], bool] = staticmethod(lambda: False)
    #: What the integration that sees the training knows of the step with this number: values by key. For
    #: :meth:`log_metrics`, so that a value which is known is not logged twice.
    known_at: Callable[[int], Mapping[str, float]] = staticmethod(lambda step: {})
    #: ``validation`` or ``test`` from the beginning of such a pass to the next training step, else None.
    split: Callable[[], str | None] = staticmethod(lambda: None)
    #: Takes those of these values that lie on a device, calls back once their numbers are here, and returns their keys.
    take_from_device: Callable[[Mapping[str, Any], Callable[[dict[str, float]], None]], Collection[str]] = staticmethod(
        lambda values, emit: ()
    )
    #: Another number for every run, and when one is over: what is recorded once per run is then due again.
    generation: int = 0
    #: Another number when a framework on top begins to train, and when it ends: what steps next is no part of the round before.
    trainings: int = 0
    #: Whether this process writes what is told once per run: settings, tags. In a job of several that is rank 0.
    is_first: bool = True
    #: For the integration that sees this process join others: its rank, how many there are, and how they agree upon something
    #: (:meth:`looptap.jobs.Membership.join`).
    join: Callable[[int, int, Agree], None] = staticmethod(lambda rank, world_size, agree: None)

    def __init__(
        self,
        begin: Callable[[], JournalWriter | None],
        redactor: Redactor,
        end: Callable[[str, str | None], None] = lambda status, error: None,
        is_silent: Callable[[], bool] = lambda: False,
        renew: Callable[[], None] = lambda: None,
    ) -> None:
        """``begin`` starts a run and returns its journal, or None where this process must stay silent (``is_silent``); ``end`` ends
        it; ``renew`` ends it and begins another, unless the user began it."""
        super().__init__()
        self._begin = begin
        self._end = end
        self._is_silent = is_silent
        self._renew = renew
        self._journal: JournalWriter | None = None
        #: Opens the journal of the run's files.
        self._file_journal: Callable[[], JournalWriter] | None = None
        self._files = RunFiles(self.begin, self._write, self.note)
        self.redactor = redactor
        self.rhythm = Rhythm()
        self.keeps_files = True
        self.keeps_constants = True
        #: Whether files of data sets are identified by all of their content.
        self.hashes_data = False
        #: What is known about data sets, by integration.
        self.describers = Describers()
        self._data = self._new_data()
        #: Where ``autolog()`` was called: a program that changes its working directory later does not move its store.
        self.folder: str | None = None
        #: What :meth:`settings` has been told, by dotted key.
        self.given: dict[str, Any] = {}
        self._preamble: list[JournalRecord] = []
        #: The context of what is given none, and what is added to others in a rank that is not 0.
        self._context: Context = _NO_CONTEXT
        #: By id; the contexts are kept, so that their ids stay their own.
        self._contexts: dict[int, tuple[Context, Context]] = {}
        self._notes: set[tuple[str, str]] = set()
        #: Of each series that counts its own calls.
        self._next_step: dict[tuple[object, ...], int] = {}
        self._told = Told()

    # --- the run that records go to -------------------------------------------------------------------------------

    def begin(self) -> None:
        """Training has shown itself (an optimizer, a backward pass): start the run if none is under way."""
        if self._journal is None and not self.is_suppressed():
            self._begin()

    @contextmanager
    def training(self, step: int) -> Iterator[int]:
        """Inside, a framework on top trains, or goes on with a training: its next step has this number in its own count, and the
        layers below count from there too. Gives what to add to the framework's numbers in this run.

        Where steps would come a second time, this is another run; in a run that the user began, they follow those before.
        """
        self.catch_up()
        if step <= self.step:
            self._renew()
        self.begin()
        distance = max(0, self.step + 1 - step)
        self.step = step + distance - 1
        self.trainings += 1
        try:
            yield distance
        finally:
            self.trainings += 1

    def is_under_way(self) -> bool:
        """Whether a run has begun and not ended."""
        return self._journal is not None

    def end(self, status: str, error: BaseException | None = None) -> None:
        """A framework that does one job after the other is through with one: the run is over, ``finished`` or ``failed``."""
        self._end(status, None if error is None else exception(error))

    def attach(
        self, journal: JournalWriter, file_journal: Callable[[], JournalWriter] | None = None, rank: int = 0
    ) -> None:
        """From now on records go to this journal, as those of this rank, and files to what ``file_journal`` gives, where that is
        another. What was told outside any run holds for every run after it."""
        self.be_rank(rank)
        self._notes.clear()
        self._next_step.clear()
        self._told.steps.clear()
        self.step = -1
        self.generation += 1
        self._files.begin_with(self._preamble)
        for record in self._preamble:
            if not self._is_written(record):
                continue
            chosen = file_journal() if file_journal is not None and isinstance(record, File) else journal
            chosen.append(encode(record))
        self._file_journal = file_journal
        self._journal = journal

    def be_rank(self, rank: int) -> None:
        """Rank 0 records as a process that is alone does; the series of the others have their rank as context."""
        self.is_first = rank == 0
        self._context = {"rank": str(rank)} if rank else _NO_CONTEXT
        self._contexts.clear()

    def detach(self) -> None:
        """The run is over, or belongs to another process since a fork."""
        self._journal = self._file_journal = None
        self._data = self._new_data()
        self.generation += 1
        self._files.begin_with(self._preamble)

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
        if self.suppressing and self.is_suppressed():
            return
        if time_ns is None:
            time_ns = time.time_ns()
        if context is None:
            if self._told.steps:
                values = self._told.apart_from(values, step)
            context = self._context
        elif self._context:
            context = self._of_rank(context)
        done = journal.put(values, step, time_ns, context)
        if done == len(values):
            return
        if done:
            values = dict(list(values.items())[done:])
        try:
            journal.append_points(values, step, time_ns, context)
        except Exception:  # noqa: BLE001 - one odd value must not cost the others
            self._metrics_one_by_one(journal, values, step, context, time_ns)

    def _of_rank(self, context: Context) -> Context:
        """This context with the rank: the same object each time, for which the journal is quickest."""
        known = self._contexts.get(id(context))
        if known is None:
            if len(self._contexts) >= _CONTEXTS_LIMIT:
                self._contexts.clear()
            known = self._contexts[id(context)] = (context, {**context, **self._context})
        return known[1]

    def log_metrics(
        self,
        values: Mapping[str, Any],
        step: Any = None,
        context: Context | None = None,
        time_ns: int | None = None,
        source: str = "user",
    ) -> None:
        """Values of any kind that has one number in it, at ``step`` or, without one, at the training step that is under way, or at
        the last one.

        Where no training step has been seen, each metric counts its own calls from 0. A value that is on record already under the
        same key at the same step (told by another ``source``, or seen in the training itself) is not recorded again. Values on
        a device follow when they are here.
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
        elif self.is_step_under_way():
            at = self.step + 1
        elif self.step >= 0:
            at = self.step
        time_ns = time_ns or time.time_ns()

        def write(numbers: Mapping[str, float]) -> None:
            self._log(numbers, at, context, time_ns, source)

        is_plain = all(type(value) is float for value in values.values())
        owed = () if is_plain else self.take_from_device(values, write)
        numbers: dict[str, float] = {}
        for key, value in values.items():
            if key in owed:
                continue
            try:
                numbers[clean(str(key))] = number(value)
            except Exception as error:  # noqa: BLE001 - a user's __float__ or __str__ may raise anything
                self._refuse(journal, "not a number", f"metric {key!r}", error)
        write(numbers)

    def param(self, key: str, value: Any, source: str) -> None:
        """A setting. Before the run has begun it is kept and written when it does. Of a job, rank 0 writes it."""
        key = clean(str(key))
        self._write(Param(key, self.redactor.value(key, plain(value)), source, time.time_ns()))

    def params(self, values: Mapping[str, Any], source: str) -> None:
        """Several settings; dicts inside become dotted keys (``optimizer.lr``)."""
        for key, value in flat(values).items():
            self.param(key, value, source)

    def settings(self, values: Mapping[str, Any], source: str) -> None:
        """As :meth:`params`, for what a command line or a configuration library has given to the program. It is remembered, so that
        an object of the program that repeats it is not recorded a second time."""
        for key, value in flat(values).items():
            self.given[key] = value
            self.param(key, value, source)

    @contextmanager
    def job(self) -> Iterator[None]:
        """What is told inside, before a run has begun, holds for runs that begin inside and not for those after it."""
        before, given = len(self._preamble), dict(self.given)
        try:
            yield
        finally:
            del self._preamble[before:]
            self.given = given

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
        """A file that has just been written (``output``) or read (``input``). Looked into off this thread; the content of an
        output is kept, of an input only the digest is taken.

        The same file as before (path, size and time of modification) is not recorded again, unless it has another ``name`` now. An
        input begins no run: it belongs to the one under way, or to those that begin later. Raises OSError when there is no such
        file.
        """
        if self.keeps_files and not self.is_suppressed() and not self._is_silent():
            self._files.look(path, name, role, kind, step, description)

    def loaded(self, result: Any, path: Any) -> None:
        """This came out of that file just now: a model, or a collection of arrays. Where it answers later, it is known whose it
        is."""
        ORIGINS.loaded(result, path)

    def copied(self, arrays: Iterable[Any], model: Any) -> None:
        """These were copied into the model: if all of them came out of one file, it has its weights from there, and else nobody
        knows from where."""
        ORIGINS.put(model, ORIGINS.of_all(arrays))

    def files_in(self, path: Any, *, step: int | None = None, description: str | None = None) -> None:
        """A checkpoint that is a folder: each file in it is recorded, as ``folder/file``. Folders inside are left out."""
        for file, name, kind in in_folder(path):
            self.file(file, name=name, kind=kind, step=step, description=description)

    def dataset(self, described: Description, *, role: str = "train", name: str | None = None) -> None:
        """Data that the run is fed with (:meth:`Describers.describe`). Told at once; a fingerprint that has to be looked for in
        files follows from another thread."""
        if self.is_suppressed():
            return
        if self._journal is None and self._begin() is None:
            return
        record = record_of(described, self.redactor, name=name, role=role)
        self._data.tell(record, described.parts, described.otherwise, content=self.hashes_data)

    def settle(self, seconds: float) -> None:
        """The run is about to end: wait so long at most for what is still being looked for."""
        self._data.settle(seconds)

    def note(self, topic: str, message: str) -> None:
        """Why something is not captured; one sentence. The same note again is ignored."""
        if (topic, message) not in self._notes:
            self._notes.add((topic, message))
            self._write(Note(clean(topic), self.redactor.text(clean(message)), time.time_ns()))

    def alert(self, alert: Alert) -> None:
        """What :mod:`looptap.alerts` has found; of each rank of a job."""
        self._write(alert)

    def window(self, window: Window) -> None:
        """What :mod:`looptap.serving` has counted; of each process."""
        if self._journal is not None:
            self._write(window)

    def every(self, seconds: float, function: Callable[[], object]) -> Regularly:
        """Call it about that often beside the training, while a run is under way. Through the patcher it is guarded, and ends when
        the integration does: ``patch.hook(record.every, self.sample, 1.0)``."""
        return self.rhythm.every(seconds, function)

    def drop(self, reason: str, count: int = 1) -> None:
        """Count values that were seen and that nobody will get: they take their numbers in the journal. ``reason`` is one word."""
        journal = self._journal
        if journal is not None:
            journal.drop(reason, count)

    # --- private --------------------------------------------------------------------------------------------------

    def _new_data(self) -> RunData:
        # The redactor may be another one by then.
        return RunData(self._write, self.note, lambda text: self.redactor.storable(text))

    def _log(
        self, numbers: Mapping[str, float], step: int | None, context: Context | None, time_ns: int | None, source: str
    ) -> None:
        if step is None:
            for key, value in numbers.items():
                series = (key, *(context or _NO_CONTEXT).items())
                at = self._next_step[series] = self._next_step.get(series, -1) + 1
                self._log({key: value}, at, context, time_ns, source)
            return
        if not context:
            known = self.known_at(step)
            numbers = {
                key: value
                for key, value in numbers.items()
                if not (key in known and same(known[key], value))
                and not self._told.by_another(key, value, step, source)
            }
        if not numbers:
            return
        # With a context that is empty, and not None: the values are new, even if this source has told them before.
        self.metrics(numbers, step, context or _NO_CONTEXT, time_ns)
        if not context:
            self._told.tell(numbers, step, source)

    def _is_written(self, record: JournalRecord) -> bool:
        """What is the same in all processes of a job is told by rank 0."""
        return self.is_first or not isinstance(record, Param | Tag | Dataset)

    def _write(self, record: JournalRecord) -> None:
        if self.is_suppressed():
            return
        journal = self._journal
        if journal is not None:
            if self._is_written(record):
                if isinstance(record, File) and self._file_journal is not None:
                    journal = self._file_journal()
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
