"""tqdm: the numbers beside the program's progress bars."""

from __future__ import annotations

from typing import Any

from looptap.integration import Capture, Integration
from looptap.measuring import has_one_number
from looptap.patching import Call, Observation, Patcher
from looptap.recorder import Recorder

SOURCE = "tqdm"


class TqdmIntegration(Integration):
    requires = "tqdm>=4.40"
    captures = (
        Capture(
            "the numbers of set_postfix, once per step and key; during a validation pass the last one, as validation/…",
            "tqdm.std.tqdm.set_postfix: tqdm.auto, tqdm.notebook, tqdm.rich inherit it",
            "each call",
        ),
    )
    not_captured = (
        'numbers that are written as text: set_postfix(loss=f"{loss:.3f}"), set_postfix_str(), set_description()',
        "bars before the first step of a training",
    )

    def install(self, patch: Patcher, record: Recorder) -> None:
        from tqdm.std import tqdm

        #: Of what step each key was told last.
        self._last: dict[str, int] = {}
        self._generation = -1
        #: During a validation pass: its split and step, and the last number of each key.
        self._of: tuple[str, int] | None = None
        self._held: dict[str, Any] = {}
        patch.observe(tqdm, "set_postfix", self.on_postfix)

    def finish(self) -> None:
        self._write_held()

    def on_postfix(self, call: Call) -> Observation:
        with self.record.tee() as is_ours:
            yield
        # Before a training shows itself a bar is of anything, and no reason for a run.
        if not is_ours or call.error is not None or self.record.step < 0:
            return
        first = call.args[1] if len(call.args) > 1 else call.kwargs.get("ordered_dict")
        values = dict(first or {}) | {
            key: value for key, value in call.kwargs.items() if key not in ("ordered_dict", "refresh")
        }
        values = {str(key): value for key, value in values.items() if has_one_number(value)}
        if not values:
            return
        split = self.record.split()
        if split is not None:
            self._hold(values, split)
        else:
            self._write_held()
            self._write(values)

    def _write(self, values: dict[str, Any]) -> None:
        record = self.record
        if record.generation != self._generation:
            self._generation = record.generation
            self._last.clear()
        step = record.step + 1 if record.is_step_under_way() else record.step
        new = {key: value for key, value in values.items() if self._last.get(key) != step}
        self._last.update(dict.fromkeys(new, step))
        if new:
            record.log_metrics(new, step=step, source=SOURCE)

    def _hold(self, values: dict[str, Any], split: str) -> None:
        of = (split, self.record.step)
        if of != self._of:
            self._write_held()
            self._of = of
        # A tensor may be another number by the time the pass is over.
        self._held.update({key: value for key, value in values.items() if isinstance(value, (int, float))})

    def _write_held(self) -> None:
        of, held, self._of, self._held = self._of, self._held, None, {}
        if of is not None and held:
            self.record.log_metrics({f"{of[0]}/{key}": value for key, value in held.items()}, step=of[1], source=SOURCE)
