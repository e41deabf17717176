"""The run under way in this process, and the switch that starts it all.

There is one :class:`Session` per process. ``autolog()`` arms it; the first sign of training, or the first call of the user,
begins a run: a journal, a recorder that writes into it, a sender that ships it. The end of the program ends the run.

A process that is one of several of a job (:mod:`looptap.jobs`) has the same run as the others, as one of its ranks. Rank 0 speaks
for the run; the others record their series, quietly.

A process that was forked from this one does not inherit the run's journal or its thread. If the child records something, it
opens a journal of its own for the same run. Data-loader workers stay silent.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from looptap import identity, lines, naming, settings
from looptap.events import RunEnded, RunStarted
from looptap.file_lane import FileLane, Telling, both
from looptap.guard import Guard
from looptap.jobs import Agree, Job, Membership, from_environment
from looptap.journal.folder import JournalMeta
from looptap.journal.frames import encode
from looptap.journal.writer import JournalWriter
from looptap.plain import clean
from looptap.recorder import Recorder
from looptap.redaction import Redactor
from looptap.registry import Registry
from looptap.sender import Sender, under_way
from looptap.serving.recording import Recording
from looptap.settings import Settings
from looptap.sinks import open_sink

if TYPE_CHECKING:
    from looptap.alerts.alarms import Alarms
    from looptap.live.answering import Answering
    from looptap.resources.sampler import Sampler

#: How long the end of a run waits for fingerprints of data that are still being made.
SETTLE_SECONDS = 2.0
#: And for the last alerts to be told.
ALERT_SECONDS = 2.0


@dataclass
class ActiveRun:
    """A run that this process writes to. ``is_primary`` is False in a forked child, which adds to its parent's run. ``job`` is what
    this process is in the run's job; None when it is alone."""

    started: RunStarted
    store: str
    journal: JournalWriter
    sender: Sender | None
    is_primary: bool
    files: FileLane
    job: Job | None = None
    #: It began because training showed itself, and not by a call of the user.
    is_implicit: bool = False
    sampler: Sampler | None = None
    #: None where nobody watches.
    alarms: Alarms | None = None
    live: Answering | None = None

    @property
    def id(self) -> str:
        return self.started.run

    @property
    def name(self) -> str:
        return self.started.name

    @property
    def experiment(self) -> str:
        return self.started.experiment

    @property
    def rank(self) -> int:
        return 0 if self.job is None else self.job.rank

    @property
    def speaks(self) -> bool:
        """Whether this process tells what is told once: to the user, and to the store."""
        return self.is_primary and self.rank == 0


class Session:
    def __init__(self) -> None:
        self.settings = Settings()
        #: Settings that could not be read, one line each.
        self.problems: list[str] = []
        #: Of ``looptap run``: what its user typed beats what the program passes to autolog().
        self.command_line: dict[str, Any] = {}
        self.armed = False
        self.guard = Guard("session")
        self.recorder = Recorder(self._begin, Redactor(), self.end, self._is_worker, self._renew)
        self.registry = Registry(self.recorder)
        self.run: ActiveRun | None = None
        #: The run of the process that this one was forked from.
        self.inherited: ActiveRun | None = None
        self.membership = Membership()
        self.recorder.join = self.join
        #: Of a job, only rank 0 talks to the user.
        self._is_silent = False
        self._lock = threading.RLock()
        self._telling = Telling(self.say)
        self.serving = Recording(self)

    # --- arming -----------------------------------------------------------------------------------------------------

    def configure(self, arguments: dict[str, Any]) -> None:
        """Read the settings. They hold for the next run; a run under way keeps its own."""
        typed = {name: value for name, value in self.command_line.items() if value is not None}
        self.settings, self.problems = settings.load({**arguments, **typed})
        if not self.armed:
            self.recorder.folder = identity.working_directory()
        self.recorder.redactor = Redactor(self.settings.redact)
        self.recorder.keeps_files = self.settings.artifacts
        self.recorder.keeps_constants = self.settings.constants
        self.recorder.hashes_data = self.settings.dataset_content
        job = from_environment(os.environ)
        self._is_silent = job is not None and job.rank > 0
        for problem in self.problems:
            self.say(problem)

    def arm(self) -> None:
        """Install the hooks. Nothing is recorded, printed or created before training shows itself."""
        with self._lock:
            self.armed = True
            self.serving.is_wanted |= self.settings.serving
            self.registry.activate(self.settings.disable)

    def disarm(self) -> None:
        with self._lock:
            self.serving.is_wanted = False
            self.end()
            self.armed = False
            self.registry.deactivate()

    # --- the run ----------------------------------------------------------------------------------------------------

    def begin(self, name: str | None = None, experiment: str | None = None, kind: str = "training") -> ActiveRun | None:
        """Start a run; the one under way ends first. None where this process must stay silent."""
        with self._lock:
            if self.run is not None:
                self.end()
            if self._is_worker() or not self.settings.enabled:
                return None
            known = job = self.membership.job()
            is_primary = self.inherited is None
            if self.inherited is not None:
                started, store = self.inherited.started, self.inherited.store
                job = job or self.inherited.job
            else:
                if job is not None and job.key is None:
                    job = None  # nobody can tell which run is that of the others
                store = settings.resolve_store(self.settings.store or None, self.recorder.folder)
                started = self._identity(name, experiment, job, kind)
            self._telling = Telling(self.say)
            journal = self._open_journal(started, store, is_primary)
            lane = self._file_lane(started, store)
            self.run = ActiveRun(started, store, journal, None, is_primary, lane, job)
            self._is_silent = self.run.rank > 0
            self.recorder.attach(journal, lane.journal, self.run.rank)
            self._tell_job(known)
            self._tell_prices()
            self._start_threads(self.run)
            if is_primary:
                self.say(lines.first_line(self.run))
            if journal.problem:
                self.say(journal.problem)
            return self.run

    def end(self, status: str = "finished", error: str | None = None) -> None:
        """End the run under way, wait for the store at most ``exit_timeout`` seconds, and say what was kept."""
        with self._lock:
            run, self.run = self.run, None
            if run is None:
                return
            with self.guard:
                self.serving.finish()
                if run.sampler is not None:
                    run.sampler.stop()
                self.recorder.rhythm.stop()
                for entry in self.registry.entries.values():
                    if entry.integration is not None:
                        entry.integration.finish()
                    for problem in entry.problems():
                        self.recorder.note(entry.name, problem)
            if run.live is not None:
                with self.guard:
                    run.live.finish()
            if run.alarms is not None:
                run.alarms.finish(min(ALERT_SECONDS, self.settings.exit_timeout))
            with self.guard:
                self.recorder.settle(min(SETTLE_SECONDS, self.settings.exit_timeout))
            self.recorder.detach()
            with self.guard:
                if run.is_primary:
                    error = None if error is None else self.recorder.redactor.text(clean(error))
                    run.journal.append(encode(RunEnded(status, time.time_ns(), error, run.started.rank)))
                delivered = self._deliver_rest(run)
                # First, so that it is known what is on the disk and what was lost.
                run.journal.close()
                if run.is_primary:
                    self.say(lines.last_line(run, status, delivered))
                if delivered:
                    run.journal.remove()
                    if run.live is not None:
                        run.live.delivered()

    def join(self, rank: int, world_size: int, agree: Agree) -> None:
        """This process has become one of several of a process group. A run that begins from now on is theirs; one that has begun
        can become theirs only where no other has, and stands by itself otherwise."""
        with self._lock:
            self.membership.join(rank, world_size, agree)
            run = self.run
            if run is None or world_size < 2:
                return
            if not run.is_primary:
                # It writes to the run that its parent began, as all of them do that the parent has forked.
                run.job = self.membership.job()
                self.recorder.be_rank(run.rank)
                return
            key = self.membership.offer(run.id) if run.job is None else None
            job = self.membership.job()
            if job is None or (run.job is not None and (run.job.key, run.job.rank) == (job.key, job.rank)):
                return
            if key is not None and self.membership.is_of(run.id, key):
                run.job = job
                self._tell_job(job)
            else:
                if run.job is None:
                    self._tell_job(job)
                self.recorder.note(
                    "job",
                    f"this run began before its process joined {world_size - 1} others, so it is that of rank {rank} alone",
                )

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until what was recorded so far is in the store. False when that did not happen in time (seconds)."""
        run = self.run
        if run is None:
            return True
        if run.sender is None:
            return False
        return both(run.sender.flush, run.files.flush, self.settings.exit_timeout if timeout is None else timeout)

    def after_fork_in_child(self) -> None:
        """Runs in every forked child: the run, its journal and its thread belong to the parent."""
        self._lock = threading.RLock()
        self.serving.after_fork_in_child()
        self.registry.renew_lock()
        run, self.run = self.run, None
        self.recorder.detach()
        self.recorder.rhythm.after_fork_in_child()
        if run is not None:
            self.inherited = run
            run.journal.abandon_in_child()
            run.files.abandon_in_child()
            for one in (run.alarms, run.live):
                if one is not None:
                    one.abandon_in_child()

    def begin_serving(self) -> None:
        """Requests are answered: they belong to the run under way, or begin one."""
        with self._lock:
            begun = self.begin(kind="serving") if self.run is None else None
            if begun is not None:
                begun.is_implicit = True

    def end_serving(self) -> None:
        """The server is about to end, and the process with it."""
        self.serving.wait_for_run(self.settings.exit_timeout)
        run = self.run
        if run is not None and run.is_implicit and run.started.kind == "serving":
            with self.guard:
                self.end()

    # --- private ----------------------------------------------------------------------------------------------------

    def _begin(self) -> JournalWriter | None:
        """For the recorder: something wants to be recorded and no run is under way."""
        with self._lock:
            # Asked again under the lock: two threads may have their first record at the same moment.
            if self.run is None:
                with self.guard:
                    begun = self.begin()
                    if begun is not None:
                        begun.is_implicit = True
            return self.run.journal if self.run is not None else None

    def _identity(self, name: str | None, experiment: str | None, job: Job | None, kind: str) -> RunStarted:
        known = (clean(name or self.settings.name or "") or None, clean(experiment or self.settings.experiment))
        if job is None:
            run, title, rank, world_size = naming.new_id(), known[0] or naming.run_name(), 0, 1
        else:
            run, title = self.membership.next_run(job, name)
            title, rank, world_size = known[0] or title, job.rank, job.world_size
        return identity.start(run, title, known[1], time.time_ns(), self.recorder.redactor, rank, world_size, kind)

    def _tell_job(self, job: Job | None) -> None:
        """By which the runs of one job are found: its attempts, and ranks that stand by themselves."""
        if job is None or self.run is None or not self.run.is_primary:
            return
        if self.run.job is None:
            self.recorder.tag("job.rank", str(job.rank))
        else:
            self.recorder.param("world_size", job.world_size, "job")
        if job.key is not None:
            self.recorder.tag("job", job.key)
        if job.attempt:
            self.recorder.tag("job.attempt", str(job.attempt))

    def _tell_prices(self) -> None:
        """They travel with the run, to whoever asks what it cost."""
        for name in ("price_per_hour", "grid_kg_per_kwh"):
            value = getattr(self.settings, name)
            if value is not None and self.run is not None and self.run.speaks:
                self.recorder.param(f"allotted.{name}", value, "setting")

    def _open_journal(
        self, started: RunStarted, store: str, is_primary: bool, *, may_map: bool = True
    ) -> JournalWriter:
        meta = JournalMeta.of_this_process(started.run, started.name, store, is_primary, started.rank)
        max_bytes = self.settings.journal_mib * 2**20
        root = settings.journal_root(self.settings)
        journal = JournalWriter.create(root, meta, max_bytes=max_bytes, may_map=may_map)
        journal.append(encode(started))
        return journal

    def _file_lane(self, started: RunStarted, store: str) -> FileLane:
        chosen, telling = self.settings, self._telling
        return FileLane(
            # Of the few records in it, none is of a training step.
            lambda: self._open_journal(started, store, is_primary=False, may_map=False),
            lambda journal: under_way(journal, started.run, store, chosen, telling, is_nice=True),
        )

    def _renew(self) -> None:
        """For the recorder: another training begins, which a run that nobody asked for does not go on with."""
        with self._lock:
            if self.run is not None and self.run.is_implicit:
                self.end()
                self._begin()

    def _start_threads(self, run: ActiveRun) -> None:
        if run.is_primary:
            # Only processes that have a run pay for these.
            from looptap.alerts.alarms import alarms_of
            from looptap.live.answering import Answering

            with self.guard:
                run.live = Answering(run, self.recorder, self.registry)
                run.alarms = alarms_of(run, self.recorder, self.settings, self.say, run.live.profile)
        show = run.alarms.saw if run.alarms is not None else None
        # The settings of the next run may be others.
        run.sender = under_way(run.journal, run.id, run.store, self.settings, self._telling, show=show)
        if run.sender is None:
            return
        with suppress(RuntimeError):  # no threads are started any more, as in _sender
            self.recorder.rhythm.start()
            # Of a forked child, the sampler of its parent tells.
            if self.settings.resources and run.is_primary:
                from looptap.resources.reader import Subject
                from looptap.resources.sampler import Sampler

                folder = self.recorder.folder or identity.working_directory() or os.sep
                subject = Subject.of_this_process(lambda: run.job, folder, partial(self.recorder.note, "resources"))
                run.sampler = Sampler(self.recorder, subject, self.settings.sample_seconds)
                run.sampler.start()
            # What dead processes left on a host is looked for by one process of each.
            if run.is_primary and (run.job is None or run.job.rank == 0 or run.job.is_first_on_host):
                threading.Thread(target=self._beside, args=(run,), name="looptap-beside", daemon=True).start()

    def _deliver_rest(self, run: ActiveRun) -> bool:
        """At the end of a run; waits ``exit_timeout`` seconds at most for points and files together."""
        timeout = self.settings.exit_timeout
        run.files.hurry(timeout)
        sender = run.sender
        return both(sender.stop if sender is not None else lambda _: False, run.files.stop, timeout)

    def _beside(self, run: ActiveRun) -> None:
        """What takes its time and nobody waits for: the environment, and what dead processes left behind."""
        with Guard("environment"):
            if run.speaks:
                found = identity.environment(run.started.script, self.recorder.redactor)
                run.journal.append(encode(found))
        with Guard("adoption"):
            from looptap import adoption  # this thread has the time; the import of looptap has not

            root = settings.journal_root(self.settings)
            if root is not None:
                adoption.deliver_abandoned(root, lambda store: open_sink(store, self.settings))

    def _is_worker(self) -> bool:
        """True in a data-loader worker, and while a spawned child only imports its parent's main script."""
        data = sys.modules.get("torch.utils.data")
        if data is not None and data.get_worker_info() is not None:
            return True
        process = sys.modules.get("multiprocessing.process")
        return process is not None and bool(getattr(process.current_process(), "_inheriting", False))

    def say(self, line: str) -> None:
        """One line to the user, on stderr, so that what the program prints stays what it was."""
        if self.settings.quiet or self._is_silent or sys.stderr is None:
            return
        with self.guard:
            print(f"looptap: {line}", file=sys.stderr, flush=True)


SESSION = Session()
