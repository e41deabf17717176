"""What the program calls a loss: looked up once for each place in it that runs a backward pass.

The name is the variable's: of the tensor itself, found among the caller's locals, globals and, one level deep, attributes and
dicts (``self.loss_G``, ``losses["cls"]``); where the tensor has no variable (``(loss / n).backward()``), that of the only
variable which the expression in the source line rests on; otherwise ``loss``.
"""

from __future__ import annotations

import ast
import linecache
import os
from types import CodeType, FrameType
from typing import Any

import torch

import looptap
from looptap.frames import local_variables, outward, variables_in_reach

DEFAULT = "loss"
_PROGRAM, _TORCH, _OURS, _ON_TOP = range(4)
#: They call backward() for the program, and have a ``loss`` of their own, which says nothing.
_FRAMEWORKS = ("accelerate", "ignite", "keras", "lightning", "lightning_fabric", "pytorch_lightning", "transformers")
_PACKAGES = os.path.dirname(os.path.dirname(torch.__file__))
_FOLDERS = {
    os.path.dirname(torch.__file__) + os.sep: _TORCH,
    os.path.dirname(looptap.__file__) + os.sep: _OURS,
    os.path.dirname(os.path.dirname(__file__)) + os.sep: _OURS,
    **{os.path.join(_PACKAGES, name) + os.sep: _ON_TOP for name in _FRAMEWORKS},
}


class CallSite:
    """One place of the program that runs backward passes. Compared by identity."""

    __slots__ = ("before", "checked", "code", "instruction", "is_trained", "name")

    def __init__(self, code: CodeType, instruction: int) -> None:
        self.code = code
        self.instruction = instruction
        #: None until it was looked up.
        self.name: str | None = None
        #: Whether an optimizer descends this loss; found out when it comes a second time without a step in between.
        self.is_trained = True
        #: The number of optimizers that had come up by then.
        self.checked = -1
        #: What was pending under its name when its last backward pass began.
        self.before: Any = None


class CallSites:
    def __init__(self) -> None:
        self._sides: dict[CodeType, int] = {}
        self._sites: dict[tuple[CodeType, int, int], CallSite] = {}
        #: Those that lie at the usual depth of the stack, where they are found again without walking it, by instruction. Of
        #: two functions with a backward pass at the same instruction the last one is here, and the other takes the long way.
        self.near: dict[int, CallSite] = {}

    def program_frame(self, frame: FrameType | None) -> FrameType | None:
        """The nearest frame that is neither PyTorch's, nor a framework's on top of it, nor ours, from ours outwards.

        None inside of another backward pass (reentrant checkpointing runs such): it has no loss of its own.
        """
        sides = self._sides
        in_torch = False
        while frame is not None:
            code = frame.f_code
            side = sides.get(code)
            if side is None:
                side = sides[code] = _side(code.co_filename)
            if side == _PROGRAM:
                return frame
            if side == _TORCH:
                in_torch = True
            elif side == _ON_TOP:
                in_torch = False  # it was called by a framework, not by a backward pass
            elif in_torch:
                return None
            frame = frame.f_back
        return None

    def program_frames(self, frame: FrameType | None, limit: int = 20) -> list[FrameType]:
        """The program's own frames, from the nearest outwards."""
        sides = self._sides
        found: list[FrameType] = []
        for outer in outward(frame):
            side = sides.get(outer.f_code)
            if side is None:
                side = sides[outer.f_code] = _side(outer.f_code.co_filename)
            if side == _PROGRAM and len(found) < limit:
                found.append(outer)
        return found

    def at(self, frame: FrameType, index: int = 0) -> CallSite:
        """The call site that this frame stands at; ``index`` tells several losses of one call apart."""
        key = (frame.f_code, frame.f_lasti, index)
        site = self._sites.get(key)
        if site is None:
            site = self._sites[key] = CallSite(frame.f_code, frame.f_lasti)
        return site

    def codes(self) -> set[CodeType]:
        """Functions of the program that run backward passes."""
        return {site.code for site in self._sites.values()}

    def forget_near(self, site: CallSite) -> None:
        """Where this one is met again, it has to be looked at closely."""
        if self.near.get(site.instruction) is site:
            del self.near[site.instruction]


def loss_name(frame: FrameType, tensors: tuple[Any, ...]) -> str:
    """The program's name for the first of these tensors that has one. None among them are passed over."""
    reach = list(variables_in_reach(frame))
    for tensor in tensors:
        if tensor is None:
            continue
        for name, value in reach:
            if value is tensor and not name.startswith("_") and name != "self":
                return name
    return _name_in_source(frame) or DEFAULT


def _side(filename: str) -> int:
    for folder, side in _FOLDERS.items():
        if filename.startswith(folder):
            return side
    return _PROGRAM


def _name_in_source(frame: FrameType) -> str | None:
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno, frame.f_globals)
    try:
        tree = ast.parse(line.strip())
    except (SyntaxError, ValueError):
        return None
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("backward", "manual_backward")
    ]
    if len(calls) != 1:
        return None
    call = calls[0]
    # loss.backward(), or accelerator.backward(loss)
    for node in (call.func.value, *call.args[:1]):  # type: ignore[attr-defined]
        names = _Names(frame)
        if names.visit(node) and len(names.found) == 1:
            return names.found.pop()
    return None


class _Names:
    """Gathers the names of tensors in a simple expression."""

    def __init__(self, frame: FrameType) -> None:
        self.found: set[str] = set()
        self._variables = {**frame.f_globals, **local_variables(frame)}

    def visit(self, node: ast.expr) -> bool:
        """False when the expression is not simple enough to be sure."""
        if isinstance(node, ast.Constant):
            return True
        if isinstance(node, ast.Name):
            value = self._variables.get(node.id)
            if value is not None and issubclass(type(value), torch.Tensor) and value.requires_grad:
                self.found.add(node.id)
            return True
        if isinstance(node, ast.Attribute):  # self.loss, args.steps: only the first can be told to be a tensor
            if "loss" in node.attr.lower() or "err" in node.attr.lower():
                self.found.add(node.attr)
            return isinstance(node.value, ast.Name)
        if isinstance(node, ast.Subscript):
            if isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
                self.found.add(node.slice.value)
                return True
            return False
        if isinstance(node, ast.UnaryOp):
            return self.visit(node.operand)
        if isinstance(node, ast.BinOp):
            return self.visit(node.left) and self.visit(node.right)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr == "scale" and len(node.args) == 1:
                return self.visit(node.args[0])
            if node.func.attr in ("mean", "sum", "squeeze", "to", "float", "double") and not node.keywords:
                return self.visit(node.func.value)
        return False
