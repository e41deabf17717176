"""Who may do what: three scopes, and a mark on every route.

A route says which scope it needs with :func:`needs`; an app with a route that does not say so cannot be made, and a path
that nobody marked is answered like one that does not exist. So nothing is open because somebody forgot to close it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import msgspec
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Match
from starlette.types import Scope as AsgiScope

_Endpoint = TypeVar("_Endpoint", bound=Callable[..., Any])


class Scope(enum.Enum):
    """``PUBLIC`` is for the two health checks only. ``ADMIN`` may do all."""

    PUBLIC = "public"
    INGEST = "ingest"
    READ = "read"
    ADMIN = "admin"


class Caller(msgspec.Struct, frozen=True):
    """Who asks: the name and scope of the token. ``token`` is its id."""

    name: str
    scope: Scope
    token: str

    def may(self, needed: frozenset[Scope]) -> bool:
        return self.scope is Scope.ADMIN or self.scope in needed


class Unscoped(TypeError):
    """A route does not say who may use it."""


def needs(*scopes: Scope) -> Callable[[_Endpoint], _Endpoint]:
    """Mark an endpoint with the scopes of which one is enough (``ADMIN`` always is)."""

    def mark(endpoint: _Endpoint) -> _Endpoint:
        endpoint.__dict__["needed_scopes"] = frozenset(scopes)
        return endpoint

    return mark


class AccessTable:
    """Which scopes the routes of an app need."""

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        """Raises :class:`Unscoped` for a route without a mark, and for anything that is not a plain route."""
        self._routes: list[tuple[APIRoute, frozenset[Scope]]] = []
        for route in routes:
            marks = getattr(getattr(route, "endpoint", None), "needed_scopes", None)
            if not isinstance(route, APIRoute) or not marks:
                raise Unscoped(
                    f"the route {getattr(route, 'path', route)} does not say who may use it: @needs(Scope.…)"
                )
            self._routes.append((route, marks))

    def __iter__(self) -> Iterator[tuple[str, str, frozenset[Scope]]]:
        """(method, path, scopes) of every route."""
        return ((method, route.path, marks) for route, marks in self._routes for method in sorted(route.methods or ()))

    def needed(self, scope: AsgiScope) -> frozenset[Scope] | None:
        """The scopes for a request; None when no route answers to its path. For a path that is known under another
        method, those of that one: the answer is then 405, to those who may know."""
        partial = None
        for route, marks in self._routes:
            match, _ = route.matches(scope)
            if match is Match.FULL:
                return marks
            if match is Match.PARTIAL:
                partial = marks
        return partial
