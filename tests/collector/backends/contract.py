"""What every backend must do, as a suite: subclass it beside a fixture ``backend`` that opens an empty store on the real
engine, and a fixture ``reopen`` that gives further, independent connections to the same store, as other processes would have.
"""

from __future__ import annotations

from collector.backends.contracts.company import CompanyContract, Reopen
from collector.backends.contracts.groups import GroupContract
from collector.backends.contracts.ledger import LedgerContract
from collector.backends.contracts.points import PointContract
from collector.backends.contracts.records import RecordContract
from collector.backends.contracts.tokens import TokenContract

__all__ = ["BackendContract", "Reopen", "TokenContract"]


class BackendContract(RecordContract, PointContract, LedgerContract, GroupContract, CompanyContract):
    """The protocol :class:`looptap_collector.backend.Backend`."""
