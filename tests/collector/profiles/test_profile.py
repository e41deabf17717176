"""The page as a whole: order, picture, and runs of which little is known."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from collector.profiles.recording import Training
from looptap_collector.backend import Backend
from looptap_collector.profile_cli import profile as command
from looptap_collector.profiles import evidence
from looptap_collector.profiles.rules import RULES
from looptap_collector.profiles.shapes import Profile, said
from looptap_collector.profiles.terminal import show_profile
from looptap_collector.terminal import console


def printed(profile: Profile, capsys: pytest.CaptureFixture[str]) -> str:
    show_profile(console(), profile)
    return capsys.readouterr().out


def test_worst_first(backend: Backend) -> None:
    """Findings by what they cost; the cause before its symptom."""
    training = Training(backend)
    training.phases(data=0.07, forward=0.02, backward=0.01)
    training.samples("system.gpu.0.utilization", 25.0)
    training.samples("system.container.cpu_throttled", 6.0)
    found = training.profile().findings
    assert [finding.rule for finding in found] == ["waiting_for_data", "gpu_idle", "cpu_throttled"]


def test_where_the_time_went(backend: Backend) -> None:
    """In the order in which a step comes upon its parts, over all ranks."""
    training = Training(backend, ranks=2)
    training.phases(data=0.04, forward=0.06)
    training.phase("step_time", 0.3, rank=1)
    training.phases(rank=1, data=0.0, forward=0.3)
    profile = training.profile()
    assert [phase.name for phase in profile.phases] == ["data", "forward"]
    assert [phase.share for phase in profile.phases] == pytest.approx([0.1, 0.9])
    assert [phase.seconds for phase in profile.phases] == pytest.approx([0.02, 0.18])


def test_every_rule_is_answered(backend: Backend) -> None:
    """Found, well, or not looked at: none is passed over."""
    training = Training(backend)
    training.phases(data=0.05)
    profile = training.profile()
    answered = [finding.title for finding in profile.findings] + list(profile.passed)
    answered += [one.title for one in profile.not_looked_at]
    assert sorted(answered) == sorted(rule.title for rule in RULES)


def test_nothing_is_claimed_of_a_run_that_tells_nothing(backend: Backend, capsys: pytest.CaptureFixture[str]) -> None:
    training = Training(backend, steps=0)
    profile = training.profile()
    assert (profile.findings, profile.passed, profile.phases, profile.step_seconds) == ((), (), (), None)
    shown = printed(profile, capsys)
    assert "no times of steps" in shown
    assert "waiting for data, tiny batches, checkpoint stalls (needs step_time)" in shown


def test_one_step(backend: Backend, capsys: pytest.CaptureFixture[str]) -> None:
    """It has a picture, and is no basis for a finding."""
    training = Training(backend, steps=1)
    training.phases(data=0.09, forward=0.01)
    profile = training.profile()
    assert [round(phase.share, 2) for phase in profile.phases] == [0.9, 0.1]
    assert profile.findings == ()
    assert training.missing("waiting_for_data") == "10 timed steps, not 1"
    assert "1 step timed" in printed(profile, capsys)


def test_values_that_are_no_numbers(backend: Backend) -> None:
    """NaN and infinities, in times and in samples, are as if they were not there."""
    training = Training(backend, steps=100)
    times = np.full(100, 0.1)
    times[::10] = np.nan
    training.phase("step_time", times.tolist())
    waits = np.full(100, 0.05)
    waits[5::10] = np.inf
    training.phase("time.data", waits.tolist())
    training.samples("system.gpu.0.utilization", [np.nan, 80.0] * 10)
    profile = training.profile()
    assert profile.steps_looked_at == 87
    assert profile.findings[0].rule == "waiting_for_data"
    assert 0.4 < profile.findings[0].weight < 0.5
    assert "GPU idle" in profile.passed
    all_nan = Training(backend, steps=100)
    all_nan.phase("step_time", float("nan"))


def test_a_long_run_is_looked_at_in_stretches(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """From all over the run; of what came late as much is seen as of what came early."""
    monkeypatch.setattr(evidence, "MOST_POINTS", 2_000)
    training = Training(backend, steps=20_000, step=0.01)
    training.phase("time.data", [0.0] * 10_000 + [0.008] * 10_000)
    profile = training.profile()
    assert 1_900 <= profile.steps_looked_at <= 2_000
    assert profile.steps == 20_000
    assert profile.phases[0].share == pytest.approx(0.4, abs=0.01)


def test_under_way(backend: Backend, capsys: pytest.CaptureFixture[str]) -> None:
    training = Training(backend, status="running")
    training.phases(data=0.05, forward=0.05)
    shown = printed(training.profile(), capsys)
    assert "running for" in shown
    assert "1. waiting for data" in shown


def test_printed(backend: Backend, capsys: pytest.CaptureFixture[str]) -> None:
    """A bar for each part, the finding with its numbers and what to do, and what was not looked at."""
    training = Training(backend)
    training.phases(data=0.05, forward=0.03, backward=0.02)
    training.params({"data.num_workers": 0})
    shown = printed(training.profile(), capsys)
    assert "the median one 100 ms · below, the mean one" in shown
    bars = [line for line in shown.splitlines() if "█" in line]
    assert [line.split()[0] for line in bars] == ["data", "forward", "backward"]
    assert [line.count("█") for line in bars] == [20, 12, 8]
    assert "→ DataLoader(…, num_workers=1) should cover it (now 0)" in shown
    assert "threshold: 20 % of the step time" in shown
    assert "GPU idle" in shown.partition("not looked at")[2]


def test_command(backend: Backend, store: object) -> None:
    """The same as JSON."""
    training = Training(backend)
    training.phases(data=0.05)
    expected = training.profile()
    done = CliRunner().invoke(command, ["calm-otter-12", "--json", "--store", str(store)])
    assert done.exit_code == 0, done.output
    told = json.loads(done.output)
    assert [finding["rule"] for finding in told["findings"]] == [finding.rule for finding in expected.findings]
    assert told["findings"][0]["facts"][0] == {
        "name": "waiting for data, of the step time",
        "value": pytest.approx(50.0),
        "unit": "percent",
    }
    shown = CliRunner().invoke(command, ["latest", "--store", str(store)])
    assert "1. waiting for data" in shown.output
    assert CliRunner().invoke(command, ["nope", "--store", str(store)]).exit_code == 2


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (41.6, "percent", "42 %"),
        (0.3, "percent", "0.3 %"),
        (0.0123, "seconds", "12.3 ms"),
        (75, "seconds", "1 min 15 s"),
        (3 * 2**30, "bytes", "3.0 GiB"),
        (2.5 * 2**20, "bytes/s", "2.5 MiB/s"),
        (1.98e9, "hertz", "1,980 MHz"),
        (83, "celsius", "83 °C"),
        (349.6, "watts", "350 W"),
        (12, "count", "12"),
        (2.5, "count", "2.5"),
    ],
)
def test_numbers_as_people_say_them(value: float, unit: str, text: str) -> None:
    assert said(value, unit) == text
