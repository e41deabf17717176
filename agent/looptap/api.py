"""The public calls. Each is one line over :mod:`looptap.session`; none of them raises on account of a value."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

from looptap import lifetime
from looptap.plain import exception, text
from looptap.session import SESSION, ActiveRun
from looptap.settings import share
from looptap.status import Status, current_status

_Model = TypeVar("_Model")


def autolog(**settings: Any) -> None:
    """Record every training run of this process from here on. Call it once, anywhere before training; imports may come
    before or after.

    Takes the settings of :class:`looptap.Settings` (``store="…"``, ``experiment="…"``, ``quiet=True``, …) and raises
    TypeError for a name that is none of them; nothing else is ever raised. Calling it again changes the settings of the
    next run.
    """
    SESSION.configure(settings)
    if not SESSION.settings.enabled:
        return
    with SESSION.guard:
        lifetime.install()
        SESSION.arm()


def stop() -> None:
    """End the run under way and remove every hook; frameworks get back the identical objects."""
    with SESSION.guard:
        SESSION.disarm()


def status() -> Status:
    """What is captured at this moment, what is not, and why. Printing it gives a readable page."""
    return current_status()


def start_run(name: str | None = None, *, experiment: str | None = None) -> ActiveRun | None:
    """Begin a run by hand; the one under way ends first. None where nothing is recorded (data-loader workers,
    ``enabled=False``)."""
    lifetime.install()
    if not SESSION.armed:
        SESSION.configure({})
    with SESSION.guard:
        return SESSION.begin(name, experiment)
    return None


def end_run(status: str = "finished") -> None:
    """End the run under way: ``finished``, ``failed`` or ``killed``. Waits for the store, ``exit_timeout`` at most."""
    with SESSION.guard:
        SESSION.end(status if status in ("finished", "failed", "killed") else "finished")


@contextmanager
def run(name: str | None = None, *, experiment: str | None = None) -> Iterator[ActiveRun | None]:
    """``with looptap.run("baseline"):`` – a run that ends with the block, as failed if the block raises."""
    active = start_run(name, experiment=experiment)
    try:
        yield active
    except BaseException as error:
        with SESSION.guard:
            SESSION.end("killed" if isinstance(error, KeyboardInterrupt) else "failed", exception(error))
        raise
    end_run()


def current_run() -> ActiveRun | None:
    """The run under way (``.id``, ``.name``, ``.experiment``), or None."""
    return SESSION.run


def log_metric(key: str, value: Any, step: int | None = None) -> None:
    """One number at ``step``; without it, at the last training step (or counted from 0 where no training is seen).

    NaN and infinities are kept as they are. A value that is no number is left out and counted.
    """
    recorder = _record()
    with SESSION.guard:
        recorder.log_metrics({key: value}, step)


def log_metrics(values: Mapping[str, Any], step: int | None = None) -> None:
    """Several numbers at one step; see :func:`log_metric`."""
    recorder = _record()
    with SESSION.guard:
        recorder.log_metrics(values, step)


def log_param(key: str, value: Any) -> None:
    """A setting. Another value for the same key later becomes a new revision; objects are shortened to text."""
    recorder = _record()
    recorder.begin()
    with SESSION.guard:
        recorder.param(key, value, "user")


def log_params(values: Mapping[str, Any]) -> None:
    """Several settings; dicts inside become dotted keys."""
    recorder = _record()
    recorder.begin()
    with SESSION.guard:
        recorder.params(values, "user")


def set_tag(key: str, value: str) -> None:
    """A label of the run."""
    recorder = _record()
    recorder.begin()
    with SESSION.guard:
        recorder.tag(key, value)


def log_artifact(path: str | os.PathLike[str], name: str | None = None, *, description: str | None = None) -> None:
    """Keep a file with the run. It is hashed and stored in the background; a file that is not there is noted."""
    recorder = _record()
    recorder.begin()
    with SESSION.guard:
        try:
            recorder.file(path, name=name, description=description)
        except OSError as error:
            recorder.note("artifacts", f"log_artifact({os.fspath(path)!r}) found no file: {error.strerror or error}")


def log_dataset(data_or_path: Any, name: str | None = None, role: str = "train") -> None:
    """Say what data the run is fed with: a data set or loader, an array, a table, or the path of a file or folder.

    Nothing is iterated and none of the data's own code is called. ``role`` is ``train``, ``validation``, ``test``, … The
    fingerprint of files is made in the background; a file is also an input of the run.
    """
    recorder = _record()
    recorder.begin()
    with SESSION.guard:
        described = recorder.describers.describe(data_or_path)
        recorder.dataset(described, role=str(role), name=None if name is None else str(name))
        if described.kind == "file" and described.root is not None and os.path.isfile(described.root):
            recorder.file(described.root, name=name, role="input", kind="dataset")


def flush(timeout: float | None = None) -> bool:
    """Wait until everything recorded so far is in the store; False if that took longer than ``timeout`` seconds."""
    return SESSION.flush(timeout)


def watch(
    model: _Model,
    name: str | None = None,
    version: str = "auto",
    *,
    features: Sequence[str] = (),
    inputs: float | None = None,
) -> _Model:
    """``model = looptap.watch(load_model(), name="intent")`` – what it answers from now on is on record: latency, errors, batch
    sizes, predictions.

    For a function, a PyTorch module, a Keras model, or any object that is called or asked by ``predict``, ``run``, ``generate``, …
    What is returned stands in its place and answers as it does; the model itself is not touched. ``name`` is that of the class or
    function if none is given. With ``auto``, the version is the SHA-256 of the file that the weights were loaded from, which
    leads back to the run that wrote it.

    ``features`` are the names of columns of what it is asked (an array, a table, dicts): their values are counted, too.

    ``inputs`` is the share of its calls, from 0 to 1, that may be kept as examples, with what was asked and answered: 20 of ten
    seconds at most, cut to 4 KiB each, without what looks like a secret. Without it the setting ``serving_inputs`` counts, which
    is 0: nothing of what a model is asked is kept.
    """
    lifetime.install()
    if not SESSION.armed:
        SESSION.configure({})
    if not SESSION.settings.enabled:
        return model
    with SESSION.guard:
        from looptap.serving.watching import no_model, watched  # programs that only train have no time for it

        if (why := no_model(model)) is not None:
            SESSION.say(f"looptap.watch: {why}")
            return model
        try:
            kept = SESSION.settings.serving_inputs if inputs is None else share(inputs)
        except ValueError as error:
            SESSION.say(f"looptap.watch: inputs={text(inputs)[:80]} was left out, and no input is kept: {error}")
            kept = 0.0
        SESSION.serving.is_wanted = True
        return watched(model, name, version, features, kept)  # type: ignore[no-any-return]
    return model


def prediction_id(row: int = 0) -> str | None:
    """The id of what a watched model has just predicted, for this row of it: send it along, and hand it to :func:`log_outcome` when
    it is known what was right. None where no model was asked in this request, or where the answer is neither a class nor a number.
    """
    with SESSION.guard:
        from looptap.serving.outcomes import identity
        from looptap.serving.traffic import last_call

        call = last_call()
        return None if call is None else identity(call, row, int(time.time()))
    return None


def log_outcome(prediction_id: str, label: Any) -> None:
    """What was right, whenever it becomes known, in this process or any other. A class, or a number where the model predicts
    numbers.

    It counts for the model that has predicted it: accuracy and error over time. Nothing is raised for an id that is none; it is
    noted.
    """
    lifetime.install()
    if not SESSION.armed:
        SESSION.configure({})
    with SESSION.guard:
        from looptap.serving.outcomes import outcome
        from looptap.serving.traffic import TRAFFIC

        try:
            told = outcome(prediction_id, label)
        except ValueError as error:
            SESSION.recorder.note("outcomes", f"outcomes were left out: {error}")
            return
        SESSION.serving.is_wanted = True
        if TRAFFIC.is_counted or SESSION.serving.start():
            TRAFFIC.outcomes.append(told)


def suppress() -> AbstractContextManager[None]:
    """``with looptap.suppress():`` – nothing that this thread does inside is recorded."""
    return SESSION.recorder.suppress()


def _record() -> Any:
    if not lifetime.is_installed():
        lifetime.install()
        SESSION.configure({})
    return SESSION.recorder
