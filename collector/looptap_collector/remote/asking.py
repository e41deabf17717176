"""One question to a collector, and its answer in the shape that is expected, or the error that a backend raises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from looptap_collector import exact
from looptap_collector.backend import Unavailable
from looptap_collector.filters import FilterError
from looptap_collector.remote.points import TooMany

if TYPE_CHECKING:
    from looptap.exchange import Answer, Exchange

_Shape = TypeVar("_Shape")


class NotThere(Unavailable):
    """The collector does not know what it was asked for. The message is the collector's own, one line."""


class _Wrong(msgspec.Struct):
    """Where a filter, an order or a cursor is wrong."""

    position: int = 0
    text: str = ""


class Questions:
    """``exchange`` is the agent's (:mod:`looptap.exchange`): it knows the collector's address, and which token may go there."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def ask(self, shape: type[_Shape], *path: str, **parameters: Any) -> _Shape:
        """Parameters that are None are left out, lists are told item by item.

        Raises :class:`NotThere`, :class:`TooMany`, :class:`FilterError`, ValueError for what cannot be asked, and
        :class:`Unavailable` in one line when there is no answer, or one that is of no use.
        """
        given = {name: value for name, value in parameters.items() if value is not None}
        answer = self.get(f"/v1/{in_path(*path)}?{urlencode(given, doseq=True)}", {"Accept": exact.MEDIA_TYPE})
        if answer.status == 200 and answer.media_type == exact.MEDIA_TYPE:
            try:
                return exact.decode(answer.body, shape)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                raise Unavailable(f"the collector answers in a form that this looptap does not know: {error}") from None
        self.refused(answer)
        raise self.unavailable(answer)

    def get(self, path: str, headers: Mapping[str, str]) -> Answer:
        try:
            return self._exchange.ask("GET", path, headers=headers)
        except OSError as error:
            raise Unavailable(str(error)) from None

    def unavailable(self, answer: Answer) -> Unavailable:
        return Unavailable(str(self._exchange.unavailable(answer)))

    def close(self) -> None:
        self._exchange.close()

    def refused(self, answer: Answer) -> None:
        """Raises what a refusal means, as :meth:`ask` does; returns where it is none, or only says that it is not possible now."""
        refusal = answer.refusal()
        if refusal is None:
            return
        problem = refusal.error
        if answer.status == 404 and problem.code == "not_found":
            raise NotThere(problem.message)
        if problem.code == "too_many":
            raise TooMany
        if problem.code in ("invalid_filter", "invalid_order", "invalid_cursor"):
            wrong = answer.read(_Wrong) or _Wrong()
            error = FilterError(problem.message, wrong.position, problem.field or "filter")
            error.text = wrong.text
            raise error
        if answer.status == 422:
            raise ValueError(problem.message)


def can_be_in_path(part: str) -> bool:
    """False for what an address makes something else of."""
    return part not in ("", ".", "..")


def in_path(*parts: str) -> str:
    """Raises ValueError where that would be another path."""
    if not all(map(can_be_in_path, parts)):
        raise ValueError(f"{parts[-1]!r} cannot be asked for over HTTP")
    return "/".join(quote(part, safe="") for part in parts)
