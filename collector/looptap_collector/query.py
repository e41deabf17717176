"""Questions to a store that every view asks: which run is meant, which series is the loss, what was
delivered.

Nothing here prints or formats; the command line, the web page and the Python API stand on it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol, TypeVar, runtime_checkable

from looptap.events import Context
from looptap_collector.backend import Backend, Delivery, RunQuery, RunRow, SeriesRow
from looptap_collector.filters.literals import quoted

#: How many records of a journal, from this position on, still wait on this machine's disk.
InJournal = Callable[[str, int], int]

#: A shorter beginning of an id is too easily hit by accident.
SHORTEST_ID_PREFIX = 4
#: See :mod:`looptap_collector.validation`.
_LONGEST_NAME_BYTES = 512
#: Names that may be meant instead are looked for among the newest runs.
_NEAR_NAMES = 200
_MOST_MATCHES = 100

#: Series that are no objective, however they are named. ``system.`` is ours, see the design.
_NOT_A_LOSS = re.compile(
    r"^system\.|(^|[._/ -])(lr|learning_rate|epochs?|step|steps|time|seconds|duration|norm|scale|skipped"
    r"|evaluations|acc|accuracy|momentum|iteration)([._/ -]|$)|_(time|seconds|norm|scale|steps)$",
    re.IGNORECASE,
)
_LOSS = re.compile(r"loss|nll|perplexity|objective|^err|[._/]err|mse|cost|elbo", re.IGNORECASE)
#: What the integrations record when it changes, under whatever prefix.
_LASTING = re.compile(r"(^|[._/])(lr|learning_rate|epoch|amp_scale|loss_scale)$")
_VALIDATION = re.compile(r"val|test|eval", re.IGNORECASE)
#: Of several losses, the one that is descended is named like this, rather than its parts; the first that matches.
_WHOLE_LOSSES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (r"^loss$", r"^(train[._/ -])?(total[._/ -])?loss$", r"^(?!batch_|epoch_).*loss$")
)


class UnknownRun(LookupError):
    """No run answers to that name, or more than one does. The message is one line and says what there is."""


class _Series(Protocol):
    @property
    def key(self) -> str: ...
    @property
    def context(self) -> Mapping[str, str]: ...
    @property
    def last_step(self) -> int: ...


_AnySeries = TypeVar("_AnySeries", bound=_Series)


@runtime_checkable
class FindsRuns(Protocol):
    """A backend that answers :func:`find_run` itself, in one question: it is far away."""

    def find_run(self, which: str) -> RunRow: ...


def find_run(backend: Backend, which: str) -> RunRow:
    """The run meant by ``latest``, an id, a name (the newest of that name), or the beginning of one id.

    Raises :class:`UnknownRun` otherwise.
    """
    return backend.find_run(which) if isinstance(backend, FindsRuns) else look_for_run(backend, which)


def look_for_run(backend: Backend, which: str) -> RunRow:
    """:func:`find_run` by the other questions of a backend."""
    is_text = can_be_stored(which)
    if is_text and (found := backend.run(which)):
        return found
    newest = backend.search(RunQuery(limit=_NEAR_NAMES)).rows
    if not newest:
        raise UnknownRun("this store has no runs yet")
    if which == "latest":
        return newest[0]
    if is_text and (named := backend.search(RunQuery(filter=f"name = {quoted(which)}", limit=1)).rows):
        return named[0]
    if is_text and len(which) >= SHORTEST_ID_PREFIX:
        holding = found_runs(backend, f"id ~ {quoted(which)}")
        matches = list(islice((row for row in holding if row.run.startswith(which)), _MOST_MATCHES + 1))
        if len(matches) == 1:
            return matches[0]
        if matches:
            count = len(matches) if len(matches) <= _MOST_MATCHES else f"more than {_MOST_MATCHES}"
            raise UnknownRun(f"{count} runs begin with {which!r}: {_some([row.run for row in matches])}")
    names = list(dict.fromkeys(row.name for row in newest))
    near = [name for name in names if which and name.startswith(which)]
    near = near or difflib.get_close_matches(which, names, n=1)
    guess = f"; did you mean {near[0]!r}?" if near else "."
    raise UnknownRun(f"there is no run {which!r}{guess} The newest are: {_some(names)}")


def can_be_stored(name: str) -> bool:
    """Whether a run can have this name or id; no engine need be asked for others."""
    try:
        return 0 < len(name.encode()) <= _LONGEST_NAME_BYTES and "\0" not in name
    except UnicodeEncodeError:
        return False


def found_runs(
    backend: Backend, text: str | None = None, order: Sequence[str] = (), limit: int | None = None
) -> Iterator[RunRow]:
    """The runs that a filter finds, in this order (default: newest first), page by page until ``limit``.

    Raises :class:`looptap_collector.filters.FilterError`.
    """
    cursor = None
    while limit is None or limit > 0:
        size = 1_000 if limit is None else min(limit, 1_000)
        page = backend.search(RunQuery(filter=text, order=tuple(order), limit=size, cursor=cursor))
        yield from page.rows
        cursor = page.next
        if cursor is None:
            return
        limit = None if limit is None else limit - size


def _some(names: Sequence[str], at_most: int = 5) -> str:
    return ", ".join(names[:at_most]) + (", …" if len(names) > at_most else "")


def series_labels(rows: Sequence[SeriesRow]) -> list[str]:
    """A name for each series of one run, no two the same: ``loss``, ``lr{group=1}``."""
    labels: dict[str, None] = {}
    for row in rows:
        label = plain = series_label(row.key, row.context)
        # A key may itself look like a key with a context, so names can meet; the later one gets a number.
        number = 1
        while label in labels:
            number += 1
            label = f"{plain}#{number}"
        labels[label] = None
    return list(labels)


def series_label(key: str, context: Context) -> str:
    if not context:
        return key
    inside = ",".join(f"{name}={value}" for name, value in sorted(context.items()))
    return f"{key}{{{inside}}}"


def is_loss(key: str) -> bool:
    """Whether a metric of this name is an objective. A guess by name, used only to choose what is shown
    first."""
    return bool(_LOSS.search(key)) and not _NOT_A_LOSS.search(key)


def is_lasting(key: str) -> bool:
    """Whether a metric of this name is recorded when it changes: between two points it is what it was at the first."""
    return bool(_LASTING.search(key))


def interest(row: _Series) -> tuple[int, int, str, list[tuple[str, str]]]:
    """Sort key: losses of training first, then other losses, then the rest, ``system.`` last; alphabetical
    within each, but ``loss`` before others, and names that end so before names that only have it."""
    if is_loss(row.key):
        place = 1 if _VALIDATION.search(row.key) or "phase" in row.context else 0
    elif row.key.startswith("system."):
        place = 4
    else:
        place = 3 if _NOT_A_LOSS.search(row.key) else 2
    nearness = next((at for at, pattern in enumerate(_WHOLE_LOSSES) if pattern.search(row.key)), len(_WHOLE_LOSSES))
    return place, nearness, row.key, sorted(row.context.items())


def is_chosen(source: str) -> bool:
    """Whether the user chose this param, as opposed to a framework being found set to it."""
    return source in ("user", "argparse", "default", "constant")


def main_loss(rows: Sequence[_AnySeries]) -> _AnySeries | None:
    """The series whose last value a list of runs shows; None when no series looks like an objective."""
    best = min(rows, key=interest, default=None)
    if best is None or _NOT_A_LOSS.search(best.key):
        return None
    # Of one name in several phases of the training (optimizers, say), the one that was written last; of a job, rank 0's.
    named = [row for row in rows if row.key == best.key]
    return max([row for row in named if "rank" not in row.context] or named, key=lambda row: row.last_step)


@dataclass(frozen=True)
class Accounts:
    """What became of every record of a run: ``emitted = stored + in_journal + sum(dropped)``, always."""

    stored: int
    in_journal: int
    dropped: dict[str, int]

    @property
    def emitted(self) -> int:
        return self.stored + self.in_journal + sum(self.dropped.values())


def accounts(backend: Backend, run: str, in_journal: InJournal | None = None) -> Accounts:
    """Of a run, see :func:`added_up`."""
    return added_up(backend.delivery(run), in_journal)


def added_up(entries: Iterable[Delivery], in_journal: InJournal | None = None) -> Accounts:
    """Added up over all journals of a run. Without ``in_journal`` nothing is known to wait on disk.

    A record that the ledger has passed but that is neither stored nor counted as dropped could not be read
    back from its journal; it is counted as ``unreadable``.
    """
    stored = waiting = 0
    dropped: dict[str, int] = {}
    for entry in entries:
        stored += entry.stored
        lost = dict(entry.dropped)
        gap = entry.next - entry.stored - sum(lost.values())
        if gap > 0:
            lost["unreadable"] = lost.get("unreadable", 0) + gap
        for reason, count in lost.items():
            if count:
                dropped[reason] = dropped.get(reason, 0) + count
        if in_journal is not None:
            waiting += in_journal(entry.journal, entry.next)
    return Accounts(stored, waiting, dict(sorted(dropped.items())))


def duration_seconds(row: RunRow) -> float:
    """From start to end; for a run that has not ended, to its last sign of life."""
    last = row.ended_ns if row.ended_ns is not None else max(row.heartbeat_ns or 0, row.started_ns)
    return max(0, last - row.started_ns) / 1e9
