"""Kill, exit, exception and fork: cases 17 and 19 to 22 of the fault matrix, with real processes that really die.

Each program prints a number after the call that recorded it has returned; what was printed must be in the store.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time

import pytest

from programs import Programs, assert_conserved

LOGS = """
import sys, time
import looptap
looptap.autolog()
step = 0
while True:
    looptap.log_metric("value", step * 0.5, step)
    sys.stdout.write(f"{step}\\n")
    step += 1
    if step % 50 == 0:
        time.sleep(0.001)
"""


def wait_for_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.stderr.read() if process.stderr else ""
    return line


def last_number(text: str) -> int:
    """The last complete line; the kill may have cut the one after it."""
    whole = text[: text.rfind("\n") + 1].split()
    return int(whole[-1])


@pytest.mark.parametrize("seed", range(10))
def test_kill_loses_nothing_that_was_recorded(seed: int, programs: Programs) -> None:
    """Case 17: SIGKILL at a random instant. Every acknowledged point is stored, once; the run is killed, not finished."""
    process = programs.start(LOGS)
    wait_for_line(process)
    # From within the very first delivery to well behind it.
    time.sleep(random.Random(seed).uniform(0, 2.5))
    process.kill()
    output = process.communicate()[0]
    acknowledged = last_number(output) + 1
    record = programs.record()
    metric = record["metrics"]["value"]
    assert acknowledged <= metric["count"] <= acknowledged + 1
    assert metric["last_step"] == metric["count"] - 1, "a point is missing or was stored twice"
    assert record["run"]["status"] == "killed"
    assert record["delivery"]["dropped"] == {}
    assert record["delivery"]["in_journal"] == 0
    assert_conserved(record)


def test_kill_of_real_training(programs: Programs) -> None:
    """Case 17 with a real loop: the losses that the program printed are the losses that the next command finds."""
    process = programs.start(
        """
        import torch, looptap
        looptap.autolog()
        model = torch.nn.Linear(8, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        while True:
            loss = model(torch.randn(16, 8)).pow(2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            print(repr(loss.item()))
        """
    )
    wait_for_line(process)
    time.sleep(1.7)
    process.kill()
    rest = process.communicate()[0]
    # Both ends may be cut in the middle of a number: one by the kill, one by the reader's buffer.
    printed = [float(word) for word in rest.split("\n")[1:-1]]
    exported = programs.looptap("export", "latest", "--format", "jsonl", "-o", "-")
    assert exported.returncode == 0, exported.stderr
    rows = [json.loads(line) for line in exported.stdout.splitlines()]
    losses = [row["value"] for row in rows if row["key"] == "loss"]
    assert len(printed) > 100
    begin = losses.index(printed[0])
    assert losses[begin : begin + len(printed)] == printed
    assert len(losses) <= begin + len(printed) + 1


@pytest.mark.parametrize("handler", ["", "import signal; signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))"])
def test_sigterm(handler: str, programs: Programs) -> None:
    """Case 19: SIGTERM ends the program as it would without us, with the user's own handler and without one."""
    process = programs.start("import sys\n" + handler + LOGS)
    wait_for_line(process)
    time.sleep(1.2)
    process.terminate()
    output = process.communicate(timeout=30)[0]
    assert process.returncode == (143 if handler else -signal.SIGTERM)
    record = programs.record()
    acknowledged = last_number(output) + 1
    assert acknowledged <= record["metrics"]["value"]["count"] <= acknowledged + 1
    assert record["run"]["status"] == ("finished" if handler else "killed")
    assert_conserved(record)


def test_ctrl_c_twice(programs: Programs) -> None:
    """Case 20: Ctrl-C gives the normal traceback and exit code, a second one while we deliver does no harm."""
    # The first line is printed when the sender is at work; a hang would show where it is.
    code = LOGS.replace("step = 0\n", "step = 0\nlooptap.log_metric('first', 1.0)\nassert looptap.flush(30)\n")
    process = programs.start("import faulthandler\nfaulthandler.dump_traceback_later(25)\n" + code)
    wait_for_line(process)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    # The second one may come while the interpreter is on its way out, and then decides the code.
    assert process.returncode in (-signal.SIGINT, 1)
    assert "KeyboardInterrupt" in errors
    assert "program.py" in errors
    record = programs.record()
    acknowledged = last_number(output) + 1
    assert acknowledged <= record["metrics"]["value"]["count"] <= acknowledged + 1
    assert record["run"]["status"] == "killed"
    assert_conserved(record)


@pytest.mark.parametrize("is_launched", [False, True])
def test_ctrl_c_dies_of_the_signal(programs: Programs, is_launched: bool) -> None:
    """A shell stops its loop only when the program died of SIGINT; and the traceback is the program's alone. Whatever is imported
    at the end must not change that."""
    code = "import time\nprint('at work', flush=True)\nwhile True:\n    time.sleep(0.01)\n    looptap.log_metric('value', 1.0)\n"
    late = "import atexit\natexit.register(exec, 'pass')\n"  # as the import of a module with a namedtuple does
    begin = "import looptap\n" if is_launched else "import looptap\nlooptap.autolog()\n"
    process = programs.start(begin + late + code, launched=is_launched)
    wait_for_line(process)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert errors.count("Traceback") == 1
    assert "program.py" in errors
    assert "launch.py" not in errors
    assert programs.record()["run"]["status"] == "killed"


def test_exception_is_recorded_and_untouched(programs: Programs) -> None:
    """Case 21: an unhandled exception keeps its traceback and exit code; the run failed, and with what."""
    code = "import looptap\nlooptap.autolog(quiet=True)\nlooptap.log_metric('x', 1.0)\nraise ValueError('my own mistake')\n"
    done = programs.python(code)
    without = programs.python(
        code.replace("looptap.autolog(quiet=True)", "pass").replace("looptap.log_metric", "print")
    )
    assert (done.returncode, done.stderr) == (1, without.stderr)
    record = programs.record()
    assert record["run"]["status"] == "failed"
    assert record["run"]["error"] == "ValueError: my own mistake"
    assert_conserved(record)


@pytest.mark.parametrize(
    ("ending", "code", "status"),
    [
        ("os._exit(7)", 7, "killed"),
        ("sys.exit(3)", 3, "finished"),
        ("atexit.register(lambda: sys.exit(4))", 0, "finished"),
        ("atexit.register(looptap.log_metric, 'late', 2.0)", 0, "finished"),
        ("threading.Thread(target=time.sleep, args=(0.3,)).start()", 0, "finished"),
        ("os.abort()", -signal.SIGABRT, "killed"),
    ],
)
def test_ways_to_end(ending: str, code: int, status: str, programs: Programs) -> None:
    """Case 21: however the program ends, its exit code stays, we print no traceback, and what was recorded is kept."""
    done = programs.python(
        f"""
        import atexit, os, sys, threading, time
        import looptap
        looptap.autolog(quiet=True)
        for step in range(100):
            looptap.log_metric("x", step, step)
        {ending}
        """
    )
    assert done.returncode == code
    assert "looptap" not in done.stderr
    record = programs.record()
    assert record["metrics"]["x"]["count"] == 100
    assert record["run"]["status"] == status
    if "late" in ending:
        assert record["metrics"]["late"]["last"] == 2.0
    assert_conserved(record)


def test_first_record_at_exit(programs: Programs) -> None:
    """Case 21: a run that begins while the interpreter shuts down starts no thread and still loses nothing."""
    done = programs.python(
        """
        import atexit
        import looptap
        atexit.register(looptap.log_metric, "late", 2.0)
        looptap.autolog(quiet=True)
        """
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert programs.record()["metrics"]["late"]["last"] == 2.0


def test_forks_while_recording(programs: Programs) -> None:
    """Case 22: forks while other threads record. No deadlock, no point twice, silent children stay silent."""
    done = programs.python(
        """
        import os, threading
        import looptap
        looptap.autolog(quiet=True)
        stop = threading.Event()
        counts = [0, 0]

        def record(index):
            while not stop.is_set():
                looptap.log_metric(f"thread{index}", counts[index], counts[index])
                counts[index] += 1

        threads = [threading.Thread(target=record, args=(index,)) for index in range(2)]
        for thread in threads:
            thread.start()
        for _ in range(300):
            pid = os.fork()
            if pid == 0:
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
        stop.set()
        for thread in threads:
            thread.join()
        print(*counts)
        """
    )
    assert done.returncode == 0, done.stderr
    record = programs.record()
    for index, count in enumerate(done.stdout.split()):
        assert record["metrics"][f"thread{index}"]["count"] == int(count)
    assert record["run"]["status"] == "finished"
    assert_conserved(record)


def test_child_that_records(programs: Programs) -> None:
    """Case 22: a forked child that records adds to its parent's run, from a journal of its own."""
    done = programs.python(
        """
        import multiprocessing, os
        import looptap
        looptap.autolog(quiet=True)
        looptap.log_metric("parent", 1.0)

        def child():
            for step in range(50):
                looptap.log_metric("child", step, step)

        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join()
        pid = os.fork()
        if pid == 0:
            looptap.log_metric("raw_child", 2.0)
            os._exit(0)
        os.waitpid(pid, 0)
        looptap.log_metric("parent", 2.0)
        """
    )
    assert done.returncode == 0, done.stderr
    assert len(programs.runs()) == 1
    record = programs.record()
    metrics = record["metrics"]
    assert (metrics["parent"]["count"], metrics["child"]["count"], metrics["raw_child"]["count"]) == (
        2,
        50,
        1,
    )
    assert record["run"]["status"] == "finished", "the death of a child is not the death of the run"
    assert_conserved(record)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("persistent", [False, True])
def test_data_loader_workers_are_silent(method: str, persistent: bool, programs: Programs) -> None:
    """Case 22: workers of every kind neither hang nor make runs of their own, whatever the dataset calls."""
    done = programs.python(
        f"""
        import torch, looptap
        looptap.autolog(quiet=True)

        class Numbers(torch.utils.data.Dataset):
            def __len__(self):
                return 64
            def __getitem__(self, index):
                looptap.log_metric("from_worker", index)
                return torch.full((4,), float(index))

        if __name__ == "__main__":
            loader = torch.utils.data.DataLoader(Numbers(), batch_size=8, num_workers=2,
                                                 multiprocessing_context="{method}", persistent_workers={persistent})
            model = torch.nn.Linear(4, 1)
            optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
            for epoch in range(2):
                for batch in loader:
                    loss = model(batch).pow(2).mean()
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
            print("done")
        """
    )
    assert done.stdout == "done\n", done.stderr
    assert done.returncode == 0
    assert len(programs.runs()) == 1
    record = programs.record()
    assert record["metrics"]["loss"]["count"] == 16
    assert record["metrics"]["epoch"]["last"] == 1.0
    assert "from_worker" not in record["metrics"]
    assert record["run"]["status"] == "finished"
    assert_conserved(record)


def test_two_processes_at_once(programs: Programs) -> None:
    """Case 24: two programs, one store, one journal folder: two complete runs."""
    code = LOGS.replace("while True", "while step < 2000")
    first, second = programs.start(code), programs.start(code)
    for process in (first, second):
        process.communicate(timeout=60)
        assert process.returncode == 0
    runs = programs.runs()
    assert len(runs) == 2
    for run in runs:
        record = programs.record(run["id"])
        assert record["metrics"]["value"]["count"] == 2000
        assert_conserved(record)
