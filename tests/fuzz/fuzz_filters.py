"""Looks for text that makes the filter parser raise anything but FilterError, or take long.

::

    pip install atheris
    PYTHONPATH=agent:collector python tests/fuzz/fuzz_filters.py -max_total_time=600 -max_len=9000 -timeout=1

Not part of the test suite; what it finds becomes an example there (tests/collector/filters/test_parsing.py). ``-timeout`` is in
seconds for one text. A corpus folder may be given as a last argument.
"""

from __future__ import annotations

import contextlib
import sys

import atheris

with atheris.instrument_imports(include=["looptap_collector.filters"]):
    from looptap_collector.filters import FilterError, parse
    from looptap_collector.filters.ordering import parse_cursor, parse_order
    from looptap_collector.filters.sql import condition


def one_text(data: bytes) -> None:
    text = atheris.FuzzedDataProvider(data).ConsumeUnicode(len(data))
    with contextlib.suppress(FilterError):
        str(condition(parse(text)))
    with contextlib.suppress(FilterError):
        parse_order([text])
    with contextlib.suppress(FilterError):
        parse_cursor(text, None, (), parse_order(()))


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_text)
    atheris.Fuzz()
