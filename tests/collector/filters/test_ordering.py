"""Orders and cursors: only what a search can follow gets through."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from looptap_collector.filters import FilterError
from looptap_collector.filters.ordering import Place, Term, cursor, fingerprint, parse_cursor, parse_order
from looptap_collector.filters.tree import Field

ORDER = ("-metrics.loss.min", "name", "params.lr")
PRINT = fingerprint("params.lr exists", ORDER)
PLACE = Place(PRINT, (-5, "a", 0.5), "r1")


def read(text: str, filter: str | None = "params.lr exists", order: tuple[str, ...] = ORDER) -> Place:
    return parse_cursor(text, filter, order, parse_order(order))


def test_order_is_a_list_of_fields() -> None:
    """The same names as in filters, with - for the greatest first; newest first without any."""
    assert parse_order(ORDER)[:2] == (Term(Field("metrics", "loss", "min"), True), Term(Field("run", "name"), False))
    assert parse_order(()) == (Term(Field("run", "started"), True),)


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("(SELECT 1)", 0),
        ("-(SELECT hash FROM token)", 1),
        ("started DESC", 0),
        ("started; DROP TABLE run", 0),
        ("params.a, params.b", 0),
        ("-colour", 1),
        ("--name", 1),
        ("", 0),
        ("-", 1),
        ("run.identity", 0),
        ("params." + "x" * 2_000, 0),
        ('params."a\0"', 0),
        ("name\ud800", 4),
        ("1", 0),
    ],
)
def test_order_by_anything_else_is_refused(text: str, position: int) -> None:
    """Expressions, lists, columns of tables: an error of the order, with the place in the term that is wrong."""
    with pytest.raises(FilterError) as caught:
        parse_order(["name", text])
    assert (caught.value.field, caught.value.position, caught.value.text) == ("order", position, text)


def test_order_has_few_fields() -> None:
    """Eight fields at most."""
    parse_order(["name"] * 8)
    with pytest.raises(FilterError, match="at most 8"):
        parse_order(["name"] * 9)


def test_cursor_is_opaque_and_exact() -> None:
    """What is read is what was written, in characters that an address may hold."""
    text = cursor(PLACE)
    assert read(text) == PLACE
    assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def test_cursor_belongs_to_its_search() -> None:
    """With another filter or order it is refused rather than followed."""
    for filter, order in [
        (None, ORDER),
        ("params.lr exists ", ORDER),
        ("params.lr exists", (*ORDER[:2], "-params.lr")),
    ]:
        with pytest.raises(FilterError, match="another filter or order") as caught:
            read(cursor(PLACE), filter, order)
        assert caught.value.field == "cursor"


@pytest.mark.parametrize(
    "values",
    [
        (),
        (-5, "a"),
        (-5, "a", 0.5, 1),
        ("a", "a", 0.5),
        (-5, 1, 0.5),
        (-5, "a", 1),
        (-5, "a", float("nan")),
        (-5, "a", float("inf")),
        (2**63, "a", 0.5),
        (-5, "a\0", 0.5),
        (-5, "a" * 129, 0.5),
        (-5.0, "a", 0.5),
        (True, "a", 0.5),
    ],
)
def test_forged_values_are_refused(values: tuple[Any, ...]) -> None:
    """A value of another kind than its field never reaches an engine."""
    with pytest.raises(FilterError, match="not one that a page gave"):
        read(base64.urlsafe_b64encode(msgspec.msgpack.encode([PRINT, values, "r1"])).decode().rstrip("="))


@pytest.mark.parametrize("run", ["", "x" * 65, "a\0"])
def test_forged_ids_are_refused(run: str) -> None:
    """An id that no run can have."""
    with pytest.raises(FilterError):
        read(cursor(Place(PRINT, PLACE.values, run)))


@given(st.text() | st.binary().map(lambda data: base64.urlsafe_b64encode(data).decode()), st.integers(0, 200))
def test_any_other_text_is_refused(text: str, at: int) -> None:
    """Random text, random bytes, and a true cursor with a change somewhere in it."""
    true = cursor(PLACE)
    for forged in (text, true + text, true[: at % len(true)] + text, true + "=", true + "A"):
        if forged != true:
            with pytest.raises(FilterError):
                read(forged)
