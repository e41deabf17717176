"""Windows of serving over HTTP: the shape of the answers, and how they become those of a backend again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, product

import msgspec

from looptap.events import Window
from looptap_collector.backend import MOST_WINDOWS, RunWindow, Served, WindowQuery
from looptap_collector.backends.slices import slices
from looptap_collector.remote.asking import Questions
from looptap_collector.windows import added_up, window_order

Place = tuple[int, str]
#: Names in one question; the head of a request has an end.
_NAMES_AT_ONCE = 50


class WindowFields(Window, frozen=True, kw_only=True):
    run: str
    journal: str

    def window(self) -> RunWindow:
        told = Window(**{name: getattr(self, name) for name in Window.__struct_fields__})
        return RunWindow(self.run, self.journal, told)


class Windows(msgspec.Struct):
    """``next`` is what to give as ``before`` for those behind these; None when there are none."""

    windows: list[WindowFields]
    next: str | None


class ServedModels(msgspec.Struct):
    models: list[Served]


def place_in_words(place: Place) -> str:
    return f"{place[0]}:{place[1]}"


def place_of(words: str) -> Place:
    """Raises ValueError for what :func:`place_in_words` has not made."""
    time_ns, _, id = words.partition(":")
    return int(time_ns), id


def found(questions: Questions, query: WindowQuery) -> list[RunWindow]:
    windows: list[RunWindow] = []
    names = (query.runs, query.models, query.versions)
    slicings = [[None] if some is None else slices(sorted(set(some)), _NAMES_AT_ONCE) for some in names]
    for run, model, version in product(*slicings):
        asked = {
            "run": run,
            "model": model,
            "version": version,
            "reference": "true" if query.reference else None,
            "since_ns": query.since_ns,
            "until_ns": query.until_ns,
        }
        before = None if query.before is None else place_in_words(query.before)
        windows += islice(_pages(questions, asked, before, query.limit), query.limit)
    return sorted(windows, key=window_order)[: query.limit]


def _pages(questions: Questions, asked: Mapping[str, object], before: str | None, at_once: int) -> Iterator[RunWindow]:
    while at_once > 0:
        answer = questions.ask(Windows, "windows", limit=min(at_once, MOST_WINDOWS), before=before, **asked)
        yield from (fields.window() for fields in answer.windows)
        before = answer.next
        if before is None:
            return


def served(questions: Questions, runs: Sequence[str] | None, **between: int | None) -> list[Served]:
    slicing = [None] if runs is None else slices(sorted(set(runs)), _NAMES_AT_ONCE)
    return added_up(
        one for some in slicing for one in questions.ask(ServedModels, "serving", run=some, **between).models
    )
