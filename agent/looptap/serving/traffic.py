"""Requests and calls of models as they happen. Everything here runs in the threads of the program: it notes, and decides nothing.

A request is known to its calls by a context variable, which threads of a server's pool and tasks inherit. Only the outermost call
of a model counts: what a model calls inside is its own business. A call outside of any request is a request of its own, by the
program itself.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any

from looptap.guard import Guard

if TYPE_CHECKING:
    from looptap.serving.devices import Mark, Waiting
    from looptap.serving.examples import Kept
    from looptap.serving.model import Model
    from looptap.serving.outcomes import Outcome

#: Requests that wait to be counted, at most: only if our thread cannot keep up, or is not there.
MOST_WAITING = 100_000
#: Calls that a device has not ended, at most.
MOST_ON_DEVICE = 64
#: Of one stream, between two looks at it.
MOST_ITEMS = 10_000

now = time.perf_counter_ns
_guard = Guard("answers on a device")


class Request:
    """From the first line to the last byte, in nanoseconds of one clock; 0 for what has not happened."""

    # Of the class until they are known: that is what most of a request's price goes into otherwise.
    ended = 0
    #: As soon as a framework has told it; at the end in any case.
    endpoint = ""
    #: Tells the endpoint as far as it can be told, while the request is under way.
    where: Callable[[], str] | None = None
    error: str | None = None
    #: How long it had waited before it reached the program.
    queued = 0
    #: Of a streamed answer: when its first and its last piece so far were sent, and the times between its pieces.
    first = last = 0
    items: deque[int] | None = None
    #: Requests under way when it began, this one among them.
    in_flight = 0
    #: Something that it has asked a model is still on its way from a device.
    waits = False

    def __init__(self) -> None:
        self.begun = now()
        self.calls: list[ModelCall] = []

    def sends(self) -> None:
        """A piece of the answer goes out."""
        at = now()
        if not self.first:
            self.first = at
        else:
            if self.items is None:
                self.items = deque(maxlen=MOST_ITEMS)
            self.items.append(at - self.last)
        self.last = at


class ModelCall(Request):
    """One call of a watched model. What is asked and answered is what :mod:`looptap.serving.answers` kept of it. Outside of any
    request it is one itself."""

    asked: Any = None
    answer: Any = None
    #: By name, where the program wants them counted.
    features: Any = None
    #: Where it is one of those that may be kept as examples.
    kept: Kept | None = None
    #: On a device: where it began, what is on its way from there, and how long the device took for it.
    mark: Mark | None = None
    waiting: Waiting | None = None
    device_ns = 0

    def __init__(self, model: Model) -> None:
        self.model = model
        self.begun = now()

    @property
    def calls(self) -> list[ModelCall]:  # type: ignore[override]
        return [self]

    def settle(self) -> bool:
        """Take what has arrived from the device. False while it has not. For threads of the program."""
        waiting = self.waiting
        if waiting is None:
            return True
        with _guard:
            if waiting.is_done():
                self.waiting = None
                self.device_ns = waiting.take()
                return True
        return False

    def leave_on_device(self) -> None:
        """Nobody asks for it any more."""
        waiting, self.waiting = self.waiting, None
        if waiting is not None:
            waiting.leave()


def leave(variable: ContextVar[Any], token: Token[Any]) -> None:
    """Give it the value that it had before. What is closed by the collector of garbage runs in another context, where there is
    nothing to give back."""
    try:  # noqa: SIM105 - at half the price
        variable.reset(token)
    except ValueError:
        pass


def failed(error: BaseException) -> None:
    """The request under way here raised this, which its framework is about to make an answer of."""
    request = REQUEST.get()
    if request is not None:
        request.error = kind_of(error)


def kind_of(error: BaseException) -> str:
    """The class by which it is counted."""
    name = type(error).__name__
    # By its name: the import of looptap has no time for asyncio.
    return "cancelled" if name in ("CancelledError", "GeneratorExit") else name


def last_call() -> ModelCall | None:
    """Of this request, in it; elsewhere of this thread or task. A thread of a server has had other requests before."""
    call, request = CALL.get(), REQUEST.get()
    if request is None or call in request.calls:
        return call
    # In a thread of a pool, whose context the request does not see.
    return request.calls[-1] if request.calls else None


class Traffic:
    """Of this process. Its collections are changed by single operations only, each of which the interpreter does at once: no thread
    waits for another here."""

    def __init__(self) -> None:
        #: Whether anybody counts. Where it is False, watched models and middlewares only pass on.
        self.is_counted = False
        self.live: set[Request] = set()
        self.done: deque[Request] = deque()
        #: Labels that have become known.
        self.outcomes: deque[Outcome] = deque(maxlen=MOST_WAITING)
        #: Calls on their own that a device has not ended yet, in their order.
        self.on_device: deque[ModelCall] = deque()
        #: Of requests that nobody will count.
        self.dropped = 0

    def begin(self, request: Request) -> None:
        live = self.live
        request.in_flight = len(live) + 1
        live.add(request)

    def end(self, request: Request, at: int = 0) -> None:
        """Now, or at a time that the caller has taken."""
        request.ended = at or now()
        if request.waits:  # mostly its answer is on its way to the client, and no longer from the device
            for call in request.calls:
                if not call.settle():
                    call.leave_on_device()
        # Else all that a server knows of a request stays until it is counted, and makes the collector of garbage come.
        request.where = None
        self.live.discard(request)
        if len(self.done) < MOST_WAITING:
            self.done.append(request)
        else:
            self.dropped += 1

    def end_on_device(self, most: int = MOST_ON_DEVICE) -> None:
        """Those calls on their own that the device has ended by now, and the oldest of more than ``most``. For threads of the
        program."""
        while (call := self._next_on_device()) is not None:
            if call.settle():
                self.end(call, max(call.ended, call.begun + call.device_ns))
            elif len(self.on_device) >= most:
                self._leave_on_device(call)
            else:
                self.on_device.appendleft(call)
                return

    def leave_on_device(self, until: int) -> None:
        """Those that had handed over their work by then: no other call came along since, which would have asked the device."""
        while (call := self._next_on_device()) is not None:
            if call.ended >= until:
                self.on_device.appendleft(call)
                return
            self._leave_on_device(call)

    def _next_on_device(self) -> ModelCall | None:
        try:
            return self.on_device.popleft()
        except IndexError:  # or another thread was faster
            return None

    def _leave_on_device(self, call: ModelCall) -> None:
        call.leave_on_device()
        self.end(call, call.ended)

    def after_fork_in_child(self) -> None:
        """What was under way is the parent's."""
        self.is_counted = False
        self.live, self.done, self.dropped = set(), deque(), 0
        self.outcomes.clear()
        self.on_device.clear()


TRAFFIC = Traffic()
#: The request that this thread or task works for.
REQUEST: ContextVar[Request | None] = ContextVar("looptap_request", default=None)
#: The call of a watched model that this thread or task is in, which has not ended; or else the last one that it has made.
CALL: ContextVar[ModelCall | None] = ContextVar("looptap_model_call", default=None)
