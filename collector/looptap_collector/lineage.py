"""From runs to the files that they read and wrote, from there to the runs that wrote and read those, and so on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from looptap_collector.backend import Backend, DatasetUse, Edge

#: A file that every run reads (the tokenizer, say) would bring in the whole store.
MOST_EDGES = 5_000


@dataclass
class Graph:
    """``complete`` is False when something beyond was left out."""

    runs: set[str] = field(default_factory=set)
    digests: set[str] = field(default_factory=set)
    edges: list[Edge] = field(default_factory=list)
    #: What the runs were fed with.
    datasets: list[DatasetUse] = field(default_factory=list)
    complete: bool = True


def graph(
    backend: Backend, *, run: str | None = None, digest: str | None = None, direction: str = "both", depth: int = 6
) -> Graph:
    """What is connected with a run or a file. ``direction``: ``up`` to what it was made of, ``down`` to what was made of it.
    ``depth``: steps from a run to a file, or from a file to a run."""
    drawn = Graph({run} if run else set(), {digest} if digest else set())
    known: dict[int, Edge] = {}
    for way in ("up", "down") if direction == "both" else (direction,):
        runs, digests = ({run} if run else set()), ({digest} if digest else set())
        seen_runs, seen_digests = set(runs), set(digests)
        for _ in range(depth):
            # Upwards a run leads to what it read, and a file to who wrote it; downwards the other way round.
            of_runs, of_digests = ("input", "output") if way == "up" else ("output", "input")
            found = _edges(backend, runs, digests, of_runs, of_digests, MOST_EDGES - len(known))
            drawn.complete = drawn.complete and len(known) + len(found) < MOST_EDGES
            known.update((edge.id, edge) for edge in found)
            digests = {
                edge.artifact.digest for edge in found if edge.artifact.digest and edge.run in runs
            } - seen_digests
            runs = {edge.run for edge in found} - seen_runs
            seen_runs |= runs
            seen_digests |= digests
            if not runs and not digests:
                break
        else:
            beyond = _edges(backend, runs, digests, of_runs, of_digests, 1)
            drawn.complete = drawn.complete and not any(edge.id not in known for edge in beyond)
        drawn.runs |= seen_runs
        drawn.digests |= seen_digests
    drawn.edges = [known[id] for id in sorted(known)]
    if drawn.runs:
        drawn.datasets = list(backend.datasets(runs=sorted(drawn.runs), limit=MOST_EDGES))
        drawn.complete = drawn.complete and len(drawn.datasets) < MOST_EDGES
    return drawn


def _edges(
    backend: Backend, runs: Iterable[str], digests: Iterable[str], of_runs: str, of_digests: str, limit: int
) -> list[Edge]:
    found: list[Edge] = []
    if (some_runs := sorted(runs)) and limit > 0:
        found += backend.edges(runs=some_runs, role=of_runs, limit=limit)
    if (some_digests := sorted(digests)) and limit > len(found):
        found += backend.edges(digests=some_digests, role=of_digests, limit=limit - len(found))
    return found
