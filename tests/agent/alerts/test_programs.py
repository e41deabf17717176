"""Real programs that go wrong, and what is known of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from programs import Programs, assert_conserved

LOOP = """
import looptap, sys, time
looptap.autolog()
import looptap.alerts.steps
looptap.alerts.steps.STALL_FLOOR_SECONDS = 1.5
for step in range(400):
    looptap.log_metric("loss", {value}, step=step)
    {each}
{after}
"""


def program(value: str = "1.0", each: str = "pass", after: str = "") -> str:
    return LOOP.format(value=value, each=each, after=after)


def alerts(programs: Programs) -> list[dict[str, Any]]:
    record = programs.record()
    assert_conserved(record)
    found: list[dict[str, Any]] = record["alerts"]
    return found


def test_a_torch_training_with_a_loss_that_is_nan(programs: Programs) -> None:
    """The first step, and the gradients that the program clips; on one line of stderr, in the store, and told to a function. The
    training itself is as it would be without us."""
    pytest.importorskip("torch")
    training = """
    import sys
    import torch
    {arm}
    torch.manual_seed(0)
    first, second = torch.nn.Linear(4, 4), torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD([*first.parameters(), *second.parameters()], lr=0.1)
    for step in range(40):
        x = torch.randn(8, 4)
        loss = second(first(x)).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        if step == 24:
            second.weight.grad[0, 0] = float("nan")
        torch.nn.utils.clip_grad_norm_(first.parameters(), 1.0)
        torch.nn.utils.clip_grad_norm_(second.parameters(), 1.0)
        optimizer.step()
    print(first.weight.sum().item(), second.bias.item())
    """
    arm = 'import looptap; looptap.autolog(on_alert=lambda alert: print("told", alert["kind"], file=sys.stderr))'
    done = programs.python(training.format(arm=arm))
    assert done.returncode == 0, done.stderr
    assert done.stdout == programs.python(training.format(arm="")).stdout
    said = "loss is NaN since step 25; gradient norm not finite of clipping call 0 since step 25, 1 since step 24"
    assert done.stderr.count("looptap: alert: ") == 1
    assert f"looptap: alert: {said}\n" in done.stderr
    assert done.stderr.count("told not_finite") == 1
    (alert,) = alerts(programs)
    assert (alert["kind"], alert["state"], alert["message"], alert["step"]) == ("not_finite", "fired", said, 25)
    assert (alert["key"], alert["value"], alert["rank"]) == ("loss", "NaN", 0)


def test_a_keras_training_with_a_loss_that_is_nan(programs: Programs) -> None:
    """The loss of the batch, the mean of the epoch and the one after validation are NaN for one reason: one alert."""
    pytest.importorskip("keras")
    training = """
    import looptap
    looptap.autolog()
    import keras, numpy
    model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x, y = numpy.ones((80, 4)), numpy.ones((80, 1))
    y[43] = numpy.nan
    model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0, validation_data=(x, y))
    """
    done = programs.python(training, KERAS_BACKEND="torch", CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 0, done.stderr
    (alert,) = alerts(programs)
    assert f"looptap: alert: {alert['message']}\n" in done.stderr
    assert (alert["kind"], alert["state"], alert["step"]) == ("not_finite", "fired", 5)


def test_no_more_than_so_many(programs: Programs) -> None:
    """Of a run that raises one after the other; that there are no more is told once."""
    code = """
    import looptap
    looptap.autolog()
    from looptap.alerts import alarms, not_finite
    alarms.MOST_ALERTS, not_finite.FINITE_AGAIN_VALUES = 3, 1
    for step in range(40):
        looptap.log_metric("loss", float("nan") if step % 2 else 1.0, step=step)
    """
    done = programs.python(code)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("looptap: alert: ") == 3
    assert [alert["step"] for alert in alerts(programs) if alert["state"] == "fired"] == [1, 3, 5]
    (note,) = [note for note in programs.record()["notes"] if note["topic"] == "alerts"]
    assert note["message"] == "there were 3 alerts; no more are raised in this run"


def test_the_very_last_value(programs: Programs) -> None:
    """Of a program that ends at once."""
    done = programs.python(program('float("inf") if step == 399 else 1.0'))
    assert "looptap: alert: loss is infinite since step 399\n" in done.stderr
    assert [alert["step"] for alert in alerts(programs)] == [399]


@pytest.mark.parametrize("setting", [{"LOOPTAP_QUIET": "1"}, {"LOOPTAP_ALERTS": "0"}])
def test_who_does_not_want_to_hear(programs: Programs, setting: dict[str, str]) -> None:
    """quiet is obeyed and the store knows; without alerts, nobody watches."""
    done = programs.python(program("float('nan')"), **setting)
    assert "alert" not in done.stderr
    assert len(alerts(programs)) == ("LOOPTAP_QUIET" in setting)


def test_a_training_that_hangs(programs: Programs) -> None:
    """The stall is told with its place, once; the step after it is its end."""
    each = "time.sleep(5 if step == 300 else 0.005)"
    done = programs.python(program(each=each))
    stall = [line for line in done.stderr.splitlines() if "alert: " in line]
    assert len(stall) == 1
    assert "since step 300, in program.py:8 <module>" in stall[0]
    fired, recovered = alerts(programs)
    assert (fired["kind"], fired["state"], recovered["state"]) == ("stall", "fired", "recovered")
    assert 1.5 <= fired["threshold"] < fired["value"]
    assert recovered["step"] == 301


def test_a_training_that_is_over(programs: Programs) -> None:
    """The function with the loop has returned: what follows is no stall."""
    code = """
    import looptap, time
    looptap.autolog()
    import looptap.alerts.steps
    looptap.alerts.steps.STALL_FLOOR_SECONDS = 1.0
    def train():
        for step in range(600):
            looptap.log_metric("loss", 1.0, step=step)
            time.sleep(0.005)
    def evaluate():
        time.sleep(4)
    train()
    evaluate()
    """
    assert programs.python(code).returncode == 0
    assert alerts(programs) == []


def test_a_store_that_is_away(programs: Programs) -> None:
    """A training whose records nobody takes is watched all the same; later the store hears of it, too."""
    after = 'import time; time.sleep(8); print("slept")'
    code = program('float("nan") if step == 7 else 1.0', after=after)
    process = programs.start(code, LOOPTAP_STORE="http://127.0.0.1:9", LOOPTAP_EXIT_TIMEOUT="0.1")
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if "alert: loss is NaN since step 7" in line:
            assert process.poll() is None
            break
    else:
        raise AssertionError("".join(lines))
    process.communicate(timeout=60)
    assert programs.looptap("sync", "--to", str(programs.store)).returncode == 0
    assert [alert["kind"] for alert in alerts(programs) if alert["state"] == "fired"] == ["not_finite", "stall"]


def test_a_kill(programs: Programs) -> None:
    """What was told before it is in the store after it."""
    process = programs.start(program("float('nan')", after='print("done", flush=True); time.sleep(60)'))
    assert process.stderr is not None
    assert any("alert: " in line for line in process.stderr)
    process.kill()
    process.communicate()
    assert [alert["kind"] for alert in alerts(programs)] == ["not_finite"]


def test_what_fails_is_noted(programs: Programs) -> None:
    """With the run, and nothing else happens."""
    code = program("float('nan') if step == 5 else 1.0", each="time.sleep(0.01)", after="print('unharmed')")
    done = programs.python(code, LOOPTAP_ALERT_COMMAND="exit 7")
    assert done.stdout == "unharmed\n"
    record = json.loads(programs.looptap("show", "--json").stdout)
    assert [note["message"] for note in record["notes"] if note["topic"] == "alerts"] == [
        "alert_command failed: OSError: exit code 7"
    ]


def test_nothing_is_looked_at_on_the_thread_that_trains(programs: Programs) -> None:
    """While it trains; its end waits for the last look anyway."""
    code = """
    import threading
    import looptap, time
    looptap.autolog()
    from looptap.alerts.watch import Watch
    see, look, threads = Watch.see, Watch.complete, set()
    Watch.see = lambda self, *told: (threads.add(threading.current_thread().name), see(self, *told))[1]
    Watch.complete = lambda self: (threads.add(threading.current_thread().name), look(self))[1]
    for step in range(300):
        looptap.log_metric("loss", float("nan"), step=step)
        time.sleep(0.01)
    print(*sorted(threads))
    """
    done = programs.python(code)
    assert done.stdout == "looptap-rhythm looptap-sender\n"
    assert [alert["kind"] for alert in alerts(programs)] == ["not_finite"]


def test_a_rule_that_fails(programs: Programs) -> None:
    """Costs nobody a record, nor the program anything."""
    code = """
    import looptap, time
    looptap.autolog()
    from looptap.alerts.not_finite import NotFinite
    NotFinite.see = lambda *told: 1 / 0
    for step in range(200):
        looptap.log_metric("loss", float("nan"), step=step)
        time.sleep(0.01)
    print("unharmed")
    """
    done = programs.python(code, LOOPTAP_STRICT="0")
    assert (done.returncode, done.stdout) == (0, "unharmed\n")
    assert "Traceback" not in done.stderr
    record = programs.record()
    assert_conserved(record)
    assert record["metrics"]["loss"]["count"] == 200
    assert record["alerts"] == []
