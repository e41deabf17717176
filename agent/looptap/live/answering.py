"""The side of the training: looks for requests, takes profiles, and makes them files of the run."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from looptap.guard import Guard
from looptap.live import mailbox
from looptap.live.mailbox import Answer, Request

if TYPE_CHECKING:
    from looptap.recorder import Recorder
    from looptap.registry import Registry
    from looptap.session import ActiveRun

LOOK_SECONDS = 1.0
#: How long the end of a run waits for a profile that is being written.
_LAST_SECONDS = 1.0
#: How long a profile waits until the store has its files.
_STORED_SECONDS = 30.0
#: Profiles that alerts have asked for, of one run.
MOST_BY_ALERTS = 3


class Answering:
    """Of one run in one process."""

    def __init__(self, run: ActiveRun, recorder: Recorder, registry: Registry) -> None:
        """Called by the thread that trains."""
        self._run = run
        self._recorder = recorder
        self._registry = registry
        self._trains = threading.get_ident()
        self._folder = run.journal.folder
        self._guard = Guard("live")
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._count = 0
        self._by_alerts = 0
        self._is_left_behind = False
        #: Profiles whose files the store does not have yet.
        self._left: list[Path] = []
        self._looking = recorder.every(LOOK_SECONDS, self.look)

    def look(self) -> None:
        """Whether somebody wants a profile."""
        if self._guard.closed or self._folder is None or self._over.is_set():
            return
        with self._guard:
            request = mailbox.asked(self._folder)
            if request is None:
                return
            if self._is_busy():
                self._tell(
                    Answer(request.id, mailbox.FAILED, said=("another profile is being taken; ask again after it",))
                )
            else:
                self._start(request)

    def profile(self, seconds: float) -> None:
        """An alert wants one; not more than a few of them in a run."""
        if self._by_alerts < MOST_BY_ALERTS and not self._is_busy() and not self._over.is_set():
            self._by_alerts += 1
            self._start(Request("", seconds))

    def finish(self) -> None:
        """The run is about to end; a profile that is under way ends now, with what it has."""
        self._looking.remove()
        self._over.set()
        if self._thread is not None:
            self._thread.join(_LAST_SECONDS)
        self._is_left_behind = True

    def delivered(self) -> None:
        """The run has ended, and its files are in the store."""
        for folder in self._left:
            _remove(folder)

    def abandon_in_child(self) -> None:
        """After a fork, in the child: the run is the parent's."""
        self._looking.remove()

    # --- private ------------------------------------------------------------------------------------------------------

    def _is_busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _start(self, request: Request) -> None:
        self._count += 1
        self._thread = threading.Thread(
            target=self._live, args=(request, self._count), name="looptap-profile", daemon=True
        )
        self._thread.start()

    def _live(self, request: Request, number: int) -> None:
        import tempfile  # by those who want a profile: the import of looptap is waited for

        folder = Path(tempfile.mkdtemp(prefix="looptap-profile-"))
        try:
            self._tell(Answer(request.id, mailbox.TAKING))
            said = self._take(request.seconds, folder)
            rank = f"rank-{self._run.rank}-" if self._run.rank else ""
            names = self._record(folder, f"profile/{rank}{number}")
            if not names:
                said.append("its files are not kept: the run has ended, or artifacts are off")
            is_stored = bool(names) and self._run.files.flush(0.0 if self._over.is_set() else _STORED_SECONDS)
            self._tell(Answer(request.id, mailbox.DONE, tuple(names), tuple(said), is_stored))
            if names and not is_stored:
                # They are delivered later: at the end of the run, or after it by whoever finds its journal.
                self._left.append(folder)
                return
        except Exception as error:  # noqa: BLE001 - whatever it is, who asked should hear of it
            self._tell(Answer(request.id, mailbox.FAILED, said=(f"{type(error).__name__}: {error}"[:500],)))
        _remove(folder)

    def _take(self, seconds: float, folder: Path) -> list[str]:
        """Write all files; what there is to say beside."""
        from looptap.live.stacks import Looks, summary, write_trace

        said: list[str] = []
        tracing = [
            threading.Thread(target=attempt, args=(folder, seconds, said), name="looptap-trace", daemon=True)
            for attempt in self._traces()
        ]
        for thread in tracing:
            thread.start()
        looks = Looks(self._trains)
        looks.take(seconds, self._over)
        for thread in tracing:
            thread.join()
        with (folder / "stacks.json").open("w", encoding="utf-8") as file:
            write_trace(looks, file)
        (folder / "summary.txt").write_text(summary(looks, self._run.name), encoding="utf-8")
        if self._over.is_set():
            said.append(f"the run has ended after {looks.seconds:.1f} s of it")
        return said

    def _traces(self) -> list[Callable[[Path, float, list[str]], None]]:
        """Of the integrations that are awake."""

        def of(name: str, trace: Callable[[str, float, threading.Event], str | None]) -> Callable[..., None]:
            def attempt(folder: Path, seconds: float, said: list[str]) -> None:
                try:
                    why_not = trace(str(folder), seconds, self._over)
                except Exception as error:  # noqa: BLE001 - a profiler of a framework may raise anything
                    why_not = f"{type(error).__name__}: {error}"[:500]
                if why_not:
                    said.append(f"no trace of {name}: {why_not}")

            return attempt

        awake = [(name, entry.integration) for name, entry in self._registry.entries.items()]
        return [of(name, integration.trace) for name, integration in awake if integration is not None]

    def _record(self, folder: Path, prefix: str) -> list[str]:
        names = []
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not self._is_left_behind and self._recorder.keeps_files:
                name = f"{prefix}/{path.relative_to(folder)}"
                step = self._recorder.step if self._recorder.step >= 0 else None
                self._recorder.file(path, name=name, kind="profile", step=step)
                names.append(name)
        return names

    def _tell(self, answer: Answer) -> None:
        if answer.id and self._folder is not None:
            with contextlib.suppress(OSError):  # the run has ended, or nobody waits any more
                mailbox.answer(self._folder, answer)


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
