"""Validation: losses that are computed with gradients off become one point per pass, the mean over the pass.

A pass is one iteration of a ``DataLoader`` in which no step of the training happens; without one, what comes between two steps.
Not every loss without gradients is validation: a program may look at one beside its training. That is told by where the batch came
from, whether a backward pass waits for its step, and what the program calls things.
"""

from __future__ import annotations

import os
import sys
import weakref
from types import CodeType, FrameType
from typing import Any

from torch import is_grad_enabled

from looptap.assigning import assigned_name
from looptap.frames import variables_in_reach
from looptap.recorder import Recorder
from looptap.rounds import Rounds
from looptap.serving.reference import References, Sample
from looptap.splits import TEST, TRAIN, VALIDATION, is_evaluation, split_in, without_split
from looptap_integrations.torch.loss_names import DEFAULT, CallSites
from looptap_integrations.torch.losses import Seen
from looptap_integrations.torch.passes import Pass, Passes
from looptap_integrations.torch.scalars import Scalar, Scalars
from looptap_integrations.torch.seen import seen_batch

#: Frames of the program that are searched for the loader's variable, and functions whose names are looked at.
_REACH = 6
#: Words of a variable that sums up.
_SUMS = {"total", "running", "sum", "cum", "acc", "accumulated", "epoch", "avg", "mean"}


class Site:
    """A place of the program that computes a loss without gradients."""

    __slots__ = ("function", "is_in_backward", "is_weak", "name", "split")

    def __init__(self, frame: FrameType, frames: list[FrameType], function: str, trains: set[CodeType]) -> None:
        self.function = function
        found = assigned_name(frame)
        name = found.name or ""
        self.name = _loss_name(name, found.is_added)
        self.split = split_in(name)
        #: Whether it is only some evaluation, of whatever.
        self.is_weak = is_evaluation(name)
        for outer in frames[:_REACH]:
            # The function that trains, and whoever calls it, has its name from other things.
            if outer.f_code in trains or self.split is not None:
                break
            if not _is_a_test(outer.f_code):
                self.split = split_in(outer.f_code.co_name)
                self.is_weak |= is_evaluation(outer.f_code.co_name)
        self.is_in_backward = _is_under_checkpoint(frame)

    @property
    def is_named(self) -> bool:
        """Whether the program says that this is no training."""
        return self.is_weak or self.split in (VALIDATION, TEST)


class Mean:
    __slots__ = ("arrived", "count", "samples", "split", "total")

    def __init__(self, split: str) -> None:
        self.split = split
        self.total = 0.0
        self.samples = 0
        #: Losses that belong to it, and those of them that a device has handed over.
        self.count = self.arrived = 0

    @property
    def is_whole(self) -> bool:
        """Whether none was lost on the way from the device: then it would be the mean of something else."""
        return 0 < self.count == self.arrived

    def add(self, value: float, samples: int, is_sum: bool) -> None:
        self.total += value if is_sum else value * samples
        self.samples += samples
        self.arrived += 1

    def value(self) -> float:
        return self.total / self.samples


class Totals:
    """What a pass has come to so far."""

    __slots__ = ("_beside", "is_named", "means", "needs_two", "of_site", "samples", "split", "step")

    def __init__(self, split: str | None, step: int) -> None:
        #: None where no loader says it: each loss has its own then.
        self.split = split
        #: Of the last loss that was no training's; what says nothing itself goes with it.
        self._beside = VALIDATION
        #: The last step of the training before it.
        self.step = step
        self.is_named = False
        #: A single loss in it would be a look at the training.
        self.needs_two = False
        #: By split and name.
        self.means: dict[str, Mean] = {}
        #: What the first loss of each split was computed from.
        self.samples: dict[str, tuple[Mean, Sample]] = {}
        self.of_site: dict[Site, Mean] = {}

    def mean(self, site: Site) -> Mean:
        found = self.of_site.get(site)
        if found is None:
            split = self.split or site.split or self._beside
            # Two places with one name in one pass are two losses.
            named = f"{split}/{site.name}"
            key = named if named not in self.means else f"{split}/{site.function}"
            found = self.of_site[site] = self.means.setdefault(key, Mean(split))
        if found.split != TRAIN:
            self._beside = found.split
        return found

    def look_at(self, mean: Mean, seen: Seen) -> None:
        """Keep some of the predictions and labels that a loss came from."""
        first, sample = self.samples.setdefault(mean.split, (mean, Sample()))
        if first is mean and sample.wants_next() and (batch := seen_batch(seen)) is not None:
            sample.add(batch)


class Validation:
    def __init__(
        self, record: Recorder, scalars: Scalars, passes: Passes, rounds: Rounds[Scalar], sites: CallSites
    ) -> None:
        self._record = record
        self._scalars = scalars
        self._passes = passes
        self._rounds = rounds
        self._sites = sites
        self._places: dict[tuple[CodeType, int], Site] = {}
        #: The loader of the last training step.
        self._trained: weakref.ref[Any] | None = None
        self._open: dict[Pass | None, Totals] = {}
        #: Of the last pass since the last step.
        self._split: str | None = None
        #: True when the next step of the training has something to end.
        self.is_open = False
        #: What serving will be compared with.
        self.references = References(record.window, record.note)
        #: Whether nobody tells of losses, because the program had compiled something before us.
        self.is_blind = False

    # --- what happens -----------------------------------------------------------------------------------------------

    def wants(self) -> bool:
        record = self._record
        return not (record.is_suppressed() or record.covers("validation"))

    def loss(self, frame: FrameType, seen: Seen, result: Any) -> None:
        """A loss was computed with gradients off."""
        function, samples, is_sum, is_trained = seen.function, seen.samples, seen.is_sum, seen.is_trained
        place = self._sites.program_frame(frame)
        if place is None or samples < 1:
            return
        key = (place.f_code, place.f_lasti)
        site = self._places.get(key)
        if site is None:
            site = self._places[key] = Site(place, self._sites.program_frames(place), function, self._sites.codes())
        totals = self._totals(site, place, is_trained)
        if totals is None:
            return
        value = self._scalars.read(result)
        if value is None:
            return
        mean = totals.mean(site)
        mean.count += 1
        if not self.references.guard.closed:
            with self.references.guard:
                totals.look_at(mean, seen)
        self._split = mean.split
        if isinstance(value, float):
            mean.add(value, samples, is_sum)
        else:
            # In the order of these calls, so that all are there when the pass is written.
            self._scalars.later({"": value}, lambda numbers: mean.add(numbers[""], samples, is_sum))
            self._scalars.drain()

    def ended(self, iterator: Any) -> None:
        """A ``DataLoader`` has come to its end."""
        one = self._passes.ended(iterator)
        if one is None or one.trains or not self.wants():
            return
        if one.fetched:
            if self.is_blind:
                self._record.note(
                    "torch", "no validation losses: call autolog() before anything is compiled by torch.compile"
                )
            frame = self._sites.program_frame(sys._getframe(1))
            self._split = self._split_of(one, frame, None)
            self.is_open = True
        totals = self._open.pop(one, None)
        if totals is not None:
            self._write(totals)

    def trains(self, one: Pass) -> None:
        """A step of the training took its batch from this pass."""
        one.train()
        self._trained = weakref.ref(one.loader) if one.loader is not None else None

    def end(self, is_step: bool = True) -> None:
        """The training goes on, or the run is over: what is open is written, unless it was part of the training."""
        feeding = self._passes.feeding
        is_stepping = is_step and feeding is not None and feeding.is_under_way and feeding.fetched > 0
        while self._open:
            one, totals = self._open.popitem()
            if not totals.is_named and one is not None and (one.trains or (is_stepping and one is feeding)):
                continue
            if totals.needs_two and not totals.is_named and all(mean.count < 2 for mean in totals.means.values()):
                continue
            self._write(totals)
        self._split = None
        self.is_open = False

    def split(self) -> str | None:
        """``validation`` or ``test`` from the beginning of such a pass to the next step of the training."""
        feeding = self._passes.feeding
        if (
            feeding is not None
            and feeding.is_under_way
            and not feeding.trains
            and (feeding in self._open or not is_grad_enabled())
        ):
            found: str | None = self._split_of(feeding, self._sites.program_frame(sys._getframe(1)), None)
        else:
            found = self._split if self.is_open else None
        return found if found != TRAIN else None

    # --- which pass, which split ------------------------------------------------------------------------------------

    def _totals(self, site: Site, frame: FrameType, is_trained: bool) -> Totals | None:
        """The totals that this loss belongs to; None when it is part of the training."""
        one = self._passes.feeding
        is_inside = one is not None and one.is_under_way
        if one is not None and one.trains:
            one = None
        if is_inside and one is not None:
            totals = self._open.get(one)
            if totals is None:
                totals = self._begin(one, self._split_of(one, frame, site))
        else:
            if self._rounds.pending or is_trained or site.is_in_backward:
                return None
            feeding = self._passes.feeding
            if is_inside and feeding is not None and feeding.fetched > 0 and not site.is_named:
                return None  # it has a batch in hand, and has not stepped yet
            totals = self._open.get(one)
            if totals is None:
                known = one.split if one is not None and self.is_open else None
                totals = self._begin(one, known)
                totals.needs_two = is_inside
        totals.is_named |= site.is_named
        return totals

    def _begin(self, one: Pass | None, split: str | None) -> Totals:
        self.is_open = True
        totals = self._open[one] = Totals(split, self._record.step)
        return totals

    def _split_of(self, one: Pass, frame: FrameType | None, site: Site | None) -> str:
        if one.split is None:
            one.split = self._tell(one.loader, frame, site)
        return one.split

    def _tell(self, loader: Any, frame: FrameType | None, site: Site | None) -> str:
        """By, in this order: what was trained on, what the data says of itself, the program's words for the loader, the data and
        the loss, and whether the data is none for training."""
        if self._trained is not None and self._trained() is loader:
            return TRAIN
        data = getattr(loader, "dataset", None)
        told = _split_text(data)
        if told is not None and told != TRAIN:
            return told
        frames = self._sites.program_frames(frame)[:_REACH]
        named = _split_by_variables([loader, data], frames)
        if named is not None:
            return named
        if site is None and frame is not None:
            site = Site(frame, frames, "", self._sites.codes())
        if site is not None and site.split in (VALIDATION, TEST):
            return site.split
        if _variables(data).get("train") is False:
            return TEST
        return VALIDATION

    def _write(self, totals: Totals) -> None:
        """Once the device has handed over what it owes; at once where it owes nothing."""
        record = self._record
        step = max(totals.step, -1)

        def emit(_: dict[str, float]) -> None:
            values = {key: mean.value() for key, mean in totals.means.items() if mean.is_whole}
            for key in totals.means.keys() - values.keys():
                record.note("torch", f"{key} is left out: a value of it was lost on its way from the device")
            if not values:
                return
            if step >= 0:
                record.metrics(values, step)
            else:
                record.log_metrics(values)  # no training so far: each counts its own passes
            if record.is_first:
                for split, of_split in totals.samples.items():
                    self.references.tell(of_split[1], split)

        self._scalars.later({"": 0.0}, emit)
        self._scalars.drain()


def _is_a_test(code: CodeType) -> bool:
    """Of the program itself, as pytest collects them: its name is a sentence."""
    return code.co_name.startswith("test_") and os.path.basename(code.co_filename).startswith("test_")


def _loss_name(variable: str, is_added: bool) -> str:
    """``val_loss`` and ``test_recon_sum`` are ``loss`` and ``recon`` in their split."""
    name = without_split(variable)
    if is_added:
        name = "_".join(word for word in name.split("_") if word.lower() not in _SUMS)
    return name or DEFAULT


def _split_by_variables(things: list[Any], frames: list[FrameType]) -> str | None:
    """From the outermost frame inwards: there the loader was made, and inside it goes by the names of arguments."""
    for thing in things:
        if thing is None:
            continue
        for frame in reversed(frames):
            for name, value in variables_in_reach(frame):
                if value is thing:
                    split = VALIDATION if is_evaluation(name) else split_in(name)
                    if split is not None:
                        return split
    return None


def _split_text(data: Any) -> str | None:
    """Of a dataset with a ``split`` in words: torchvision's and others', Hugging Face's (``test[:10%]``). What a ``Subset`` is for,
    the whole that it is of does not know."""
    variables = _variables(data)
    told = variables.get("split", variables.get("_split"))
    if isinstance(told, str) or type(told).__name__ == "NamedSplit":
        return split_in(str(told).partition("[")[0])
    return None


def _variables(thing: Any) -> dict[str, Any]:
    """Its attributes, without running the program's properties."""
    found = getattr(thing, "__dict__", None)
    return found if type(found) is dict else {}


def _is_under_checkpoint(frame: FrameType) -> bool:
    """Whether this runs inside of a forward whose gradients are computed by hand: gradients are off there in training too."""
    outer: FrameType | None = frame
    while outer is not None:
        name = outer.f_globals.get("__name__")
        if name in ("torch.utils.checkpoint", "torch.autograd.function"):
            return True
        outer = outer.f_back
    return False
