"""Joules, kWh, CO₂e and money, from counters that were read now and then."""

from __future__ import annotations

import math

import pytest

from collector.profiles.recording import Training
from looptap_collector.backend import Backend
from looptap_collector.profiles.terminal import cost_line, energy_line


def _measured(backend: Backend) -> Training:
    """20 s at 300 W on one GPU and 60 W on the CPU; 200 steps of 32."""
    training = Training(backend, steps=200, step=0.1)
    training.samples("system.gpu.0.energy", [300.0 * second for second in range(21)])
    training.samples("system.energy.cpu", [60.0 * second for second in range(21)])
    training.params({"batch_size_effective": 32})
    return training


def test_energy(backend: Backend) -> None:
    """Of the run, by device; of a step and of a sample while it trained."""
    energy = _measured(backend).profile().energy
    assert energy is not None
    assert energy.of == {"GPU 0": 6_000.0, "CPU": 1_200.0}
    assert energy.joules == 7_200.0
    assert energy.kwh == pytest.approx(0.002)
    assert energy.joules_per_step == pytest.approx(36.0)
    assert energy.joules_per_sample == pytest.approx(36.0 / 32)


def test_no_grid_factor_is_made_up(backend: Backend) -> None:
    """Power differs by a factor of fifty between countries: without a factor nothing is told but how to give one."""
    training = _measured(backend)
    profile = training.profile()
    assert profile.energy is not None
    assert profile.energy.co2e_kg is None
    assert "CO₂e not told: set grid_kg_per_kwh" in str(energy_line(profile))
    given = training.profile(grid_kg_per_kwh=0.35)
    assert given.energy is not None
    assert given.energy.co2e_kg == pytest.approx(0.0007)
    assert "0.0007 kg CO₂e at 0.35 kg a kWh" in str(energy_line(given))


def test_price_and_grid_travel_with_the_run(backend: Backend) -> None:
    """What the run was told holds, until one is given."""
    training = _measured(backend)
    training.params({"allotted.price_per_hour": 18.0, "allotted.grid_kg_per_kwh": 0.1})
    profile = training.profile()
    assert profile.cost is not None
    assert profile.cost.total == pytest.approx(0.1)
    assert cost_line(profile) == "cost  0.1 = 0.00556 h at 18 an hour"
    assert profile.energy is not None
    assert profile.energy.co2e_kg == pytest.approx(0.0002)
    other = training.profile(price_per_hour=36.0)
    assert other.cost is not None
    assert other.cost.total == pytest.approx(0.2)


def test_several_hosts(backend: Backend) -> None:
    """Each has counters of its own."""
    training = Training(backend, ranks=2)
    for rank in (0, 1):
        training.samples("system.gpu.0.energy", [0.0, *[100.0] * 20], rank=rank)
    energy = training.profile().energy
    assert energy is not None
    assert energy.of == {"GPU 0": 100.0, "GPU 0 (rank 1)": 100.0}


def test_nothing_measured(backend: Backend) -> None:
    training = Training(backend)
    training.samples("system.gpu.0.energy", [math.nan] * 5)
    profile = training.profile()
    assert (profile.energy, profile.cost, energy_line(profile), cost_line(profile)) == (None, None, None, None)


def test_a_run_too_short_for_a_step(backend: Backend) -> None:
    """One reading during the training: what a step took is not known, what the run took is."""
    training = Training(backend, steps=5, step=0.1)
    training.samples("system.gpu.0.energy", [0.0, 50.0], every=3.0)
    energy = training.profile().energy
    assert energy is not None
    assert (energy.joules, energy.joules_per_step) == (50.0, None)
