"""GPUs by the real pynvml over a driver that says what a test wants."""

from __future__ import annotations

import ctypes.util
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pynvml
import pytest

from agent.resources.conftest import Gpus
from looptap.resources.nvidia import NvidiaReader
from looptap.resources.reader import Absent, Subject, Unreadable
from programs import Programs

Opened = Callable[..., NvidiaReader]


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def opened(notes: list[str]) -> Iterator[Opened]:
    """A reader in a program with this environment."""
    readers = []

    def open_reader(**environment: str) -> NvidiaReader:
        reader = NvidiaReader()
        readers.append(reader)
        reader.open(Subject(os.getpid(), os.getpid(), "/", environment, note=notes.append))
        return reader

    yield open_reader
    for reader in readers:
        reader.close()


def of(values: dict[str, Any], number: int) -> dict[str, Any]:
    """What is told of one GPU, by the last part of the name."""
    prefix = f"system.gpu.{number}."
    return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}


def test_all_that_is_known_of_a_gpu(gpus: Gpus, opened: Opened) -> None:
    """Every metric of the table but those of links that it has not, in the units of the table."""
    gpus(PROCESSES=f"{os.getpid()}:{3 << 30}", THROTTLE=0x20 | 0x04)
    values = of(opened().read(10.0), 0)
    assert values == {
        "utilization": 37.0,
        "memory_used": 8 << 30,
        "memory_percent": 10.0,
        "memory_used_by_run": 3 << 30,
        "power": 350.0,
        "power_percent": 50.0,
        "energy": 0.0,
        "temperature": 61.0,
        "clock_sm": 1.98e9,
        "clock_memory": 2.619e9,
        "throttled_power": 1.0,
        "throttled_heat": 1.0,
        "throttled_other": 0.0,
        "pcie_sent_rate": 1 << 20,
        "pcie_received_rate": 2 << 20,
        "ecc_corrected": 2.0,
        "ecc_uncorrected": 0.0,
        "xid_errors": 0.0,
    }
    told = {metric.name.removeprefix("system.gpu.N.") for metric in NvidiaReader.metrics}
    assert told == values.keys() | {"nvlink_sent_rate", "nvlink_received_rate"}


def test_what_the_run_was_given(gpus: Gpus, opened: Opened) -> None:
    """The GPUs that it sees in its own order, with what they are and how they are connected."""
    gpus(DEVICES=8, NAME_1="Imaginary A100")
    told = opened(CUDA_VISIBLE_DEVICES="1,0,4", CUDA_DEVICE_ORDER="PCI_BUS_ID").allotted()
    assert told["allotted.gpus"] == 3
    assert (told["allotted.driver"], told["allotted.cuda"]) == ("550.54.15", "12.4")
    assert of_allotted(told, 0) == {
        "name": "Imaginary A100",
        "uuid": "GPU-00000001-0000-0000-0000-000000000001",
        "memory": 80 << 30,
        "power_limit": 700.0,
        "compute_mode": "exclusive process",
    }
    assert told["allotted.topology"] == {"0-1": "NVLink", "0-2": "system", "1-2": "system"}


def of_allotted(told: dict[str, Any], number: int) -> dict[str, Any]:
    prefix = f"allotted.gpu.{number}."
    return {name.removeprefix(prefix): value for name, value in told.items() if name.startswith(prefix)}


def test_numbers_are_those_of_the_program(gpus: Gpus, opened: Opened) -> None:
    """``CUDA_VISIBLE_DEVICES=GPU-…2,0``: what is GPU 2 for the driver is GPU 0 for the program."""
    gpus(DEVICES=4, UTILIZATION_0=10, UTILIZATION_2=90)
    values = opened(CUDA_VISIBLE_DEVICES="GPU-00000002,0").read(10.0)
    assert (of(values, 0)["utilization"], of(values, 1)["utilization"]) == (90.0, 10.0)
    assert not of(values, 2)


def test_energy_is_the_integral_of_the_power(gpus: Gpus, opened: Opened) -> None:
    """Within 2 %, with a load that changes; what was used before the run does not count."""
    gpus(POWER=350_000, ENERGY=10**12)
    reader = opened()
    assert of(reader.read(time.monotonic()), 0)["energy"] == 0.0
    for watts in (350, 700, 100):
        gpus(POWER=watts * 1000)
        before, began = of(reader.read(time.monotonic()), 0)["energy"], time.monotonic()
        time.sleep(0.5)
        after, ended = of(reader.read(time.monotonic()), 0)["energy"], time.monotonic()
        assert after - before == pytest.approx(watts * (ended - began), rel=0.02)


def test_a_counter_that_jumps_back(gpus: Gpus, opened: Opened) -> None:
    """After a reset of the driver the energy of the run goes on from where it was, and no rate is negative."""
    gpus(POWER=0, ENERGY=1_000_000, NVLINK=10_000)
    reader = opened()
    reader.read(10.0)
    gpus(ENERGY=1_500_000, NVLINK=20_000)
    values = of(reader.read(12.0), 0)
    assert values["energy"] == pytest.approx(500.0)
    assert values["nvlink_sent_rate"] == 10_000 * 1024 / 2
    assert values["nvlink_received_rate"] == 30_000 * 1024 / 2
    gpus(ENERGY=100, NVLINK=5)
    values = of(reader.read(14.0), 0)
    assert values["energy"] == pytest.approx(500.0)
    assert "nvlink_sent_rate" not in values
    gpus(ENERGY=50_100)
    assert of(reader.read(16.0), 0)["energy"] == pytest.approx(550.0)


def test_mig_instances(gpus: Gpus, opened: Opened) -> None:
    """Each instance has its own memory. Its use, power and heat are those of a GPU that others use, too: missing, not invented."""
    gpus(MIG=3, PROCESSES=f"{os.getpid()}:{1 << 20}")
    reader = opened()
    assert reader.allotted()["allotted.gpus"] == 3
    values = reader.read(10.0)
    for number in range(3):
        assert of(values, number) == {
            "memory_used": (number + 1) << 30,
            "memory_percent": 10.0 * (number + 1),
            "memory_used_by_run": 1 << 20,
        }
    chosen = opened(CUDA_VISIBLE_DEVICES="MIG-00000000-0000-0000-0000-000000000002").read(10.0)
    assert of(chosen, 0)["memory_used"] == 3 << 30
    assert not of(chosen, 1)


def test_memory_of_the_children(gpus: Gpus, opened: Opened) -> None:
    """What its workers hold is the run's; what others hold is not."""
    with subprocess.Popen(["sleep", "60"]) as child:
        gpus(PROCESSES=f"{os.getpid()}:1000,{child.pid}:500,1:7000")
        assert of(opened().read(10.0), 0)["memory_used_by_run"] == 1500.0
        child.kill()


def test_processes_that_are_hidden_or_numbered_otherwise(gpus: Gpus, opened: Opened) -> None:
    """In a container the driver may show none of its processes, or numbers of the machine outside: whose the memory is, is not
    known then."""
    reader = opened()
    for shown in ("", "1:5000", "4194000:5000"):
        gpus(PROCESSES=shown)
        assert "memory_used_by_run" not in of(reader.read(10.0), 0)
    # The driver does not tell how much: pynvml says None for that number.
    gpus(PROCESSES=f"{os.getpid()}:{2**64 - 1}")
    assert "memory_used_by_run" not in of(reader.read(10.0), 0)


def test_a_gpu_that_is_lost(gpus: Gpus, opened: Opened, notes: list[str]) -> None:
    """The others go on, with one note; when all are gone the reader says so, and is opened again later."""
    gpus(DEVICES=2)
    reader = opened()
    assert of(reader.read(10.0), 1)
    gpus(LOST_1=1)
    values = reader.read(11.0)
    assert of(values, 0)
    assert not of(values, 1)
    assert notes == ["GPU 1 cannot be read any more: GPU is lost"]
    gpus(LOST=1)
    with pytest.raises(Unreadable, match="GPU is lost"):
        reader.read(12.0)
    reader.close()
    gpus(LOST=0, LOST_1=0)
    assert of(opened().read(13.0), 1)


def test_somebody_else_shuts_nvml_down(gpus: Gpus, opened: Opened) -> None:
    """The program uses NVML itself, and ends that once too often: it can be opened again."""
    reader = opened()
    pynvml.nvmlShutdown()
    with pytest.raises(Unreadable):
        reader.read(10.0)
    reader.close()
    assert of(opened().read(11.0), 0)


def test_old_drivers(old_gpus: Gpus, opened: Opened) -> None:
    """What a driver does not have is missing; all else is there."""
    reader = opened()
    for now in (10.0, 11.0):
        values = of(reader.read(now), 0)
        assert values["utilization"] == 37.0
        assert not values.keys() & {"energy", "ecc_corrected", "nvlink_sent_rate", "xid_errors"}


def test_permission_denied(gpus: Gpus, opened: Opened) -> None:
    """A question that may not be asked is not asked again."""
    gpus(FAIL_DeviceGetPowerUsage=4)
    reader = opened()
    assert "power" not in of(reader.read(10.0), 0)
    gpus(FAIL_DeviceGetPowerUsage=0)
    values = of(reader.read(11.0), 0)
    assert not values.keys() & {"power"}
    assert values["temperature"] == 61.0


def test_one_bad_answer_is_missing_once(gpus: Gpus, opened: Opened) -> None:
    """A time-out is nothing that lasts."""
    gpus(FAIL_DeviceGetTemperature=10)
    reader = opened()
    assert "temperature" not in of(reader.read(10.0), 0)
    gpus(FAIL_DeviceGetTemperature=0)
    assert of(reader.read(11.0), 0)["temperature"] == 61.0


def test_errors_of_the_driver_are_counted(gpus: Gpus, opened: Opened) -> None:
    """Only those since the run began, each for its GPU."""
    gpus(DEVICES=2, XIDS_1=5)
    reader = opened()
    gpus(XIDS_1=7)
    values = reader.read(10.0)
    assert (of(values, 0)["xid_errors"], of(values, 1)["xid_errors"]) == (0.0, 2.0)


@pytest.mark.parametrize("environment", [{"CUDA_VISIBLE_DEVICES": ""}, {"CUDA_VISIBLE_DEVICES": "-1"}])
def test_the_program_sees_none(gpus: Gpus, opened: Opened, environment: dict[str, str]) -> None:
    """A machine with GPUs, and a program that was told to leave them alone."""
    with pytest.raises(Absent):
        opened(**environment)


def test_driver_without_devices(gpus: Gpus, opened: Opened) -> None:
    """Nothing to read, and nobody's fault."""
    gpus(DEVICES=0)
    with pytest.raises(Absent):
        opened()


def test_driver_not_loaded_or_not_allowed(gpus: Gpus, opened: Opened) -> None:
    """No driver is none; one that may not be used is a reason to tell."""
    gpus(FAIL_InitWithFlags=9)
    with pytest.raises(Absent):
        opened()
    gpus(FAIL_InitWithFlags=4)
    with pytest.raises(Unreadable, match="Insufficient Permissions"):
        opened()


@pytest.mark.skipif(ctypes.util.find_library("nvidia-ml") is not None, reason="this machine has a driver")
def test_no_driver(opened: Opened) -> None:
    """The usual machine."""
    with pytest.raises(Absent):
        opened()


def test_gpus_of_several_kinds(gpus: Gpus, opened: Opened, notes: list[str]) -> None:
    """CUDA counts the fastest first; where that may be another order than the driver's, the run says so."""
    gpus(DEVICES=2, NAME_1="Imaginary A100")
    opened(CUDA_DEVICE_ORDER="PCI_BUS_ID")
    opened(CUDA_VISIBLE_DEVICES="GPU-00000001,GPU-00000000")
    assert notes == []
    opened()
    assert "CUDA_DEVICE_ORDER=PCI_BUS_ID" in notes[0]


def test_which_rank_reads(gpus: Gpus) -> None:
    """One of each host; a rank that was given a GPU of its own reads that."""
    reader = NvidiaReader()
    for environment, expected in (
        ({}, False),
        ({"CUDA_VISIBLE_DEVICES": "0,1"}, False),
        ({"CUDA_VISIBLE_DEVICES": "1"}, True),
    ):
        assert reader.is_wanted(Subject(1, 1, "/", environment, lambda: False)) == expected
        assert reader.is_wanted(Subject(1, 1, "/", environment, lambda: True))


def test_a_program_with_gpus(programs: Programs, driver: Callable[..., Path]) -> None:
    """From the driver's library to the store: eight GPUs of which the program sees two, one of them lost on the way."""
    done = programs.python(
        """
        import os, time
        import looptap
        from looptap.resources import sampler
        sampler.SHARE = 1.0  # however much that costs on a busy machine
        looptap.autolog()
        looptap.log_metric("loss", 1.0)
        time.sleep(1.5)
        os.environ["FAKE_NVML_LOST_5"] = "1"
        time.sleep(1.5)
        """,
        LOOPTAP_RESOURCES="1",
        LOOPTAP_SAMPLE_SECONDS="0.2",
        LD_LIBRARY_PATH=str(driver()),
        FAKE_NVML_DEVICES="8",
        CUDA_VISIBLE_DEVICES="5,3",
    )
    assert done.returncode == 0, done.stderr
    record = programs.record()
    metrics = record["metrics"]
    assert metrics["system.gpu.1.power"]["last"] == 350.0
    assert metrics["system.gpu.1.energy"]["last"] > metrics["system.gpu.0.energy"]["last"] > 0
    assert metrics["system.gpu.0.utilization"]["count"] < metrics["system.gpu.1.utilization"]["count"]
    assert not any(key.startswith("system.gpu.2") for key in metrics)
    assert record["params"]["allotted.gpu.0.uuid"]["value"].startswith("GPU-00000005")
    assert [note["message"] for note in record["notes"]] == ["GPU 0 cannot be read any more: GPU is lost"]
