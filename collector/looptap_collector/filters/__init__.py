"""The one language in which runs are looked for: API, command line, Python and page. ``docs/filters.md`` explains it.

::

    tree = parse('metrics.loss.last < 0.3 and params.lr = 0.001 and started > "-7d"')
    condition(tree)         # looptap_collector.filters.sql: for SQL engines, bound parameters only
    evaluate(tree, run)     # for everything else, with the same result

No text of a filter ever becomes SQL, code or a pattern.
"""

from __future__ import annotations

from looptap_collector.filters.evaluation import RunView, evaluate
from looptap_collector.filters.parsing import narrowed, parse
from looptap_collector.filters.tree import FilterError

__all__ = ["FilterError", "RunView", "evaluate", "narrowed", "parse"]
