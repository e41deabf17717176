"""A version's streams against what they were: in the evaluation of its training, in the version before it, in the week before.

The measures are those of :mod:`looptap.sketches.comparing`.
"""

from __future__ import annotations

from collections.abc import Iterator

from looptap.sketches.comparing import compare
from looptap_collector.backend import Backend, RunWindow, Served, WindowQuery
from looptap_collector.filters.literals import within_64_bits
from looptap_collector.printable import local_time
from looptap_collector.serving.shapes import Held, Origin
from looptap_collector.serving.streams import Streams
from looptap_collector.serving.summary import Summary, summed

KINDS = ("predictions", "features")
WEEK_NS = 7 * 86_400 * 10**9
#: The week is looked at in so many pieces, the last so many windows of each: a day's and a night's traffic weigh as they are seen.
_PIECES, _WINDOWS_OF_PIECE = 28, 32
_WINDOWS_OF_VERSION = 360


class Baselines:
    """What the streams of a model are held against; each is read from the store once."""

    def __init__(self, backend: Backend, model: str, since_ns: int, until_ns: int) -> None:
        self._backend = backend
        self._model = model
        self._since_ns = since_ns
        self._until_ns = until_ns
        self._read: dict[tuple[str, str], Summary] = {}
        self._served: list[Served] | None = None

    def previous(self, version: str | None) -> str | None:
        """The version that was served first before this one was; None where none was in the week before."""
        if self._served is None:
            week_ago = within_64_bits(self._since_ns - WEEK_NS)
            every = self._backend.served(since_ns=week_ago, until_ns=self._until_ns)
            self._served = [one for one in every if one.model == self._model]
        first_ns = next((one.first_ns for one in self._served if one.version == version), None)
        before = [one for one in self._served if one.version is not None and one.first_ns < (first_ns or 0)]
        return max(before, key=lambda one: one.first_ns).version if before else None

    def of_version(self, version: str) -> Summary:
        """Its latest windows."""
        if ("version", version) not in self._read:
            query = WindowQuery(
                models=(self._model,), versions=(version,), until_ns=self._until_ns, limit=_WINDOWS_OF_VERSION
            )
            self._read["version", version] = summed(self._backend.windows(query))
        return self._read["version", version]

    def of_week(self, version: str) -> Summary:
        """Windows from all over the week before."""
        if ("week", version) not in self._read:
            self._read["week", version] = summed(self._windows_of_week(version))
        return self._read["week", version]

    def _windows_of_week(self, version: str) -> Iterator[RunWindow]:
        step = WEEK_NS // _PIECES
        for piece in range(1, _PIECES + 1):
            until = self._since_ns - (piece - 1) * step
            query = WindowQuery(
                models=(self._model,),
                versions=(version,),
                since_ns=within_64_bits(until - step),
                until_ns=within_64_bits(until),
                limit=_WINDOWS_OF_PIECE,
            )
            yield from self._backend.windows(query)


def held_against(
    baselines: Baselines,
    version: str | None,
    summary: Summary,
    origin: Origin | None,
    reference: RunWindow | None,
) -> tuple[list[Held], list[str]]:
    """What was compared, and in words what could not be."""
    held: list[Held] = []
    missing: list[str] = []
    if reference is None:
        missing.append(_no_reference(version, origin))
    else:
        run = origin.name if origin else reference.run
        told = f"{reference.window.split} of {run} ({local_time(reference.window.time_ns)})"
        held += _each("training", told, summary, summed([reference]))
    previous = baselines.previous(version)
    if previous is None:
        missing.append("there was no version before it in the last week")
    else:
        held += _each("previous", f"version {previous[:12]}", summary, baselines.of_version(previous))
    if version is None:
        return held, missing
    if baselines.of_week(version).requests:
        held += _each("week", "the week before", summary, baselines.of_week(version))
    else:
        missing.append("it was not asked in the week before")
    return held, missing


def _no_reference(version: str | None, origin: Origin | None) -> str:
    if version is None:
        return "nobody knows what its weights were loaded from (call looptap.autolog() before), so its training is not known"
    if origin is None:
        return "no run is known to have written this version, so there is no training to compare with"
    return f"{origin.name} recorded no evaluation with predictions to compare with"


def _each(against: str, reference: str, now: Summary, then: Summary) -> Iterator[Held]:
    """Streams that both have."""
    for kind in KINDS:
        streams: Streams = getattr(now, kind)
        known: Streams = getattr(then, kind)
        for name in sorted(streams.keys() & known.keys()):
            baseline = known[name].whole()
            found = compare(streams[name].like(baseline), baseline)
            yield Held(against, reference, kind, name, found)
