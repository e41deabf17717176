"""Which run is meant, which series is the loss, and what became of every record."""

from __future__ import annotations

import pytest

from collector.recorded import START_NS, Recording, complete_run
from looptap_collector.backend import Backend, SeriesRow
from looptap_collector.query import (
    UnknownRun,
    accounts,
    duration_seconds,
    find_run,
    is_loss,
    main_loss,
    series_labels,
)


def row(key: str, **context: str) -> SeriesRow:
    return SeriesRow("run", key, context, 1, 0, 0.5, 0.5, 0.5, 0, 0, START_NS)


@pytest.fixture
def runs(backend: Backend) -> Backend:
    Recording(backend, "calm-otter-1", run="aaaa1111", start_ns=START_NS)
    Recording(backend, "brave-lynx-2", run="aaaa2222", start_ns=START_NS + 1)
    Recording(backend, "calm-otter-1", run="bbbb3333", start_ns=START_NS + 2)
    return backend


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        ("latest", "bbbb3333"),
        ("aaaa1111", "aaaa1111"),
        ("calm-otter-1", "bbbb3333"),
        ("brave-lynx-2", "aaaa2222"),
        ("bbbb", "bbbb3333"),
        ("aaaa2", "aaaa2222"),
    ],
)
def test_a_run_is_found_by_id_name_prefix_and_latest(runs: Backend, which: str, expected: str) -> None:
    """An id, the beginning of one, a name (the newest of that name) and ``latest`` all mean one run."""
    assert find_run(runs, which).run == expected


@pytest.mark.parametrize(
    ("which", "message"),
    [
        ("aaaa", "2 runs begin with 'aaaa': aaaa2222, aaaa1111"),
        ("bbb", "there is no run 'bbb'. The newest are: calm-otter-1, brave-lynx-2"),
        ("calm", "there is no run 'calm'; did you mean 'calm-otter-1'? The newest are: calm-otter-1, brave-lynx-2"),
        (
            "brave-linx-2",
            "there is no run 'brave-linx-2'; did you mean 'brave-lynx-2'? The newest are: calm-otter-1, brave-lynx-2",
        ),
        ("", "there is no run ''. The newest are: calm-otter-1, brave-lynx-2"),
    ],
)
def test_an_unknown_run_is_told_in_one_line(runs: Backend, which: str, message: str) -> None:
    """The error is a LookupError that names what there is and, if one is near, what was perhaps meant."""
    with pytest.raises(LookupError) as caught:
        find_run(runs, which)
    assert str(caught.value) == message


def test_an_empty_store_has_no_latest(backend: Backend) -> None:
    """Without any run there is no latest one."""
    with pytest.raises(UnknownRun, match="this store has no runs yet"):
        find_run(backend, "latest")


@pytest.mark.parametrize("which", ["", "aaaa\0", "aaaa\ud800", "%", "aaa_", 'a"b', "a\\b", "x" * 10_000, "AAAA1111"])
def test_odd_names_mean_no_run(runs: Backend, which: str) -> None:
    """What no run can be called, or what an engine might take for a pattern, finds nothing and breaks nothing."""
    with pytest.raises(UnknownRun):
        find_run(runs, which)


def test_a_run_among_many_is_found_without_reading_them_all(backend: Backend) -> None:
    """The oldest of many runs is found by name and by the beginning of its id, though the newest 200 do not hold it."""
    for number in range(250):
        Recording(
            backend, f"name-{number}", run=f"{number // 2:04d}{'ab'[number % 2]}-tail", start_ns=START_NS + number
        )
    assert find_run(backend, "name-0").run == "0000a-tail"
    assert find_run(backend, "0000b").name == "name-1"
    with pytest.raises(UnknownRun, match=r"^2 runs begin with '0000': 0000b-tail, 0000a-tail$"):
        find_run(backend, "0000")


def test_labels_are_unique() -> None:
    """A label is the key and its context; a key that is spelled like the label of another series gets a number."""
    rows = [row("loss"), row("lr", group="0"), row("lr{group=0}"), row("lr{group=0}#2"), row("lr", rank="1", group="0")]
    assert series_labels(rows) == ["loss", "lr{group=0}", "lr{group=0}#2", "lr{group=0}#2#2", "lr{group=0,rank=1}"]


@pytest.mark.parametrize(
    "key", ["loss", "val_loss", "errD_real", "err_g", "train/loss", "nll", "mse_loss", "generator.loss"]
)
def test_names_of_losses(key: str) -> None:
    """Names that people give to objectives are taken for losses."""
    assert is_loss(key)


@pytest.mark.parametrize(
    "key", ["lr", "epoch", "step_time", "grad_norm", "system.gpu_loss", "accuracy", "loss_scale", "loss_time"]
)
def test_names_of_other_metrics(key: str) -> None:
    """Names of settings, counters and times are not, even where they contain the word."""
    assert not is_loss(key)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (["accuracy", "lr", "val_loss", "loss"], "loss"),
        (["batch_kl_loss", "batch_loss", "cls_loss", "epoch_loss", "loss"], "loss"),
        (["batch_kl_loss", "batch_total_loss", "epoch_kl_loss", "kl_loss", "total_loss"], "total_loss"),
        (["a_cost", "batch_kl_loss", "kl_loss"], "kl_loss"),
        (["bce_loss", "train/loss", "val/loss"], "train/loss"),
        (["lr", "val_loss"], "val_loss"),
        (["lr", "quality"], "quality"),
        (["lr", "epoch", "system.cpu_percent"], None),
        ([], None),
    ],
)
def test_the_loss_of_a_list(keys: list[str], expected: str | None) -> None:
    """A list shows the training loss, else another loss, else a metric that may be one, else nothing."""
    found = main_loss([row(key) for key in keys])
    assert (found.key if found else None) == expected


def test_every_record_is_accounted_for(backend: Backend) -> None:
    """Emitted is stored and in the journal and dropped; what the ledger passed without a trace is unreadable."""
    recording = Recording(backend, "leaky")  # 1 record
    recording.points("loss", [1.0, 2.0, 3.0])  # 3 records
    recording.points("loss", [4.0], first_step=3, next=10, dropped={"journal_full": 2})  # numbers 4 to 9, 1 is there
    account = accounts(
        backend, recording.run, lambda journal, position: {(recording.journal, 10): 7}[journal, position]
    )
    assert account.stored == 5
    assert account.in_journal == 7
    assert account.dropped == {"journal_full": 2, "unreadable": 3}
    assert account.emitted == 17


def test_accounts_add_up_over_journals(backend: Backend) -> None:
    """A run of several processes has a journal for each; all of them count."""
    first = complete_run(backend)
    child = Recording(backend, "calm-otter-12", run=first.run)
    child.journal, child.next = "journal-child", 0
    child.points("loss", [1.0] * 3, first_step=500, dropped={"too_large": 1}, next=4)
    account = accounts(backend, first.run)
    assert account.dropped == {"too_large": 1}
    assert account.emitted == account.stored + 1


def test_duration_of_a_run_under_way(backend: Backend) -> None:
    """A run that has not ended lasted until its last sign of life."""
    running = Recording(backend, "running")
    assert duration_seconds(find_run(backend, "running")) == 1.0
    running.end(after_seconds=90)
    assert duration_seconds(find_run(backend, "running")) == 90.0
