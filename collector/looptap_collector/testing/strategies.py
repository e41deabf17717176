"""Random filters and random runs, of few names and values, so that they meet."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from looptap.events import Batch, Environment, Param, RunEnded, Tag
from looptap_collector.filters.literals import quoted
from looptap_collector.testing.batches import START_NS, Journal, points, started

NAN, INF = float("nan"), float("inf")
TEXTS = [
    "",
    "a",
    "A",
    "a ",
    "b",
    "é",
    "e\u0301",
    "%",
    "_",
    "a%",
    "\\",
    "\\n",
    "\n",
    '"',
    "'",
    "ü🦦",
    "u00e9",
    "true",
    "1",
    "a,b",
]
NUMBERS = [0.0, -0.0, 1.0, 1.5, -2.0, 1e-3, 2.0**53, 1e308, 5e-324, NAN, INF, -INF]
KEYS = ["lr", "optimizer.lr", "a b", "val/loss", "min", 'q"', "é"]
CONTEXTS = [
    {},
    {"phase": "test"},
    {"phase": "test", "rank": "0"},
    {"rank": "1"},
    {"a": '"phase":"test"'},
    {'x","phase': "test"},
]
PARAMS: list[Any] = [
    *TEXTS,
    *NUMBERS,
    True,
    False,
    None,
    0,
    1,
    -2,
    2**53 + 1,
    10**400,
    [1],
    {"a": 1},
    "a\0b",
    "\\u0000",
]
TIMES = [START_NS, START_NS + 1, START_NS + 3_600 * 10**9, -(2**63), 2**63 - 1, 0]
STATS = ["last", "min", "max", "count", "first_step", "last_step"]
RELATIONS = ["=", "!=", "<", "<=", ">", ">=", "=="]


def some(values: list[Any]) -> st.SearchStrategy[Any]:
    return st.sampled_from(values)


@st.composite
def run_batches(draw: st.DrawFn, run: str) -> list[Batch]:
    """What one run told, in two batches: some params are told twice."""
    journal = Journal(run, run)
    names = draw(st.fixed_dictionaries({}, optional={"host": some(TEXTS), "user": some(TEXTS), "script": some(TEXTS)}))
    identity = started(
        run,
        name=draw(some(TEXTS[1:])),
        experiment=draw(some(["demo", "Demo", "a"])),
        kind=draw(some(["training", "serving"])),
        time_ns=draw(some(TIMES)),
        command=draw(some([(), ("\0",)])),
        **names,
    )
    records: list[Any] = [identity]
    if draw(st.booleans()):
        git = draw(st.fixed_dictionaries({}, optional={"git_commit": some(TEXTS), "git_branch": some(TEXTS)}))
        records.append(Environment(time_ns=1, **git))
    values = st.dictionaries(some(KEYS), some(PARAMS), max_size=4)
    records += [Param(key, value, "user", 1) for key, value in draw(values).items()]
    records += [Tag(key, value, 1) for key, value in draw(st.dictionaries(some(KEYS), some(TEXTS), max_size=3)).items()]
    series = [
        points(
            key,
            draw(some([[1, 2], [5, 3], [-(2**40), 2**53 + 1]])),
            draw(st.tuples(some(NUMBERS), some(NUMBERS))),
            context,
        )
        for key, context in draw(st.lists(st.tuples(some(KEYS[:4]), some(CONTEXTS)), max_size=4))
    ]
    later: list[Any] = [Param(key, value, "user", 2) for key, value in draw(values).items()]
    if draw(st.booleans()):
        later.append(RunEnded(draw(some(["finished", "failed"])), draw(some(TIMES))))
    heartbeat = draw(some([0, START_NS + 5, 2**63 - 1]))
    return [journal.batch(*records, series=series), journal.batch(*later, heartbeat_ns=heartbeat)]


def _key(key: str) -> str:
    return key if key in ("lr", "optimizer.lr", "val/loss", "é") else quoted(key)


def _context(context: dict[str, str]) -> str:
    return "{" + ", ".join(f"{quoted(name)}={quoted(value)}" for name, value in context.items()) + "}"


_text = some(TEXTS).map(quoted)
_number = some(NUMBERS).map(str) | st.integers(-3, 3).map(str)
_run_text = some(["id", "name", "experiment", "status", "kind", "host", "user", "script", "git.commit", "git.branch"])
_texts = _text | some(["demo", "finished", "training"]).map(quoted)
_tag = some(KEYS).map(lambda key: f"tags.{_key(key)}")
_param = some(KEYS).map(lambda key: f"params.{_key(key)}")
_metric = st.builds(
    lambda key, context, stat: f"metrics.{_key(key)}{context}.{stat}",
    some(KEYS[:4]),
    st.just("") | some([*CONTEXTS, {"rank": "0"}]).map(_context),
    some(STATS),
)
_span = some(["0", "1", "3600", "1e12", '"1h"', '"1h 30m"'])
_moment = some(
    ['"2027-01-15"', '"2027-01-15T08:00:00Z"', '"2027-01-15T09:00:00+01:00"', '"-1d"', '"0001-01-01"', '"9999-12-31"']
)


def _comparing(
    field: st.SearchStrategy[str], relations: list[str], value: st.SearchStrategy[str]
) -> st.SearchStrategy[str]:
    return st.builds(lambda *parts: " ".join(parts), field, some(relations), value)


def _among(field: st.SearchStrategy[str], value: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    listed = st.lists(value, min_size=1, max_size=3).map(lambda values: f"({', '.join(values)})")
    return st.builds(lambda *parts: " ".join(parts), field, some(["in", "not in"]), listed)


_ordered_number = _number.filter(lambda text: text != "nan")
terms = st.one_of(
    _comparing(_run_text | _tag | _param, ["=", "!=", "~"], _texts),
    _comparing(_param | _metric, ["=", "!="], _number),
    _comparing(_param | _metric, RELATIONS, _ordered_number),
    _comparing(_param, ["=", "!="], some(["true", "false"])),
    _comparing(st.just("duration"), RELATIONS, _span),
    _comparing(some(["started", "ended"]), RELATIONS, _moment),
    _among(_param | _metric, _number),
    _among(_run_text | _tag | _param, _texts),
    st.builds(
        lambda field, how: f"{field} {how}",
        _run_text | _tag | _param | _metric | some(["ended"]),
        some(["exists", "is missing"]),
    ),
)
filters = st.recursive(
    terms,
    lambda inner: st.one_of(
        st.builds("({} and {})".format, inner, inner),
        st.builds("({} or {})".format, inner, inner),
        st.builds("not {}".format, inner),
    ),
    max_leaves=5,
)
