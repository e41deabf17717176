"""The language: what is understood, what is refused, and where the error says it is."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from looptap_collector.filters import FilterError, narrowed, parse
from looptap_collector.filters.literals import quoted, unquoted
from looptap_collector.filters.parsing import NESTING, TERMS, TEXT_BYTES
from looptap_collector.filters.tree import All, Any, Compare, Exists, Field, Not, Tree
from looptap_collector.testing.strategies import filters

NOW_NS = 1_800_000_000_000_000_000
DAY_NS = 86_400 * 10**9


def refused(text: str) -> FilterError:
    with pytest.raises(FilterError) as caught:
        parse(text)
    error = caught.value
    assert (error.field, error.text) == ("filter", text)
    assert 0 <= error.position <= len(text)
    assert error.message.isprintable()
    assert len(error.message) < 300
    return error


def test_whole_filter() -> None:
    """The example of the design, as a tree."""
    text = 'metrics.loss.last < 0.3 and params.lr = 0.001 and tags.team = "nlp" and started > "-7d"'
    assert parse(text, NOW_NS) == All(
        (
            Compare(Field("metrics", "loss"), "<", (0.3,)),
            Compare(Field("params", "lr"), "=", (0.001,)),
            Compare(Field("tags", "team"), "=", ("nlp",)),
            Compare(Field("run", "started"), ">", (NOW_NS - 7 * DAY_NS,)),
        )
    )


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("git.commit", Field("run", "git.commit")),
        ("params.optimizer.lr", Field("params", "optimizer.lr")),
        ('params."a b"', Field("params", "a b")),
        ("params.'a b'.c", Field("params", "a b.c")),
        ("params.or", Field("params", "or")),
        ("params.0", Field("params", "0")),
        ("params.last", Field("params", "last")),
        ("params.größe", Field("params", "größe")),
        ('tags."\\u00e9\\"\\n"', Field("tags", 'é"\n')),
        ("metrics.loss", Field("metrics", "loss")),
        ("metrics.val/loss.min", Field("metrics", "val/loss", "min")),
        ('metrics."val/loss".min', Field("metrics", "val/loss", "min")),
        ("metrics.system.gpu.0.memory.first_step", Field("metrics", "system.gpu.0.memory", "first_step")),
        ('metrics.train."last"', Field("metrics", "train.last")),
        ("metrics.last", Field("metrics", "last")),
        ("metrics.last.max", Field("metrics", "last", "max")),
        ("metrics.loss{phase=test}.max", Field("metrics", "loss", "max", (("phase", "test"),))),
        ("metrics.lr{ group = 1, 'a b' = \"}\" }", Field("metrics", "lr", "last", (("a b", "}"), ("group", "1")))),
        ("metrics.loss{}", Field("metrics", "loss", "last", ())),
    ],
)
def test_names_of_fields(text: str, field: Field) -> None:
    """Dots belong to a key, odd characters need quotes, and a metric's last part may be one of its numbers."""
    assert parse(f"{text} exists") == Exists(field)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("a or b and not c", "a or (b and (not c))"),
        ("(a or b) and c", "(a or b) and c"),
        ("not a and b", "(not a) and b"),
        ("NOT a AND b", "(not a) and b"),
    ],
)
def test_precedence(text: str, tree: str) -> None:
    """``not`` binds closest, then ``and``, then ``or``; words are the same in capitals."""

    def full(letters: str) -> Tree:
        return parse(re.sub(r"\b([abc])\b", r"params.\1 exists", letters))

    assert full(text) == full(tree)


def test_relations() -> None:
    """Lists are several values of ``=`` and ``!=``; ``is missing`` is ``not … exists``; ``==`` is ``=``."""
    lr = Field("params", "lr")
    assert parse("params.lr in (1, 2,)") == Compare(lr, "=", (1.0, 2.0))
    assert parse('params.lr not in ("a")') == Compare(lr, "!=", ("a",))
    assert parse("params.lr == true") == Compare(lr, "=", (True,))
    assert parse("params.lr is missing") == Not(Exists(lr))
    assert parse("params.lr<-1e-3") == Compare(lr, "<", (-1e-3,))


@pytest.mark.parametrize(
    ("literal", "value"),
    [("1", 1.0), ("-1.5e-3", -1.5e-3), (".5", 0.5), ("+2.", 2.0), ("inf", math.inf), ("-Infinity", -math.inf)],
)
def test_numbers(literal: str, value: float) -> None:
    """Numbers are doubles, in every usual spelling."""
    (found,) = getattr(parse(f"params.x = {literal}"), "values")  # noqa: B009
    assert (found, type(found)) == (value, float)


@pytest.mark.parametrize(
    ("literal", "time_ns"),
    [
        ("1970-01-02", DAY_NS),
        ("1970-01-01T00:00:01Z", 10**9),
        ("1970-01-01 01:00:01.000000001+01:00", 10**9 + 1),
        ("1970-01-01T00:00:00-0030", 1_800 * 10**9),
        ("-3h", NOW_NS - 3 * 3_600 * 10**9),
        ("-2w", NOW_NS - 14 * DAY_NS),
        ("0001-01-01", -(2**63)),
        ("9999-12-31", 2**63 - 1),
    ],
)
def test_times(literal: str, time_ns: int) -> None:
    """ISO 8601 in UTC unless it says otherwise, to the nanosecond; or counted back from now; within 64 bits."""
    assert parse(f'started > "{literal}"', NOW_NS) == Compare(Field("run", "started"), ">", (time_ns,))


@pytest.mark.parametrize(
    ("literal", "seconds"), [("90", 90), ("0.5", 0.5), ('"2h"', 7_200), ('"1h 30m"', 5_400), ('"1.5d"', 129_600)]
)
def test_durations(literal: str, seconds: float) -> None:
    """Seconds, or numbers with units."""
    assert parse(f"duration > {literal}") == Compare(Field("run", "duration"), ">", (round(seconds * 1e9),))


@pytest.mark.parametrize(
    ("text", "position", "message"),
    [
        ("", 0, "empty"),
        ("metric.loss < 1", 0, "did you mean 'metrics.loss'?"),
        ("statsu = 'x'", 0, "did you mean 'status'?"),
        ("name = 'x' and colour = 1", 15, "known are id, name, experiment"),
        ("params = 1", 6, "params needs a key"),
        ("params.lr", 9, "expected one of = != < <= > >= ~ (contains), in, not in, exists, is missing"),
        ("params.lr <", 11, "expected a number, a text in quotes, true or false"),
        ("params.lr = 1 2", 14, "expected and, or, or the end"),
        ("(params.lr = 1", 14, "expected and, or, or )"),
        ("params.lr in 1", 13, "expected a list in parentheses"),
        ("params.lr in (1", 15, "expected , or )"),
        ("params.lr in (1, 'a')", 17, "of one kind"),
        ("status = finished", 9, 'text must stand in quotes: "finished"'),
        ("name = 'x", 7, "no closing quote"),
        ("tags.'x = 1", 4, "after the dot comes a key"),
        ("params.x = 12abc", 11, "not a number"),
        ("params.x = 1e999", 11, "too large"),
        ("params.x < nan", 11, "use = or !="),
        ("params.x < 'a'", 11, "use = or !="),
        ("params.x ~ 1", 11, "a text in quotes"),
        ("metrics.x ~ 'a'", 12, "compared with a number"),
        ("metrics.x = 'a'", 12, "compared with a number"),
        ("metrics.x{a} = 1", 10, "a context is"),
        ("params.x{a=1} = 1", 8, "after a context of params comes nothing"),
        ("tags.x = 1", 9, 'the value needs quotes: "1"'),
        ("started > 5", 10, "a time in quotes"),
        ("started > 'yesterday'", 10, "counted back from now"),
        ("started > '2026-02-30'", 10, "no such time"),
        ("duration > '2 hours'", 11, 'or "90s"'),
        ("name = 'a\\qb'", 9, "means nothing here"),
        ("name = 'a\\u0000'", 9, "not a character"),
        ("name = 'a' && name = 'b'", 11, "write and"),
        ("name like 'a'", 5, "~ (contains)"),
        ("name = 'a\0'", 9, "NUL"),
        ("name = 'a\ud800'", 9, "not valid Unicode"),
    ],
)
def test_errors_say_what_and_where(text: str, position: int, message: str) -> None:
    """One line, with the place and how to mend it."""
    error = refused(text)
    assert message in error.message
    assert error.position == position


HOSTILE = [
    "' OR 1=1--",
    '"; DROP TABLE run; --',
    "ATTACH DATABASE '/etc/passwd' AS x",
    "name = 'x' UNION SELECT hash FROM token",
    "__class__.__bases__",
    "__class__.__bases__[0] = 1",
    "{{7*7}}",
    "${7*7}",
    "%",
    "_ = 1",
    "name LIKE '%'",
    "(a+)+$",
    "(SELECT 1) = 1",
    "params.x = 1; DELETE FROM run",
    "a" * 100_000,
    "name = '" + "x" * 100_000 + "'",
    "(" * 10_000 + "name = 'x'" + ")" * 10_000,
    "(" * 8_000,
    "not " * 2_000 + "name = 'x'",
    "not (" * 1_000 + "name = 'x'" + ")" * 1_000,
    " or ".join(["params.x = 1"] * 500),
    "a." * 4_000,
    "a." + '"x".' * 2_000,
    "a{" + '"a\\"\'' * 1_500,
    '"' + "\\" * 8_000,
    "-" * 8_000,
    "1" * 8_000,
    "params.x = " + "1" * 8_000,
    "params.x in (" + "1," * 4_000,
    "duration > '" + "1h" * 4_000 + "x'",
    "started > '" + "-" * 8_000 + "'",
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: text[:24])
def test_hostile_text_is_refused(text: str) -> None:
    """SQL, templates, attribute chains, patterns that blow up, and texts without end are errors like any other."""
    refused(text)


def test_limits() -> None:
    """At the limit a filter is read, beyond it the error says so."""
    parse(" or ".join(["params.x = 1"] * TERMS))
    assert "at most 64 comparisons" in refused(" or ".join(["params.x = 1"] * (TERMS + 1))).message
    parse("(" * NESTING + "params.x = 1" + ")" * NESTING)
    assert "32 deep" in refused("(" * (NESTING + 1) + "params.x = 1" + ")" * (NESTING + 1)).message
    room = "name = '{}'"
    parse(room.format("x" * (TEXT_BYTES - len(room) + 2)))
    assert "8192 bytes" in refused(room.format("x" * (TEXT_BYTES - len(room) + 3))).message


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
@example("\\f \\b \f\b")
def test_quoted_text_is_itself(text: str) -> None:
    """Whatever a text holds, quoting it and reading it gives the same text."""
    assert unquoted(quoted(text), 0) == text
    assert parse(f"name = {quoted(text)}") == Compare(Field("run", "name"), "=", (text,))


def test_narrowing_keeps_the_filter_together() -> None:
    """What is asked beside a filter holds for all of it, and no quote in it gets out."""
    assert narrowed(None) is None
    assert narrowed("params.a = 1", experiment=None) == "params.a = 1"
    text = narrowed("params.a = 1 or params.b = 1", experiment='x" or name = "y', status="finished")
    assert text is not None
    tree = parse(text)
    assert isinstance(tree, All)
    assert tree.items[1:] == (
        Compare(Field("run", "experiment"), "=", ('x" or name = "y',)),
        Compare(Field("run", "status"), "=", ("finished",)),
    )
    with pytest.raises(FilterError) as caught:
        narrowed("params.a = 1) or (params.b = 1", experiment="x")
    assert caught.value.position == 12


def depth(tree: Tree) -> int:
    if isinstance(tree, (All, Any)):
        return 1 + max(map(depth, tree.items))
    return 1 + depth(tree.item) if isinstance(tree, Not) else 1


_words = """( ) = < > ~ , . { } ' " \\ - + % and or not in is missing exists params metrics tags.a name nan loss{a=b} .last 1e5 'x'
"-7d" started duration true 🦦"""
_pieces = st.sampled_from([*_words.split(), "\ud800", "\0", "\x1b[0m", "\u2028", "\n"])


@settings(max_examples=500, deadline=None)
@given(st.one_of(st.text(), st.lists(_pieces).map("".join), st.lists(_pieces).map(" ".join), filters))
@example("params.'\n' = x.'\n'")
def test_any_text_is_a_filter_or_an_error(text: str) -> None:
    """Nothing but :class:`FilterError` is ever raised, in one line, with a place inside of the text; no tree is deep."""
    try:
        tree = parse(text)
    except FilterError:
        refused(text)
    else:
        assert depth(tree) <= 3 * NESTING
