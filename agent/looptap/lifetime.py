"""Fork, exit and signals: what we register with the interpreter, and what we leave alone.

We install no signal handler. A signal that ends the process needs none: every record is in the journal already, and the next
looptap command finds a journal without an owner and without an end. We replace no ``sys.excepthook`` either: when the
interpreter prints an unhandled exception it leaves it in ``sys.last_value``, where the exit handler reads it.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys

from looptap import plain
from looptap.session import SESSION

_installed = False
#: What was in sys.last_value when we were armed: an older exception of an interactive session is not this run's.
_before: BaseException | None = None
#: How ``looptap run`` saw the program leave, where that was with an error.
_left: SystemExit | None = None
#: ``looptap run`` was to record the training of this very process.
_is_awaited = False


def install() -> None:
    """Once per process, at the first ``autolog()`` or user call."""
    global _installed, _before
    if _installed:
        return
    _installed = True
    _before = _last_exception()
    atexit.register(_at_exit)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_parent=_leave_it_to_others, after_in_child=_after_fork)


def is_installed() -> bool:
    return _installed


def leaves(leaving: SystemExit) -> None:
    """The program has called ``sys.exit``, as only ``looptap run`` can see."""
    global _left
    if leaving.code not in (None, 0):
        _left = leaving


def awaits_training() -> None:
    """Where there was none until the end, the user is told: all that ``looptap run`` is for did not happen."""
    global _is_awaited
    _is_awaited = True


def _leave_it_to_others() -> None:
    # The children of a process may be those that train.
    global _is_awaited
    _is_awaited = False


def _last_exception() -> BaseException | None:
    # sys.last_exc is new in 3.12; both are set before any excepthook of the user is called.
    return getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)


def _at_exit() -> None:
    status, error = "finished", None
    exception = _last_exception()
    # An interactive session goes on after an exception, so there it says nothing about how the run ended.
    if exception is not None and exception is not _before and not hasattr(sys, "ps1"):
        status = "killed" if isinstance(exception, KeyboardInterrupt) else "failed"
        error = plain.exception(exception)
    elif _left is not None:
        status, error = "failed", plain.exception(_left)
    try:
        with SESSION.guard:
            # What a server answers from now on begins no further run.
            SESSION.serving.is_wanted = False
            SESSION.end(status, error)
            serves = SESSION.settings.serving
            is_awaited = _is_awaited and SESSION.settings.enabled and not (serves and _has_had_children())
            if is_awaited and not SESSION.recorder.generation:
                seen = "request" if serves else "training"
                SESSION.say(f"no {seen} was seen, so nothing was recorded · looptap doctor")
    except KeyboardInterrupt:
        # A second Ctrl-C: nobody wants to wait for the store any more. What is in the journal is safe there.
        pass
    if status == "killed":
        _die_of_interrupt()


def _has_had_children() -> bool:
    """Whom :mod:`looptap.children` has reached, and who may have answered in the place of this process."""
    times = os.times()
    return times.children_user + times.children_system > 0


def _die_of_interrupt() -> None:
    """A program that Ctrl-C has ended dies of the signal, which is how a shell knows that its loop is to stop as well. The
    interpreter remembers to do so in a flag that any ``exec`` of a text clears, and modules that we import at the end have some
    (each namedtuple is one). An interrupt that comes out of an ``exec`` sets the flag again (``run_eval_code_obj`` in CPython)."""
    with contextlib.suppress(KeyboardInterrupt):
        exec("raise KeyboardInterrupt")


def _after_fork() -> None:
    _leave_it_to_others()
    with SESSION.guard:
        SESSION.after_fork_in_child()
    # Children of multiprocessing leave by os._exit, past atexit; their own way out is a finalizer.
    if "multiprocessing.util" in sys.modules:
        from multiprocessing import util

        util.Finalize(None, _at_exit, exitpriority=0)
