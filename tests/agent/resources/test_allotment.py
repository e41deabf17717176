"""What a run is given: by the machine, a batch system, a cluster."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import psutil
import pytest

from looptap.resources.allotment import AllotmentReader
from looptap.resources.energy import EnergyReader
from looptap.resources.reader import Absent, Subject
from programs import Programs


def allotted(root: Path, **environment: str) -> dict[str, Any]:
    reader = AllotmentReader(root)
    reader.open(Subject(1, 1, "/", environment))
    return reader.allotted()


def test_a_machine_without_limits(tmp_path: Path) -> None:
    """All of its memory, and the cores that the scheduler may use."""
    cores = len(os.sched_getaffinity(0))
    assert allotted(tmp_path) == {
        "allotted.cpus": float(cores),
        "allotted.cpu_affinity": cores,
        "allotted.memory": psutil.virtual_memory().total,
    }


def test_slurm(tmp_path: Path) -> None:
    """What the batch system says of the job, and nothing where it says nothing."""
    told = allotted(tmp_path, SLURM_JOB_ID="812", SLURM_JOB_PARTITION="gpu", SLURM_NNODES="2", SLURM_JOB_QOS="")
    found = {key: value for key, value in told.items() if "slurm" in key}
    assert found == {
        "allotted.slurm.job_id": "812",
        "allotted.slurm.partition": "gpu",
        "allotted.slurm.nodes": "2",
    }
    assert not any("slurm" in key for key in allotted(tmp_path, SLURM_NTASKS="4"))


def test_kubernetes(tmp_path: Path) -> None:
    """The downward API beats the files and names that every pod has."""
    file = tmp_path / "var/run/secrets/kubernetes.io/serviceaccount/namespace"
    file.parent.mkdir(parents=True)
    file.write_text("team\n")
    told = allotted(tmp_path, KUBERNETES_SERVICE_HOST="10.0.0.1", MY_POD_NAME="train-0", NODE_NAME="node-7")
    found = {key: value for key, value in told.items() if "kubernetes" in key}
    assert found == {
        "allotted.kubernetes.pod": "train-0",
        "allotted.kubernetes.namespace": "team",
        "allotted.kubernetes.node": "node-7",
    }


@pytest.mark.parametrize(
    ("vendor", "product", "expected"),
    [
        (
            "Amazon EC2",
            "p5.48xlarge",
            {"allotted.instance_type": "p5.48xlarge", "allotted.machine": "Amazon EC2 p5.48xlarge"},
        ),
        ("Maker Inc.", "Box 9000", {"allotted.machine": "Maker Inc. Box 9000"}),
    ],
)
def test_the_kind_of_machine(tmp_path: Path, vendor: str, product: str, expected: dict[str, str]) -> None:
    """The firmware names it; only where the name is that of a cloud's instance type, it is called so."""
    folder = tmp_path / "sys/class/dmi/id"
    folder.mkdir(parents=True)
    (folder / "sys_vendor").write_text(f"{vendor}\n")
    (folder / "product_name").write_text(f"{product}\n")
    found = {
        key: value for key, value in allotted(tmp_path).items() if key in ("allotted.instance_type", "allotted.machine")
    }
    assert found == expected


def test_params_of_a_run(programs: Programs) -> None:
    """A run has them, as what it was given and not as what its user has chosen."""
    done = programs.python(
        "import looptap\nlooptap.autolog()\nlooptap.log_metric('loss', 1.0)\nimport time; time.sleep(0.5)\n",
        LOOPTAP_RESOURCES="1",
        SLURM_JOB_ID="812",
    )
    assert done.returncode == 0, done.stderr
    params = programs.record()["params"]
    assert {param["source"] for param in params.values()} == {"allotment"}
    assert {"allotted.cpus", "allotted.cpu_affinity", "allotted.memory", "allotted.disk"} <= params.keys()
    assert params["allotted.slurm.job_id"]["value"] == "812"


def zone(folder: Path, name: str, kind: str, energy: int, wraps_at: int = 1_000_000) -> Path:
    made = folder / name
    made.mkdir(parents=True, exist_ok=True)
    for file, text in (("name", kind), ("energy_uj", str(energy)), ("max_energy_range_uj", str(wraps_at))):
        (made / file).write_text(f"{text}\n")
    return made / "energy_uj"


def test_energy_of_the_processors(tmp_path: Path) -> None:
    """Packages and their memory are added up from the begin of the run; a counter that begins again goes on; cores are in the
    package already."""
    first = zone(tmp_path, "intel-rapl:0", "package-0", 900_000)
    memory = zone(tmp_path, "intel-rapl:0:1", "dram", 0)
    zone(tmp_path, "intel-rapl:0:0", "core", 5)
    second = zone(tmp_path, "intel-rapl:1", "package-1", 100)
    reader = EnergyReader(tmp_path)
    reader.open(Subject(1, 1, "/", {}))
    assert reader.read(0.0) == {"system.energy.cpu": 0.0}
    first.write_text("300000\n")
    memory.write_text("50000\n")
    second.write_text("200100\n")
    assert reader.read(1.0)["system.energy.cpu"] == pytest.approx(0.4 + 0.05 + 0.2)


def test_no_counters_of_energy(tmp_path: Path) -> None:
    """A machine without them, or one that shows them to root only, has no such series."""
    with pytest.raises(Absent):
        EnergyReader(tmp_path / "none").open(Subject(1, 1, "/", {}))
    zone(tmp_path, "intel-rapl:0", "package-0", 1).unlink()
    with pytest.raises(Absent):
        EnergyReader(tmp_path).open(Subject(1, 1, "/", {}))
