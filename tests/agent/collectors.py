"""Collectors for the agent's tests to send to: the real server, in a thread of this process, with one token from the start."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from collector.server import collectors
from looptap_collector.artifacts import LocalArtifacts
from looptap_collector.artifacts.uploads import Uploads
from looptap_collector.backend import Backend, Delivery
from looptap_collector.server.access import Scope
from looptap_collector.server.tokens import hash_of, new_token, row_of

TOKEN = new_token()
#: Of all tokens here: whoever has one goes on with the runs of the others.
OWNER = "agent"


class Collector:
    """A collector as an agent's test looks into it."""

    def __init__(self, folder: Path, real: collectors.Collector) -> None:
        self.url = real.address
        self.port = int(real.address.rpartition(":")[2])
        self.backend: Backend = real.store
        self.artifacts = LocalArtifacts(folder / "artifacts")
        self.uploads: Uploads = real.app.state.service.uploads
        self._real = real

    def let_in(self, token: str) -> None:
        if hash_of(token) not in {row.hash for row in self._real.store.tokens()}:
            self._real.store.add_token(row_of(token, OWNER, Scope.ADMIN))
        self._real.keyring.refresh()

    def keep_out(self, token: str) -> None:
        self._real.store.revoke_token(row_of(token, OWNER, Scope.ADMIN).id, 1)
        self._real.keyring.refresh()

    def delivery(self, run: str) -> Delivery:
        (found,) = self.backend.delivery(run)
        return found

    def steps(self, run: str, key: str = "loss") -> list[int]:
        steps: list[int] = self.backend.history(run, key, {}).steps.tolist()
        return steps


@contextlib.contextmanager
def serving(folder: Path, port: int = 0) -> Iterator[Collector]:
    """A collector over the store in ``folder``, which may have been there before."""
    with collectors.collecting(folder, port) as real:
        found = Collector(folder, real)
        found.let_in(TOKEN)
        yield found
