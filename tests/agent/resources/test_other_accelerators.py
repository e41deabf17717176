"""Readers of devices that nobody here has. Stand-ins for their libraries say what the documentation of these says; whether real
ones do, is untested."""

from __future__ import annotations

import importlib
import plistlib
import sys
from pathlib import Path

import pytest

from looptap.resources.amd import AmdReader
from looptap.resources.apple import AppleReader, values_in
from looptap.resources.reader import Absent, Reader, Subject
from looptap.resources.tpu import TpuReader

HERE = Subject(1, 1, "/", {})

AMDSMI = """
import enum
class AmdSmiException(Exception): pass
AmdSmiMemoryType = enum.Enum("AmdSmiMemoryType", "VRAM")
AmdSmiTemperatureType = enum.Enum("AmdSmiTemperatureType", "HOTSPOT")
AmdSmiTemperatureMetric = enum.Enum("AmdSmiTemperatureMetric", "CURRENT")
AmdSmiClkType = enum.Enum("AmdSmiClkType", "GFX MEM")
energy = 1000
def amdsmi_init(): pass
def amdsmi_shut_down(): pass
def amdsmi_get_processor_handles(): return ["a", "b"]
def amdsmi_get_gpu_memory_usage(handle, kind): return 16 << 30
def amdsmi_get_gpu_memory_total(handle, kind): return 64 << 30
def amdsmi_get_power_info(handle): return {"average_socket_power": 150}
def amdsmi_get_power_cap_info(handle): return {"power_cap": 600_000_000}
def amdsmi_get_energy_count(handle):
    global energy
    energy += 2_000_000
    return {"energy_accumulator": energy, "counter_resolution": 15.3}
def amdsmi_get_gpu_activity(handle): return {"gfx_activity": 70 if handle == "a" else "N/A"}
def amdsmi_get_temp_metric(handle, which, when): raise AmdSmiException("not supported")
def amdsmi_get_clock_info(handle, kind): return {"clk": 2100}
"""
TPU = """
class Metric:
    def __init__(self, data): self._data = data
    def data(self): return self._data
class tpumonitoring:
    @staticmethod
    def get_metric(name):
        return Metric({"duty_cycle_pct": ["12.5"], "hbm_capacity_usage": ["1000"], "hbm_capacity_total": ["4000"]}[name])
"""


@pytest.mark.parametrize("kind", [AmdReader, AppleReader, TpuReader])
def test_absent_here(kind: type[Reader]) -> None:
    """A machine without such a device is one without such series, and without a complaint."""
    reader = kind()
    with pytest.raises(Absent):
        reader.open(HERE)
    reader.close()


def test_amd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The GPUs that the program sees; what one does not tell is missing."""
    (tmp_path / "amdsmi.py").write_text(AMDSMI)
    monkeypatch.syspath_prepend(str(tmp_path))
    reader = AmdReader()
    reader.open(Subject(1, 1, "/", {"HIP_VISIBLE_DEVICES": "1,0"}))
    first = reader.read(1.0)
    values = reader.read(2.0)
    reader.close()
    assert "system.gpu.0.utilization" not in values
    assert values["system.gpu.1.utilization"] == 70.0
    assert values["system.gpu.0.memory_percent"] == 25.0
    assert values["system.gpu.0.power_percent"] == 25.0
    assert values["system.gpu.0.clock_sm"] == 2.1e9
    assert "system.gpu.0.temperature" not in values
    assert first["system.gpu.0.energy"] == 0.0
    assert values["system.gpu.0.energy"] == pytest.approx(61.2)


def test_apple() -> None:
    """What ``ioreg -a`` writes, and an accelerator that tells nothing."""
    told = [
        {"PerformanceStatistics": {"Device Utilization %": 41, "In use system memory": 123456}},
        {"IOClass": "Other"},
    ]
    assert values_in(plistlib.loads(plistlib.dumps(told))) == {
        "system.gpu.0.utilization": 41.0,
        "system.gpu.0.memory_used": 123456.0,
    }


def test_tpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where the program has loaded the library itself."""
    (tmp_path / "libtpu").mkdir()
    (tmp_path / "libtpu/__init__.py").write_text("")
    (tmp_path / "libtpu/sdk.py").write_text(TPU)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(Absent):
        TpuReader().open(HERE)
    monkeypatch.setitem(sys.modules, "libtpu", importlib.import_module("libtpu"))
    reader = TpuReader()
    reader.open(HERE)
    assert reader.read(1.0) == {
        "system.gpu.0.utilization": 12.5,
        "system.gpu.0.memory_used": 1000.0,
        "system.gpu.0.memory_percent": 25.0,
    }
