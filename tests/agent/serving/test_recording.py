"""The thread that counts, and what it leaves beside the journal, in programs of their own."""

from __future__ import annotations

from agent.serving.test_programs import serving
from programs import Programs, assert_conserved

MODEL = """
import atexit, time
kept = []
atexit.register(lambda: [model([1.0]) for model in kept])  # runs after what looptap does at the end
import looptap
from looptap.session import SESSION
from looptap.serving.recording import left_behind
from looptap.serving.traffic import TRAFFIC
looptap.autolog(serving=True)

def double(rows):
    return [row * 2 for row in rows]

model = looptap.watch(double, version="7")
recording = SESSION.serving
"""


def test_a_window_that_is_written_lies_no_more_beside_the_journal(programs: Programs) -> None:
    """Or whoever adopts the journal of a killed process counts it as open."""
    code = """
for _ in range(3):
    model([1.0])
recording.wait_for_run(30)
folder = SESSION.run.journal.folder
while not left_behind(folder):
    time.sleep(0.01)
with recording._counting:
    recording._turn(recording._windows, time.perf_counter_ns())
    print(left_behind(folder))
"""
    done = programs.python(MODEL + code)
    assert done.stdout == "[]\n", done.stderr
    assert [one["requests"] for one in serving(programs)["versions"]] == [3]


def test_requests_that_nobody_counted_are_told(programs: Programs) -> None:
    code = """
from looptap.serving import traffic
recording.wait_for_run(30)
with recording._counting:
    traffic.MOST_WAITING = 2
    for _ in range(7):
        model([1.0])
"""
    done = programs.python(
        MODEL.replace("looptap.autolog(serving=True)", "looptap.autolog(serving=True, quiet=True)") + code
    )
    assert done.returncode == 0, done.stderr
    assert [one["requests"] for one in serving(programs)["versions"]] == [2]
    record = programs.record()
    assert record["delivery"]["dropped"] == {"not_counted": 5}
    assert_conserved(record)


def test_what_is_answered_after_the_end_begins_no_other_run(programs: Programs) -> None:
    done = programs.python(MODEL + "kept.append(model)\nmodel([1.0])")
    assert done.returncode == 0, done.stderr
    assert [run["kind"] for run in programs.runs()] == ["serving"]
    assert [one["requests"] for one in serving(programs)["versions"]] == [1]
