"""A question says what it means, or is refused: ``?fliter=…`` must not be answered with all runs."""

from __future__ import annotations

import difflib

from fastapi import Request
from fastapi.routing import APIRoute

from looptap_collector.server.errors import Refusal


async def only_known_parameters(request: Request) -> None:
    """A dependency of routes. Raises :class:`Refusal` for a parameter of the query that the route does not have."""
    route = request.scope["route"]
    assert isinstance(route, APIRoute)
    known = [parameter.alias for parameter in route.dependant.query_params]
    for name in request.query_params:
        if name not in known:
            near = difflib.get_close_matches(name[:80], known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known) or 'none'}"
            raise Refusal(422, "invalid", f"there is no parameter {name[:80]!r} here", field=name[:80], hint=hint)
