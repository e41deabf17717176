"""What every backend must do, as suites for pytest (``docs/backends.md``).

Subclass them in a file of tests beside two fixtures: ``backend`` opens an empty store on the real engine, and ``reopen`` is a
function that gives further, independent connections to the same store, as other processes would have.
"""

from __future__ import annotations

import pytest

# Before they are imported: a failed assertion then shows the values that it compared.
pytest.register_assert_rewrite("looptap_collector.testing.contracts")

from looptap_collector.testing.contracts.alerts import AlertContract  # noqa: E402
from looptap_collector.testing.contracts.compaction import CompactionContract  # noqa: E402
from looptap_collector.testing.contracts.company import CompanyContract, Reopen  # noqa: E402
from looptap_collector.testing.contracts.datasets import DatasetContract  # noqa: E402
from looptap_collector.testing.contracts.groups import GroupContract  # noqa: E402
from looptap_collector.testing.contracts.jobs import JobContract  # noqa: E402
from looptap_collector.testing.contracts.ledger import LedgerContract  # noqa: E402
from looptap_collector.testing.contracts.long_series import LongSeriesContract  # noqa: E402
from looptap_collector.testing.contracts.long_windows import LongWindowContract  # noqa: E402
from looptap_collector.testing.contracts.points import PointContract  # noqa: E402
from looptap_collector.testing.contracts.records import RecordContract  # noqa: E402
from looptap_collector.testing.contracts.searching import SearchContract  # noqa: E402
from looptap_collector.testing.contracts.tokens import TokenContract  # noqa: E402
from looptap_collector.testing.contracts.windows import WindowContract  # noqa: E402

__all__ = ["BackendContract", "CompactionContract", "LongWindowContract", "Reopen", "TokenContract"]


class BackendContract(
    RecordContract,
    JobContract,
    DatasetContract,
    AlertContract,
    WindowContract,
    PointContract,
    LongSeriesContract,
    SearchContract,
    LedgerContract,
    GroupContract,
    CompanyContract,
):
    """The protocol :class:`looptap_collector.backend.Backend`."""
