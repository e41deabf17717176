"""The driver of GPUs that are not there (``nvml.c``)."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pynvml
import pytest

Gpus = Callable[..., None]


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Compiles it; gives the folder that its library is in. ``driver("OLD")`` is one of some years ago."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler on this machine")
    made: dict[tuple[str, ...], Path] = {}

    def compiled(*flags: str) -> Path:
        if flags not in made:
            folder = made[flags] = tmp_path_factory.mktemp("nvml")
            options = ["-O2", "-shared", "-fPIC", *(f"-D{flag}" for flag in flags)]
            source = Path(__file__).with_name("nvml.c")
            subprocess.run([compiler, *options, "-o", folder / "libnvidia-ml.so.1", source], check=True)
        return made[flags]

    return compiled


@pytest.fixture
def gpus(driver: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Gpus:
    """Gives the real pynvml this driver. What it says is set by ``gpus(DEVICES=2, POWER_1=300_000)``, at any time."""
    for name in [name for name in os.environ if name.startswith(("FAKE_NVML_", "CUDA_"))]:
        monkeypatch.delenv(name)
    # By its path: no other test of this process finds it under the name of the real one.
    monkeypatch.setattr(pynvml, "nvmlLib", ctypes.CDLL(str(driver() / "libnvidia-ml.so.1")))
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})

    def say(**told: object) -> None:
        for name, value in told.items():
            monkeypatch.setenv(f"FAKE_NVML_{name}", str(value))

    return say


@pytest.fixture
def old_gpus(gpus: Gpus, driver: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Gpus:
    monkeypatch.setattr(pynvml, "nvmlLib", ctypes.CDLL(str(driver("OLD") / "libnvidia-ml.so.1")))
    return gpus
