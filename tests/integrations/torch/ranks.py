"""Jobs of several real processes, and what holds for the record of each."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from programs import Programs


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def torchrun(programs: Programs, code: str, *options: str, **more: str) -> subprocess.CompletedProcess[str]:
    words = ["-m", "torch.distributed.run", "--master-port", str(free_port()), *options, str(programs.script(code))]
    return programs.command([sys.executable, *words], OMP_NUM_THREADS="1", **more)


def assert_every_rank_is_exact(folder: Path, run: Any, world_size: int) -> None:
    for rank in range(world_size):
        truth = json.loads((folder / f"truth{rank}.json").read_text())
        table = run.history("loss", {"rank": str(rank)} if rank else {})
        assert table["value"].tolist() == truth, f"rank {rank}"
        assert table["step"].tolist() == list(range(len(truth))), f"rank {rank}"


def assert_told_once(record: dict[str, Any]) -> None:
    """No param has a second revision, none was told by two, and nothing was stored beside what is shown: one start for every
    journal, one end for every rank, the environment once; only ``model.pt`` is written by each rank."""
    assert [key for key, param in record["params"].items() if "revisions" in param] == []
    points = sum(metric["count"] for metric in record["metrics"].values())
    once = sum(len(record[kind]) for kind in ("params", "tags", "notes", "datasets", "artifacts"))
    again = sum(record["run"]["world_size"] - 1 for file in record["artifacts"] if file["name"] == "model.pt")
    journals = record["delivery"]["journals"]
    ends = sum(1 for journal in journals if journal["status"])
    assert record["delivery"]["stored"] == points + once + again + len(journals) + ends + 1
    assert len(record["notes"]) == len({(note["topic"], note["message"]) for note in record["notes"]})
