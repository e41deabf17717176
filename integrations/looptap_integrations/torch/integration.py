"""PyTorch training loops, whatever their shape: where we stand in the framework. What comes of it is in
:mod:`~looptap_integrations.torch.loop`.
"""

from __future__ import annotations

import sys
import time
from threading import Event
from typing import Any

import torch
from torch.compiler import is_dynamo_compiling
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils.data import DataLoader, dataloader

from looptap.integration import Capture, Integration
from looptap.patching import Call, Observation, Patcher
from looptap.recorder import Recorder
from looptap.serving.devices import DEVICES
from looptap_integrations.torch import memory, model_files
from looptap_integrations.torch.answers import DeviceAnswers
from looptap_integrations.torch.groups import Groups
from looptap_integrations.torch.loop import Loop
from looptap_integrations.torch.losses import watch_losses
from looptap_integrations.torch.uncompiled import leave_to_the_interpreter


class TorchIntegration(Integration):
    #: 2.3 is the first with torch.compiler.is_compiling(), without which our hooks would break graphs.
    requires = "torch>=2.3"
    captures = (
        Capture(
            "the loss of every optimizer step, by its variable name",
            "torch.autograd.backward",
            "each step",
            "torch.backward",
        ),
        Capture("step_time, lr when it changes", "optimizer step hooks", "each step", "torch.step"),
        Capture(
            "time.data, time.forward, time.backward, time.optimizer, time.other; summed at the end of an epoch as epoch_time.…",
            "the host's clock at these same hooks",
            "each step",
        ),
        Capture(
            "validation/loss, test/loss: the mean over a pass with gradients off, by the name of the variable",
            "the loss functions of torch.nn.functional, which the loss modules call",
            "each call with gradients off",
        ),
        Capture("epoch", "DataLoader.__iter__", "each pass"),
        Capture("grad_norm", "clip_grad_norm_ of the program", "each call", "torch.clip"),
        Capture("amp_scale, amp_skipped", "torch.amp.GradScaler", "each step that uses it"),
        Capture(
            "settings of optimizers, model, DataLoader, seeds, determinism flags",
            "the objects, at the first step",
            "once a run",
        ),
        Capture(
            "data sets that train and validate: class, length, split, root, transform, fingerprint",
            "DataLoader.__iter__, its next batch",
            "once a run",
            "files are listed in the background",
        ),
        Capture(
            "on a GPU: all numbers above, copied into pinned memory and written when the device has done so",
            "the tensors, and an event behind them",
            "each step",
            "torch.device_value",
        ),
        Capture(
            "device_time.data, device_time.forward, device_time.backward, device_time.optimizer, device_time.other",
            "CUDA events at the marks of the host's clock",
            "every 20th step",
        ),
        Capture("losses and steps of CUDA graphs", "torch.cuda.CUDAGraph.replay", "each replay"),
        Capture(
            "memory.allocated, memory.reserved, memory.peak, memory.reserved_peak, memory.retries, memory.out_of_memory by device",
            "torch's caching allocator",
            "about once a second",
            "in the background",
        ),
        Capture("what was held when memory ran out", "the allocator's observer", "each failure, 5 a run"),
        Capture(
            "rank, and which run the processes of a job share",
            "the store of torch.distributed.init_process_group, one request",
            "once a run",
        ),
        *model_files.CAPTURES,
    )
    not_captured = (
        "phases of a step that is itself compiled, and the learning rate of its first one where a schedule changes it",
        "the length of a data set whose __len__ does more than tell what is there; the content of tensors on a device",
        "validation losses with gradients on (model.eval() without no_grad()): nothing tells them from training until a backward"
        " pass does not come",
        "validation losses inside of a compiled function; with reduction='none'; and all of them where the program had compiled its"
        " model before autolog()",
        "losses and gradient norms that are distributed tensors: reading one would wait for other machines",
        "losses on MPS, XLA and other devices without pinned copies and events: reading one would wait for the device",
        "grad_norm inside of a CUDA graph, and a loss in it that the program keeps no variable for",
        "the copy to the device by itself: it is in time.forward and device_time.forward. Watching Tensor.to would cost at every"
        " call of it, and models call it hundreds of times a step",
        *model_files.NOT_CAPTURED,
    )

    def install(self, patch: Patcher, record: Recorder) -> None:
        self.record = record
        self.loop = loop = Loop(record)
        leave_to_the_interpreter()
        patch.pass_through_when(is_dynamo_compiling)
        patch.hook(register_optimizer_step_pre_hook, loop.before_step)
        patch.hook(register_optimizer_step_post_hook, loop.on_step)
        patch.tap("torch.autograd", "backward", loop.before_backward, loop.after_backward, loop.failed_backward)
        patch.observe(Optimizer, "__init__", self.on_optimizer)
        patch.observe(DataLoader, "__iter__", self.on_pass)
        patch.tap(dataloader._BaseDataLoaderIter, "__next__", loop.before_next, loop.after_next, loop.failed_next)
        patch.hook(record.describers.register, loop.datasets.describe)
        self.watch_validation(patch)
        # The base class: torch.cuda.amp.GradScaler and torch.cpu.amp.GradScaler inherit from it.
        patch.observe(torch.amp.GradScaler, "scale", self.on_scale)
        patch.observe(torch.amp.GradScaler, "step", self.on_scaler_step)
        patch.observe(torch.amp.autocast_mode.autocast, "__enter__", self.on_autocast)
        loop.graphs.install(patch)
        loop.files.install(patch)
        if allocator := memory.built_in():
            memory.Memory(record, allocator).install(patch)
        clipping = torch.nn.utils.clip_grad
        if hasattr(clipping, "_clip_grads_with_norm_"):
            # The function inside clip_grad_norm_ (2.6 and later): seen also where the program imported the outer one by
            # name before us.
            patch.observe("torch.nn.utils.clip_grad", "_clip_grads_with_norm_", self.on_clip)
            patch.observe("torch.nn.utils", "clip_grads_with_norm_", self.on_clip)
        else:
            # There is none, so the outer one is replaced wherever somebody has imported it by name.
            outer = clipping.clip_grad_norm_
            for module in list(sys.modules.values()):
                if vars(module).get("clip_grad_norm_") is outer:
                    patch.observe(module, "clip_grad_norm_", self.on_clip_norm)

        Groups(record).install(patch)
        DEVICES.offered = lambda: DeviceAnswers(lambda: loop.scalars)
        patch.when_undone(DEVICES.forget)

    def watch_validation(self, patch: Patcher) -> None:
        if _has_compiled():
            # What was compiled is bound to these functions, and would be compiled again if we took their places.
            self.loop.validation.is_blind = True
        else:
            watch_losses(patch, self.loop.validation)

    def trace(self, folder: str, seconds: float, over: Event) -> str | None:
        # The import of the profiler is for those who want one.
        from looptap_integrations.torch.tracing import trace

        return trace(self.loop, folder, seconds, over)

    def finish(self) -> None:
        self.loop.finish()

    def on_pass(self, call: Call) -> Observation:
        now = time.perf_counter()
        self.loop.settle()
        yield
        if call.error is None:
            self.loop.begin_pass(call.instance, call.result, now)

    def on_optimizer(self, call: Call) -> Observation:
        yield
        if call.error is None:
            self.loop.optimizers.exists(call.instance)

    def on_scale(self, call: Call) -> Observation:
        self.loop.settle()
        yield
        if call.error is None and not self.record.is_suppressed():
            outputs = call.args[1] if len(call.args) > 1 else call.kwargs.get("outputs")
            self.loop.scaling.scaled(call.instance, outputs, call.result)
            self.loop.is_plain = False

    def on_scaler_step(self, call: Call) -> Observation:
        scaler = call.instance
        if not scaler.is_enabled():
            return
        optimizer: Any = call.args[1] if len(call.args) > 1 else call.kwargs.get("optimizer")
        before = self.loop.completed
        self.loop.scaling.begin_step(scaler)
        yield
        self.loop.settle()
        if call.error is None and self.loop.completed == before and not self.record.is_suppressed():
            # No hook was called: the gradients were not finite. The attempt still has its loss and its number.
            self.loop.completion.complete(optimizer, is_skipped=True)
        self.loop.scaling.end_step()

    def on_clip(self, call: Call) -> Observation:
        yield
        if call.error is None and len(call.args) > 2:
            self.loop.clipped(call.args[1], call.args[2])

    def on_clip_norm(self, call: Call) -> Observation:
        yield
        if call.error is None:
            maximum = call.args[1] if len(call.args) > 1 else call.kwargs.get("max_norm")
            self.loop.clipped(maximum, call.result)

    def on_autocast(self, call: Call) -> Observation:
        yield
        context = call.instance
        if context._enabled:
            self.loop.facts.autocast(context.fast_dtype)


def _has_compiled() -> bool:
    """Whether ``torch.compile`` has been at work in this process."""
    compiler = sys.modules.get("torch._dynamo.convert_frame")
    return getattr(compiler, "FRAME_COUNTER", 0) > 0
