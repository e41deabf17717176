"""The loss functions of PyTorch, watched where gradients are off. The loss modules (``nn.CrossEntropyLoss``) call these."""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
import torch.nn.functional
from torch import is_grad_enabled
from torch.compiler import is_compiling

from looptap.patching import Patcher

_NAMES = (
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cosine_embedding_loss",
    "cross_entropy",
    "ctc_loss",
    "gaussian_nll_loss",
    "hinge_embedding_loss",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "linear_cross_entropy",
    "margin_ranking_loss",
    "mse_loss",
    "multi_margin_loss",
    "multilabel_margin_loss",
    "multilabel_soft_margin_loss",
    "nll_loss",
    "poisson_nll_loss",
    "smooth_l1_loss",
    "soft_margin_loss",
    "triplet_margin_loss",
    "triplet_margin_with_distance_loss",
)
#: Those whose first argument has classes, and no batch when it has one dimension only.
_OF_CLASSES = {"cross_entropy", "linear_cross_entropy", "nll_loss", "multi_margin_loss", "multilabel_margin_loss"}


class Seen(NamedTuple):
    """A loss, as its function was called: the mean over so many ``samples``, or their sum. ``is_trained``: what it was computed
    from has a graph."""

    function: str
    samples: int
    is_sum: bool
    is_trained: bool
    predicted: torch.Tensor
    #: What was to be predicted; None where the function has no such argument.
    labels: Any


class Takes(Protocol):
    def wants(self) -> bool:
        """Whether the next loss is asked for at all."""

    def loss(self, frame: FrameType, seen: Seen, result: Any) -> None:
        """A loss that was computed."""


def is_left_alone() -> bool:
    """In training, where the backward pass tells of a loss, and under a compiler, which sees no more of us than this."""
    return is_grad_enabled() or is_compiling()


def watch_losses(patch: Patcher, takes: Takes) -> None:
    """Tell ``takes`` of each loss that is computed with gradients off."""
    for name in _NAMES:
        original = getattr(torch.nn.functional, name, None)
        if original is None:  # linear_cross_entropy came later than the others
            continue
        watched = _Watched(name, original, takes)
        patch.tap(torch.nn.functional, name, watched.before, watched.after, watched.failed, unless=is_left_alone)
        wrapper = getattr(torch.nn.functional, name)
        if wrapper is not original:
            # torch.jit.script asks for it, and compiles the source of what it gets with that function's globals.
            wrapper.__prepare_scriptable__ = lambda original=original: original


class _Watched:
    """One of these functions. A call inside of another one (they hand tensor subclasses round) is not told."""

    #: Threads that are inside of one of them.
    _inside: ClassVar[set[int]] = set()

    def __init__(self, name: str, original: Callable[..., Any], takes: Takes) -> None:
        self._name = name
        self._takes = takes
        self._places = {parameter: place for place, parameter in enumerate(inspect.signature(original).parameters)}

    def before(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Seen | None:
        if threading.get_ident() in self._inside or not self._takes.wants() or _is_traced():
            return None
        reduction = self._argument("reduction", args, kwargs)
        if (
            self._argument("size_average", args, kwargs) is not None
            or self._argument("reduce", args, kwargs) is not None
        ):
            reduction = _legacy_reduction(
                self._argument("size_average", args, kwargs), self._argument("reduce", args, kwargs)
            )
        if reduction not in (None, "mean", "sum", "batchmean"):
            return None
        first = args[0] if args else next(iter(kwargs.values()), None)
        if not isinstance(first, torch.Tensor):
            return None
        is_trained = first.requires_grad or (len(args) > 1 and getattr(args[1], "requires_grad", False) is True)
        self._inside.add(threading.get_ident())
        labels = self._argument("target", args, kwargs)
        return Seen(self._name, self._samples(first), reduction == "sum", is_trained, first, labels)

    def after(self, token: Seen, result: Any) -> None:
        self._inside.discard(threading.get_ident())
        self._takes.loss(sys._getframe(1), token, result)

    def failed(self, token: object) -> None:
        self._inside.discard(threading.get_ident())

    def _argument(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if name in kwargs:
            return kwargs[name]
        place = self._places.get(name)
        return args[place] if place is not None and place < len(args) else None

    def _samples(self, first: torch.Tensor) -> int:
        """Of the batch: the first dimension (ctc_loss has the time there), and 1 for a single sample."""
        shape = first.shape
        if self._name == "ctc_loss":
            return int(shape[1]) if len(shape) == 3 else 1
        if not shape or (self._name in _OF_CLASSES and len(shape) == 1):
            return 1
        return int(shape[0])


def _is_traced() -> bool:
    """Whether what happens now is written down as a program (torch.jit.trace, make_fx): reading a number would be in it."""
    return torch._C._len_torch_dispatch_stack() > 0 or torch._C._get_tracing_state() is not None


def _legacy_reduction(size_average: Any, reduce: Any) -> str:
    """The two arguments that ``reduction`` has replaced; each of them is True when it is not given."""
    if reduce is False:
        return "none"
    return "sum" if size_average is False else "mean"
