"""Places of the program that ask a tape for gradients, and what the program calls the losses there."""

from __future__ import annotations

import ast
import linecache
import os
from types import CodeType, FrameType
from typing import Any, NamedTuple

import tensorflow as tf

from looptap.frames import local_variables, package_of, variables_in_reach

DEFAULT = "loss"
_PROGRAM, _FRAMEWORK, _TENSORFLOW, _BETWEEN = range(4)
#: AutoGraph calls the functions of TensorFlow for the program that it has rewritten.
_AUTOGRAPH = os.path.join("tensorflow", "python", "autograph") + os.sep
#: How far outwards a trace is looked at: between the program and a function of it that is being traced lie dozens of frames.
_DEPTH_LIMIT = 400
_PER_SAMPLE = os.path.join("tensorflow", "python", "ops", "parallel_for")
#: Traces the functions of data pipelines; and loops over data sets, which AutoGraph has made such functions of.
_OF_DATA = os.path.join("tensorflow", "python", "data", "ops", "structured_function.py")
_LOOP_OVER_DATA = os.path.join("tensorflow", "python", "data", "ops", "dataset_autograph.py")


class Site:
    """One place of the program where a loss is differentiated. Compared by identity."""

    __slots__ = ("checked", "is_trained", "known", "name", "sources")

    def __init__(self, name: str) -> None:
        self.name = name
        #: Whether an optimizer descends this loss; found out when it comes a second time without a step in between.
        self.is_trained = True
        #: The number of optimizers that had come up by then.
        self.checked = -1
        #: Ids of what it was differentiated by, and the number of optimizers that had come up when that was looked at.
        self.sources: frozenset[int] = frozenset()
        self.known = -1


class Caller(NamedTuple):
    frame: FrameType
    #: Keras calls for the program, and has names of its own.
    is_framework: bool


class Sites:
    def __init__(self) -> None:
        self._sides: dict[CodeType, int] = {}
        self._sites: dict[tuple[CodeType, int, int], Site] = {}

    def caller(self, frame: FrameType | None) -> Caller | None:
        """Who in the program has called, from a frame of ours outwards. None where TensorFlow has, for purposes of its own."""
        is_framework = False
        while frame is not None:
            side = self._side(frame)
            if side == _PROGRAM:
                return Caller(frame, is_framework)
            if side == _TENSORFLOW and not is_framework:
                return None
            is_framework |= side == _FRAMEWORK
            frame = frame.f_back
        return None

    def program_frames(self, frame: FrameType | None, limit: int = 20) -> list[FrameType]:
        """The program's own frames, from the nearest outwards."""
        found: list[FrameType] = []
        for _ in range(_DEPTH_LIMIT):
            if frame is None or len(found) == limit:
                break
            if self._side(frame) == _PROGRAM:
                found.append(frame)
            frame = frame.f_back
        return found

    def at(self, caller: Caller, index: int, tensors: tuple[Any, ...]) -> Site:
        """The site of this loss; ``index`` tells several losses of one call apart. The first of these tensors that has a name in
        the program gives it, the first time that the program comes by."""
        frame = caller.frame
        key = (frame.f_code, frame.f_lasti, index)
        site = self._sites.get(key)
        if site is None:
            name = DEFAULT if caller.is_framework else _loss_name(frame, tensors)
            site = self._sites[key] = Site(name)
        return site

    def _side(self, frame: FrameType) -> int:
        code = frame.f_code
        side = self._sides.get(code)
        if side is None:
            side = self._sides[code] = _side_of(frame)
        return side


def is_no_step(frame: FrameType | None) -> bool:
    """Whether what is being traced here runs for each sample of a batch (``tf.vectorized_map``), or where data are read."""
    is_loop = False
    for _ in range(_DEPTH_LIMIT):
        if frame is None:
            break
        filename = frame.f_code.co_filename
        if _PER_SAMPLE in filename:
            return True
        if filename.endswith(_LOOP_OVER_DATA):
            is_loop = True
        elif filename.endswith(_OF_DATA) and frame.f_code.co_name == "wrapped_fn":
            if not is_loop:
                return True
            is_loop = False
        frame = frame.f_back
    return False


def _side_of(frame: FrameType) -> int:
    package = package_of(frame)
    if package in ("looptap", "looptap_integrations") or _AUTOGRAPH in frame.f_code.co_filename:
        return _BETWEEN
    if package == "tensorflow":
        return _TENSORFLOW
    return _FRAMEWORK if package in ("keras", "tf_keras") else _PROGRAM


def _loss_name(frame: FrameType, tensors: tuple[Any, ...]) -> str:
    reach = list(variables_in_reach(frame))
    for tensor in tensors:
        for name, value in reach:
            # AutoGraph has variables of its own: retval_, do_return, …
            if value is tensor and name != "self" and not (name.startswith("_") or name.endswith("_")):
                return name
    return _name_in_source(frame) or DEFAULT


def _name_in_source(frame: FrameType) -> str | None:
    """``loss`` in ``tape.gradient(loss / n, weights)``: the one tensor that the first argument rests on."""
    lines = linecache.getlines(frame.f_code.co_filename, frame.f_globals)
    statement = _statement(lines, frame.f_lineno)
    if statement is None:
        return None
    targets = [target for node in ast.walk(statement) if (target := _target(node)) is not None]
    if len(targets) != 1:
        return None
    variables = {**frame.f_globals, **local_variables(frame)}
    names = {
        node.id
        for node in ast.walk(targets[0])
        if isinstance(node, ast.Name) and issubclass(type(variables.get(node.id)), tf.Tensor)
    }
    return names.pop() if len(names) == 1 else None


def _statement(lines: list[str], number: int) -> ast.stmt | None:
    """The one that begins in this line; it may go on over some more."""
    for end in range(number, min(number + 8, len(lines) + 1)):
        try:
            tree = ast.parse("".join(lines[number - 1 : end]).strip())
        except (SyntaxError, ValueError):
            continue
        return tree.body[0] if tree.body else None
    return None


def _target(node: ast.AST) -> ast.expr | None:
    """The first argument of a call of ``gradient``: as it is written, or as AutoGraph writes it,
    ``ag__.converted_call(ag__.ld(tape).gradient, (ag__.ld(loss) / 2, …), None, fscope)``."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return None
    arguments = node.args
    if node.func.attr == "gradient":
        return arguments[0] if arguments else None
    if node.func.attr == "converted_call" and len(arguments) > 1:
        function, given = arguments[:2]
        if isinstance(function, ast.Attribute) and function.attr == "gradient" and isinstance(given, ast.Tuple):
            return given.elts[0] if given.elts else None
    return None
