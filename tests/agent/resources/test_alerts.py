"""From the machine to the alert: what readers see is watched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from agent.resources.scenes import real_group
from programs import Programs

SAMPLED = {"LOOPTAP_RESOURCES": "1", "LOOPTAP_SAMPLE_SECONDS": "0.2"}


def test_a_gpu_that_waits(programs: Programs, driver: Callable[..., Path]) -> None:
    """Idle for as long as it takes, by the driver's own word; told once, with the series that says so."""
    code = """
    import time
    import looptap
    from looptap.alerts import machine
    from looptap.resources import sampler
    sampler.SHARE = 1.0  # however much that costs on a busy machine
    machine.IDLE_SECONDS = 2.0
    looptap.autolog()
    for step in range(80):
        looptap.log_metric("loss", 1.0, step=step)
        time.sleep(0.1)
    """
    fake = {"LD_LIBRARY_PATH": str(driver()), "FAKE_NVML_DEVICES": "2", "FAKE_NVML_UTILIZATION": "3"}
    done = programs.python(code, **SAMPLED, **fake, CUDA_VISIBLE_DEVICES="1,0")
    assert done.returncode == 0, done.stderr
    (alert,) = programs.record()["alerts"]
    assert (alert["kind"], alert["state"], alert["key"]) == ("gpu_idle", "fired", "system.gpu.0.utilization")
    assert (alert["value"], alert["threshold"]) == (3.0, 5.0)
    assert f"looptap: alert: {alert['message']}\n" in done.stderr


def test_a_container_that_is_nearly_full(programs: Programs) -> None:
    """A real control group with a real limit: told before the kernel kills, and over when the memory is given back."""
    code = """
    import os, sys, time
    from pathlib import Path
    group = Path(sys.argv[1])
    (group / "cgroup.procs").write_text(str(os.getpid()))
    import looptap
    from looptap.alerts.machine import Filling
    from looptap.resources import sampler
    sampler.SHARE = 1.0
    Filling.CLEAR_SECONDS = 0.5
    looptap.autolog()
    held = []
    def used():
        names = ("memory.current", "memory.usage_in_bytes")
        current = next(int((group / name).read_text()) for name in names if (group / name).exists())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return current - int(stat.get("total_inactive_file", stat.get("inactive_file", 0)))
    for step in range(60):
        looptap.log_metric("loss", 1.0, step=step)
        while 10 <= step < 35 and used() < 0.96 * 256 * 2**20:
            held.append(os.urandom(2**20))
        if step == 35:
            held.clear()
        time.sleep(0.1)
    """
    try:
        with real_group(256) as group:
            done = programs.python(code, str(group), **SAMPLED)
    except OSError as error:
        pytest.skip(f"no control groups can be made here: {error}")
    assert done.returncode == 0, done.stderr
    told = [alert for alert in programs.record()["alerts"] if alert["key"] == "system.container.memory_percent"]
    assert [alert["state"] for alert in told] == ["fired", "recovered"]
    assert told[0]["severity"] == "critical"
    assert 95 <= told[0]["value"] <= 100
    assert f"looptap: alert: {told[0]['message']}\n" in done.stderr
