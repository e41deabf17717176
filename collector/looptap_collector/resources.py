"""Series of what a run used of its machine (``system.…``): in which unit they are, and how that is said."""

from __future__ import annotations

import re

from looptap_collector.backend import ParamRow
from looptap_collector.printable import number, setting, size

PREFIX = "system."
_SHORT = {"percent": "%", "seconds": "s", "watts": "W", "joules": "J", "celsius": "°C"}


#: Of what a machine gave, what the agent records in bytes; the page has the same.
_IN_BYTES = re.compile(r"allotted\.(memory|disk|gpu\.\d+\.memory)")


def param_in_words(param: ParamRow) -> str:
    """Its value, with a unit where it has one."""
    if param.source == "allotment" and _IN_BYTES.fullmatch(param.key) and isinstance(param.value, int):
        return size(param.value)
    return setting(param.value)


def is_resource(key: str) -> bool:
    return key.startswith(PREFIX)


def unit(key: str) -> str | None:
    """As the reader says that has read it; None where that is not installed here, and for all other series."""
    if not is_resource(key):
        return None
    from looptap.resources import units  # finds the readers that are installed: not for who asks for none

    return units.unit(key)


def in_words(value: float | None, unit: str | None) -> str:
    """``1.5 GiB``, ``250 %``; a number alone where there is no unit."""
    if value is None or value != value or unit in (None, "count"):
        return number(value)
    if unit in ("bytes", "bytes/s"):
        return size(round(value)) + unit.removeprefix("bytes")
    if unit == "hertz":
        return f"{number(value / 1e6)} MHz"
    return f"{value:.3g} {_SHORT.get(unit, unit)}" if abs(value) < 1000 else f"{value:,.0f} {_SHORT.get(unit, unit)}"
