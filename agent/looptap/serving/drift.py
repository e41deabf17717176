"""Whether a served model still predicts as it did in its evaluation: each stream of its answers, held against the reference that
its training left.

The reference is looked for in the store, beside the program, once it is known which weights answer. From then on the numbers of a
stream are counted around the center of the reference, and each window is shown to :class:`looptap.sketches.drifting.Drifting`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple

from looptap.alerts.latch import FIRED, WARNING, Change
from looptap.events import DRIFT, Window, drift_key
from looptap.guard import Guard
from looptap.serving.model import Model
from looptap.sketches import distribution
from looptap.sketches.comparing import LEAST_PSI
from looptap.sketches.distribution import Distribution
from looptap.sketches.drifting import Drifting

#: A store may be away when a server starts, and an evaluation may be delivered later.
AGAIN_SECONDS = 300.0
#: What is said of a split that is no word for it.
_TOLD = {"predict": "predictions in training"}


class Reference(NamedTuple):
    """What a training run saw of a model that it wrote."""

    run: str
    run_name: str
    split: str
    predictions: Mapping[str, bytes]


class Drifts:
    """Of the models of this process. ``find`` looks in the store for the reference of a model by what its training can be found by,
    and may take its time; ``note`` is told why there is none."""

    def __init__(self, find: Callable[[tuple[str, ...]], Reference | None], note: Callable[[str], None]) -> None:
        self._find = find
        self._note = note
        self._known: dict[tuple[str, ...], _Watched | None] = {}
        #: When to ask again, of those that the store did not have or could not tell.
        self._due: dict[tuple[str, ...], float] = {}

    def look_for(self, model: Model) -> None:
        """A model that answers; nothing happens for one that is known, or whose weights nobody knows."""
        fingerprints = model.fingerprints
        if not fingerprints:
            return
        if self._known.get(fingerprints) is None and time.monotonic() >= self._due.get(fingerprints, 0.0):
            self._known[fingerprints], self._due[fingerprints] = None, time.monotonic() + AGAIN_SECONDS
            with suppress(RuntimeError):  # no threads are started any more
                threading.Thread(target=self._ask, args=(fingerprints,), name="looptap-reference", daemon=True).start()
        watched = self._known[fingerprints]
        if watched is not None and not model.around:
            model.around = watched.around

    def see(self, windows: Iterable[Window]) -> Iterator[Change]:
        """Windows of the same time."""
        by_version: dict[tuple[str, tuple[str, ...]], list[Window]] = {}
        for window in windows:
            fingerprints = tuple(one for one in (window.digest, window.weights) if one is not None)
            if fingerprints:
                by_version.setdefault((window.model, fingerprints), []).append(window)
        for (model, fingerprints), some in by_version.items():
            watched = self._known.get(fingerprints)
            if watched is not None:
                yield from watched.see(model, some[0].version or fingerprints[0], some)

    def _ask(self, fingerprints: tuple[str, ...]) -> None:
        with Guard("reference"):
            try:
                found = self._find(fingerprints)
            except (OSError, ValueError, ImportError) as error:
                self._note(f"no drift is looked for: the store cannot be asked for a reference: {error}")
                return
            if found is None:
                self._note(
                    f"no evaluation of a training run is known of the model {fingerprints[0][:12]}, so no drift is looked for"
                )
            else:
                self._known[fingerprints] = _Watched(found)


class _Watched:
    """One version, whatever it is called here and there."""

    def __init__(self, reference: Reference) -> None:
        self._reference = reference
        self._streams = {name: distribution.decode(told) for name, told in reference.predictions.items()}
        self.around = {name: (one.numbers.center, one.numbers.spread) for name, one in self._streams.items()}
        self._drifting = {name: Drifting(one) for name, one in self._streams.items()}

    def see(self, model: str, version: str, windows: Iterable[Window]) -> Iterator[Change]:
        merged: dict[str, Distribution] = {}
        for window in windows:
            for name, told in window.predictions.items():
                known = self._streams.get(name)
                found = distribution.decode(told)
                # What was counted before the reference was known has another center.
                if known is None or (found.numbers.center, found.numbers.spread) != self.around[name]:
                    continue
                if name in merged:
                    merged[name].merge(found)
                else:
                    merged[name] = found
        for name, found in merged.items():
            change = self._drifting[name].see(found)
            if change is not None:
                is_drift = change.state == FIRED
                how = "have drifted from" if is_drift else "are again as in"
                split = _TOLD.get(self._reference.split, self._reference.split)
                yield Change(
                    DRIFT,
                    WARNING,
                    change.state,
                    f"predictions of {model} (version {version[:12]}, trained by {self._reference.run_name}) {how} its "
                    f"{split}: {name}, PSI {change.psi:.2f} over the last {change.values:,}",
                    drift_key(model, version, name),
                    change.psi,
                    LEAST_PSI,
                )
