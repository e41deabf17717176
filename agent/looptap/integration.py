"""What the author of an integration writes.

One class per framework, registered under the entry point group ``looptap.integrations``; its name there is the module whose
import wakes it. The author never writes a ``try``, never an uninstall, and never calls the original::

    class TorchIntegration(Integration):
        requires = "torch>=2.3"

        def install(self, patch, record):
            patch.hook(register_optimizer_step_post_hook, self.on_step)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple

if TYPE_CHECKING:
    from threading import Event

    from looptap.patching import Patcher
    from looptap.recorder import Recorder


class Capture(NamedTuple):
    """One row of the table *what is captured, from where, at what cost* (``docs/pytorch.md`` is made from these)."""

    #: In the user's words, with the names of series and params.
    what: str
    #: The call, hook or object that it is seen in.
    source: str
    #: How often that happens: ``each step``, ``each pass``, ``once a run``, ``each call``, …
    when: str
    #: What one such time costs: a key of ``benchmarks/budget.toml``, or words ("in the background").
    cost: str = ""


class Integration:
    #: One PEP 508 requirement; an installed version outside it is left alone, and ``looptap doctor`` says so. Empty: any.
    requires: ClassVar[str] = ""
    #: For ``looptap doctor``, in the user's words: what is captured, and what is not and why.
    captures: ClassVar[tuple[Capture, ...]] = ()
    not_captured: ClassVar[tuple[str, ...]] = ()

    #: Where records go; set before :meth:`install` is called.
    record: Recorder

    def install(self, patch: Patcher, record: Recorder) -> None:
        """Called once, right after the framework was imported (or at ``autolog()``, if it had been before)."""
        raise NotImplementedError

    def trace(self, folder: str, seconds: float, over: Event) -> str | None:
        """Somebody wants to know where the time goes (``looptap profile --live``): take a trace of so many seconds with the
        framework's own profiler, and write it into this folder. Called beside the training, and returns when it is written, or
        soon after ``over`` is set. Why there is no trace, in a few words, or None."""
        return None

    def finish(self) -> None:
        """Called when a run ends: write what is still held back. Most integrations hold nothing back."""
