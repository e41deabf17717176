"""In which order runs are listed, and the cursor that says where the next page begins.

A cursor holds the order's values of the last run of a page, so a page begins behind that run however many runs have come or
gone meanwhile. It is a place in a list, no secret: whatever it is changed to, it can only say another place.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from looptap_collector.filters.fields import KNOWN, kind_of, parse_field
from looptap_collector.filters.tree import Field, FilterError

TERMS = 8
TERM_CHARACTERS = 1_024
#: Texts are sorted by their first characters; a cursor must fit into an address.
TEXT_CHARACTERS = 128
_CURSOR_CHARACTERS = 8_192

SortValue: TypeAlias = int | float | str | None


class Term(msgspec.Struct, frozen=True):
    field: Field
    descending: bool


class Place(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Behind which run a page begins: its value for each term of the order, and its id."""

    query: bytes
    values: tuple[SortValue, ...]
    run: str


def parse_order(order: Sequence[str]) -> tuple[Term, ...]:
    """The terms of an order such as ``("-metrics.loss.min", "name")``; newest first when there is none.

    Raises :class:`FilterError`, of the field ``order``.
    """
    if len(order) > TERMS:
        raise FilterError(f"runs can be ordered by at most {TERMS} fields", 0, "order")
    return tuple(_term(text) for text in order or ("-started",))


def _term(text: str) -> Term:
    try:
        return _read(text)
    except FilterError as error:
        error.text = text
        raise


def _read(text: str) -> Term:
    if len(text) > TERM_CHARACTERS or "\0" in text:
        raise FilterError(f"an order is one of {KNOWN}, with - in front for the greatest first", 0, "order")
    _check_unicode(text, "order")
    descending = text.startswith("-")
    return Term(parse_field(text[descending:], int(descending), "order"), descending)


def cursor(place: Place) -> str:
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(place)).decode().rstrip("=")


def fingerprint(text: str | None, order: Sequence[str]) -> bytes:
    """What a cursor belongs to: the filter and the order as they were asked."""
    return hashlib.sha256(msgspec.msgpack.encode([text, list(order)])).digest()[:12]


def parse_cursor(text: str, text_of_filter: str | None, order: Sequence[str], terms: Sequence[Term]) -> Place:
    """The place that a cursor says. Raises :class:`FilterError`, of the field ``cursor``, when it is not one of this search."""
    wrong = FilterError("this cursor is not one that a page gave as its next", 0, "cursor")
    if len(text) > _CURSOR_CHARACTERS:
        raise wrong
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        place = msgspec.msgpack.decode(data, type=Place)
    except (binascii.Error, ValueError) as error:
        raise wrong from error
    if place.query != fingerprint(text_of_filter, order):
        raise FilterError("this cursor belongs to another filter or order; begin again without it", 0, "cursor")
    fitting = len(place.values) == len(terms) and all(map(_fits, terms, place.values))
    if not fitting or not 0 < len(place.run) <= 64 or "\0" in place.run or cursor(place) != text:
        raise wrong
    return place


def _fits(term: Term, value: SortValue) -> bool:
    """Only what the engine has to compare reaches it."""
    if value is None:
        return True
    if term.field.source == "params":
        return isinstance(value, float) and math.isfinite(value)
    if kind_of(term.field) == "text":
        return isinstance(value, str) and len(value) <= TEXT_CHARACTERS and "\0" not in value
    return isinstance(value, int) and -(1 << 63) <= value < 1 << 63


def _check_unicode(text: str, field: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise FilterError("this character is not valid Unicode", error.start, field) from None
