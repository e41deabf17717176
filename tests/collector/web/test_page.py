"""The page in a real browser."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Dialog, Page, expect

from browsers import needs_browser, opened_browser
from collector.recorded import HOSTILE, START_NS, Recording, complete_run, new_store
from looptap.events import Dataset

pytestmark = needs_browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with opened_browser() as opened:
        yield opened


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """A page that fails the test when anything shows up on its console, a dialog opens, or a foreign host is asked. It is closed
    before its server, whom it would go on asking."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    trouble: list[str] = []
    page.on("console", lambda message: trouble.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on(
        "request",
        lambda asked: (
            None if asked.url.startswith(("http://127.0.0.1:", "data:", "blob:")) else trouble.append(asked.url)
        ),
    )

    def refuse(dialog: Dialog) -> None:
        trouble.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    page.on("dialog", refuse)
    yield page
    context.close()
    assert trouble == []


def points_drawn(page: Page, chart: int = 0) -> int:
    drawn = page.evaluate("index => document.querySelectorAll('.plot')[index].data?.[0]?.x.length ?? 0", chart)
    assert isinstance(drawn, int)
    return drawn


def wait_for_points(page: Page, count: int, chart: int = 0) -> None:
    page.wait_for_function(
        "([index, count]) => document.querySelectorAll('.plot')[index]?.data?.[0]?.x.length === count",
        arg=[chart, count],
    )


def test_empty_store_says_what_to_run(page: Page, address: str, store: Path) -> None:
    """Before the first run the page says how to make one, and shows the run when it is there."""
    page.goto(address)
    expect(page.get_by_text("looptap run train.py")).to_be_visible()
    complete_run(new_store(store))
    expect(page.get_by_role("link", name="calm-otter-12")).to_be_visible(timeout=15_000)
    expect(page.get_by_text("looptap run train.py")).to_be_hidden()


def test_one_run_is_shown_whole(page: Page, address: str, store: Path) -> None:
    """From the list to the run: its loss as a chart of all its points, and everything that the store has about it."""
    complete_run(new_store(store))
    page.goto(address)
    page.get_by_role("link", name="calm-otter-12").click()
    wait_for_points(page, 500)
    assert page.locator(".plot").first.locator("path.js-line").count() == 1
    expect(page.locator("h1")).to_contain_text("calm-otter-12")
    expect(page.locator("#status")).to_have_text("finished")
    expect(page.locator("#delivery")).to_have_text("1,500 points stored, 0 dropped")
    assert page.locator(".chart h3").all_text_contents() == ["loss", "lr"]
    params = page.locator("#params tbody tr").all_inner_texts()
    assert [line.split("\t") for line in params] == [
        ["betas", "[0.9,0.999]", "argparse"],
        ["epochs", "3", "argparse"],
        ["lr", "0.001", "argparse"],
        ["optimizer", "AdamW", "argparse"],
        ["seed", "9223372036854775809", "argparse"],
    ]
    expect(page.locator("#artifacts")).to_contain_text("model.pt")
    expect(page.locator("#environment")).to_contain_text("0123456789 on main, uncommitted changes")
    expect(page.locator("#notes")).to_contain_text("torch.compile hides the forward pass")


def test_resources_stand_below_the_training(page: Page, address: str, store: Path) -> None:
    """What the machine did is a part of the page of its own, in its units; a run without it has no such part."""
    recording = Recording(new_store(store), "used")
    recording.points("loss", [0.5, 0.4])
    page.goto(f"{address}/runs/used")
    expect(page.locator("#metric-count")).to_have_text("1")
    expect(page.locator("#resources-section")).to_be_hidden()
    recording.points("system.process.memory", [2.0**30, 1.5 * 2**30])
    recording.points("system.gpu.0.clock_sm", [1.98e9] * 2)
    recording.points("system.process.cpu", [250.25, 249.75])
    expect(page.locator("#resource-count")).to_have_text("3", timeout=15_000)
    expect(page.locator("#metric-count")).to_have_text("1")
    assert page.locator("#charts .chart h3").all_text_contents() == ["loss"]
    shown = page.locator("#resources .chart")
    assert shown.locator("h3").all_text_contents() == [
        "system.gpu.0.clock_sm",
        "system.process.cpu",
        "system.process.memory",
    ]
    assert shown.locator(".last").all_text_contents() == ["1,980 MHz", "250 %", "1.5 GiB"]


def test_data_of_a_run(page: Page, address: str, store: Path) -> None:
    """Each data set with its length, where it is, and its fingerprint or why it has none; hostile names are only text. Without
    any there is no such part of the page."""
    recording = Recording(new_store(store), "fed")
    page.goto(f"{address}/runs/fed")
    expect(page.locator("#status")).to_have_text("running")
    expect(page.locator("#datasets-section")).to_be_hidden()
    known: Any = {"fingerprint": "ab" * 32, "algorithm": "sha256", "covers": "names, sizes, mtimes", "length": 60_000}
    recording.deliver(
        Dataset("digits", 1, root="/data/digits", **known),
        Dataset(HOSTILE, 1, "validation", root=HOSTILE, class_name=HOSTILE, missing=HOSTILE),
    )
    expect(page.locator("#dataset-count")).to_have_text("2", timeout=15_000)
    cells = [row.locator("td").all_inner_texts() for row in page.locator("#datasets tbody tr").all()]
    assert cells == [
        ["digits\n/data/digits", "train", "60,000", f"{'ab' * 6}\nnames, sizes, mtimes"],
        [f"{HOSTILE}\n{HOSTILE}", "validation", "–", f"none: {HOSTILE}"],
    ]
    assert page.locator("#datasets tbody tr").first.locator("td").last.get_attribute("title") == "ab" * 32


def test_alerts_of_a_run(page: Page, address: str, store: Path) -> None:
    """Those that stand come first, before the charts; what is over says when. The list of runs has their number. Hostile words
    are only text."""
    recording = Recording(new_store(store), "warned")
    page.goto(f"{address}/runs/warned")
    expect(page.locator("#status")).to_have_text("running")
    expect(page.locator("#alerts")).to_be_hidden()
    recording.alert("not_finite", severity="critical", message=HOSTILE, key="loss", value=math.nan, step=3, rank=2)
    recording.alert("gpu_idle", after_seconds=5)
    recording.alert("gpu_idle", "recovered", after_seconds=60, message="over")
    lines = page.locator("#alerts li")
    expect(lines).to_have_count(2, timeout=15_000)
    standing, over = lines.all_inner_texts()
    assert standing.startswith(f"not finite {HOSTILE} · ")
    assert standing.endswith("rank 2")
    assert " · over " in over
    assert [line.get_attribute("class") for line in lines.all()] == ["critical", "over"]
    assert page.evaluate("alerts.compareDocumentPosition(charts) === Node.DOCUMENT_POSITION_FOLLOWING")
    page.goto(address)
    expect(page.locator("tbody tr td").nth(1)).to_have_text("running2 alerts")


def test_where_the_time_went(page: Page, address: str, store: Path) -> None:
    """A bar of the step by its parts, the findings with their numbers, and what was not looked at; hostile text is only text."""
    recording = Recording(new_store(store), "slow")
    recording.points("step_time", [0.1] * 200)
    recording.points("time.data", [0.06] * 200)
    recording.points("time.forward", [0.04] * 200)
    recording.params({"data.num_workers": 0, "allotted.price_per_hour": 288}, source="torch")
    recording.note("memory", f"out of memory: {HOSTILE}")
    recording.end()
    page.goto(f"{address}/runs/slow")
    expect(page.locator("#profile-of")).to_have_text("200 steps timed, the median one 100 ms; below, the mean one")
    assert page.locator(".phase").all_inner_texts() == ["60 %", "40 %"]
    widths = [box["width"] for part in page.locator(".phase").all() if (box := part.bounding_box())]
    assert widths[0] == pytest.approx(1.5 * widths[1], rel=0.01)
    expect(page.locator("#phase-names")).to_contain_text("data60 ms · 60 %")
    titles = page.locator(".finding h3").all_text_contents()
    assert titles == ["waiting for data", "out of memory"]
    first = page.locator(".finding").first
    expect(first).to_contain_text("num_workers=2")
    expect(first).to_contain_text("waiting for data, of the step time 60 % · mean wait for a batch 60 ms")
    expect(first).to_contain_text("threshold: 20 % of the step time")
    expect(first.locator(".facts")).to_be_visible()
    expect(page.locator(".finding").last).to_contain_text(HOSTILE)
    expect(page.locator(".finding").last.locator(".advice")).to_be_hidden()
    page.locator(".finding").last.locator("summary").click()
    expect(page.locator(".finding").last.locator(".advice")).to_be_visible()
    expect(page.locator("#profile-lines")).to_have_text("cost  1 = 0.00347 h at 288 an hour")
    page.locator("#not-looked-at summary").click()
    expect(page.locator("#not-looked-at li", has_text="GPU idle needs a GPU")).to_be_visible()
    assert page.locator("main img, main script").count() == 0


def test_nothing_to_say_of_the_time(page: Page, address: str, store: Path) -> None:
    """A run without any times has no such part of the page."""
    complete_run(new_store(store))
    page.goto(f"{address}/runs/latest")
    wait_for_points(page, 500)
    expect(page.locator("#profile")).to_be_hidden()


def test_running_run_grows_on_screen(page: Page, address: str, store: Path) -> None:
    """Points and series that are stored while the page is open appear on it; the end of the run does, too."""
    recording = Recording(new_store(store), "live")
    recording.points("loss", [3.0, 2.0, 1.0])
    page.goto(f"{address}/runs/{recording.run}")
    wait_for_points(page, 3)
    recording.points("loss", [0.5] * 40, first_step=3)
    recording.points("accuracy", [0.1, 0.2])
    wait_for_points(page, 43)
    wait_for_points(page, 2, chart=1)
    recording.end()
    expect(page.locator("#status")).to_have_text("finished", timeout=15_000)


def test_long_series_are_thinned(page: Page, address: str, store: Path) -> None:
    """A series of a hundred thousand points is drawn with two thousand at most, its greatest value among them."""
    values = [math.sin(step / 500) for step in range(100_000)]
    values[54_321] = 99.0
    recording = Recording(new_store(store), "long")
    recording.points("loss", values)
    recording.end()
    page.goto(f"{address}/runs/long")
    page.wait_for_function("() => document.querySelector('.plot')?.data?.[0]?.x.length > 1000")
    assert points_drawn(page) <= 2_000
    assert page.evaluate("Math.max(...document.querySelector('.plot').data[0].y)") == 99.0


def test_nan_is_a_marked_gap(page: Page, address: str, store: Path) -> None:
    """A value that is not finite leaves a gap in the line, a cross that says what it was, and a note."""
    recording = Recording(new_store(store), "odd")
    recording.points("loss", [1.0, math.nan, 2.0, math.inf, 3.0])
    recording.end()
    page.goto(f"{address}/runs/odd")
    wait_for_points(page, 5)
    line, marks = page.evaluate("[...document.querySelector('.plot').data].map(({x, y, text}) => ({x, y, text}))")
    assert line["y"] == [1, None, 2, None, 3]
    assert marks["x"] == [1, 3]
    assert marks["text"] == ["NaN", "Infinity"]
    expect(page.locator(".odd")).to_have_text("1 NaN and infinite values: a gap in the line, marked ×")


def test_values_between_gaps_are_dots(page: Page, address: str, store: Path) -> None:
    """A line needs two values beside each other: one alone is a dot, and only it."""
    recording = Recording(new_store(store), "odd")
    recording.points("loss", [1.0, 2.0, math.nan, 3.0, math.nan, 4.0, 5.0])
    recording.end()
    page.goto(f"{address}/runs/odd")
    wait_for_points(page, 7)
    dots = page.locator(".plot g.trace.scatter").first.locator("path.point")
    assert dots.evaluate_all("dots => dots.map(dot => dot.getBBox().width > 4)") == [False, False, True, False, False]


def test_what_is_recorded_when_it_changes_lasts(page: Page, address: str, store: Path) -> None:
    """A learning rate is drawn as steps, up to the last step of the run, also while that goes on."""
    recording = Recording(new_store(store), "scheduled")
    recording.points("lr", [0.1])
    recording.points("lr", [0.01], first_step=50)
    recording.points("loss", [1.0] * 100)
    page.goto(f"{address}/runs/scheduled")
    of_lr = """() => {
        const [line] = document.querySelectorAll(".plot")[1]?.data ?? [];
        return line && [line.x, line.y, line.line.shape];
    }"""
    page.wait_for_function(f"() => ({of_lr})()?.[0].length === 3")
    assert page.evaluate(of_lr) == [[0, 50, 99], [0.1, 0.01, 0.01], "hv"]
    recording.points("loss", [1.0] * 20, first_step=100)
    recording.end()
    page.wait_for_function(f"() => ({of_lr})()[0].at(-1) === 119")
    assert page.evaluate("document.querySelectorAll('.plot')[0].data[0].line.shape") == "linear"


def test_what_a_machine_gave_has_units(page: Page, address: str, store: Path) -> None:
    """Bytes are said as people read them, unless they are a param of the program's own."""
    recording = Recording(new_store(store), "given")
    recording.params({"allotted.cpus": 2, "allotted.disk": 61128286208}, source="allotment")
    recording.params({"allotted.memory": 1024}, source="user")
    recording.end()
    page.goto(f"{address}/runs/given")
    expect(page.locator("#params tbody tr")).to_have_count(3)
    rows = page.locator("#params tbody tr").all_inner_texts()
    assert [line.split("\t")[:2] for line in rows] == [
        ["allotted.memory", "1024"],
        ["allotted.cpus", "2"],
        ["allotted.disk", "56.9 GiB"],
    ]


def test_stored_text_is_only_text(page: Page, address: str, store: Path) -> None:
    """Markup in names, keys, values, errors and notes is shown as it is spelled and never becomes an element."""
    recording = Recording(
        new_store(store),
        HOSTILE,
        run="hostile",
        experiment=HOSTILE,
        script=HOSTILE,
        host=HOSTILE,
        command=(HOSTILE,),
    )
    recording.params({HOSTILE: HOSTILE}, source=HOSTILE)
    recording.points(HOSTILE, [1.0, 2.0], context={HOSTILE: HOSTILE})
    recording.points(HOSTILE, [1.0, math.nan], context={"other": "<b>bold</b><a href='javascript:alert(1)'>x</a>"})
    recording.tag(HOSTILE, HOSTILE)
    recording.note(HOSTILE, HOSTILE)
    recording.artifact(HOSTILE, path=HOSTILE)
    recording.environment(git_commit=HOSTILE, git_branch=HOSTILE, packages={HOSTILE: HOSTILE, "torch": HOSTILE})
    recording.end("failed", error=HOSTILE)
    page.goto(address)
    expect(page.locator(".runs tbody tr td").first).to_have_text(HOSTILE)
    page.locator(".runs tbody a").click()
    wait_for_points(page, 2)
    page.locator(".plot").hover()
    expect(page.locator("#name")).to_have_text(HOSTILE)
    assert page.title() == f"{HOSTILE} · looptap"
    assert page.locator("main img, main script, main a[href^='javascript'], main b").count() == 0
    legend = page.locator(".legendtext").all_text_contents()
    assert f"{HOSTILE}={HOSTILE}" in legend


def test_framework_under_another_name(page: Page, address: str, store: Path) -> None:
    """TensorFlow also comes as tensorflow-cpu: it stands with Python and the platform, not among the other packages only."""
    complete_run(new_store(store)).environment(packages={"tensorflow-cpu": "2.17.1", "numpy": "2.3.1"})
    page.goto(address)
    page.get_by_role("link", name="calm-otter-12").click()
    expect(page.locator("#environment tr", has_text="tensorflow-cpu")).to_contain_text("2.17.1")


def test_the_filter_language_in_the_page(page: Page, address: str, store: Path) -> None:
    """What looks like the language is asked of the store; a mistake is shown with its place while one types; words still work."""
    backend = new_store(store)
    for number in range(5):
        Recording(backend, f"name-{number}").points("loss", [1.0, number / 10])
    page.goto(address)
    rows = page.locator("#list tbody tr")
    expect(rows).to_have_count(5)
    page.fill("#filter", "metrics.loss.last < 0.25")
    expect(rows).to_have_count(3)
    expect(page.locator("#count")).to_have_text("3")
    page.fill("#filter", "metrics.loss.last < ")
    expect(page.locator("#mistake")).to_contain_text("^ expected a number")
    page.fill("#filter", "metrics.loss.last > 9")
    expect(page.locator("#nothing")).to_be_visible()
    expect(page.locator("#mistake")).to_be_hidden()
    expect(page.locator("#empty")).to_be_hidden()
    page.fill("#filter", "name-4")
    expect(rows).to_have_count(1)
    page.fill("#filter", "")
    expect(rows).to_have_count(5)


def test_five_hundred_runs_and_the_filter(page: Page, address: str, store: Path) -> None:
    """The list holds hundreds of runs, newest first, and its filter takes words in any order."""
    backend = new_store(store)
    for index in range(500):
        Recording(
            backend,
            f"run-{index:03}",
            experiment="even" if index % 2 == 0 else "odd",
            start_ns=START_NS + index * 10**9,
        )
    page.goto(address)
    expect(page.locator("#count")).to_have_text("500")
    assert page.locator(".runs tbody tr td a").first.inner_text() == "run-499"
    page.get_by_role("searchbox").fill("odd run-12")
    expect(page.locator("#count")).to_have_text("5 of 500")


def test_unknown_run_is_told(page: Page, browser: Browser, address: str, store: Path) -> None:
    """The page of a run that is not there says so, and what there is."""
    complete_run(new_store(store))
    lone = browser.new_page()  # the browser itself reports the 404 of the API on the console
    lone.goto(f"{address}/runs/calm-otter-13")
    expect(lone.locator("#problem")).to_contain_text("did you mean 'calm-otter-12'?")
    expect(lone.locator("#problem")).to_have_text(re.compile("^there is no run 'calm-otter-13'"))
    lone.close()
