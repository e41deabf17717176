"""Simple constants of the program's main script: names that are assigned once, to a literal."""

from __future__ import annotations

import ast
import linecache
import operator
import sys
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any

from looptap.frames import is_main_script, local_variables

_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_SIGNS: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Not: operator.not_,
}
_TEXT_LIMIT = 500
_EXPONENT_LIMIT = 64
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def script_constants(frames: Iterable[FrameType]) -> dict[str, Any]:
    """Constants of the main script, and of those of its functions that are among the running ``frames`` (nearest first).

    A constant is a name without leading underscore that its scope assigns exactly once, to a literal (numbers, text, bools,
    None, tuples, lists and dicts of these, arithmetic on numbers), and that still has this value. Where a function and the
    module use the same name, the function's counts. Empty where there is no source: in an interactive session.
    """
    main = sys.modules.get("__main__")
    path = getattr(main, "__file__", None)
    if main is None or not isinstance(path, str):
        return {}
    try:
        tree = ast.parse("".join(linecache.getlines(path, vars(main))))
    except (SyntaxError, ValueError, RecursionError):
        return {}
    found = _unchanged(_literals(tree.body, _global_names(tree)), vars(main))
    functions = {
        (node.name, node.lineno): node
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    for frame in reversed([frame for frame in frames if is_main_script(frame.f_code)]):
        code = frame.f_code
        node = functions.get((code.co_name, code.co_firstlineno)) or _decorated(
            functions, code.co_name, code.co_firstlineno
        )
        if node is not None:
            arguments = {argument.arg for argument in ast.walk(node.args) if isinstance(argument, ast.arg)}
            found.update(_unchanged(_literals(node.body, arguments), local_variables(frame)))
    return found


def _decorated(functions: dict[tuple[str, int], Any], name: str, line: int) -> Any:
    """The function whose first decorator stands in this line: that is where its code begins."""
    for (known, _), node in functions.items():
        if known == name and node.decorator_list and node.decorator_list[0].lineno == line:
            return node
    return None


def _literals(body: list[ast.stmt], taken: set[str]) -> dict[str, Any]:
    """Names that this scope binds once, to a literal. Names in ``taken`` are bound elsewhere too."""
    bindings: dict[str, int] = dict.fromkeys(taken, 1)
    values: dict[str, Any] = {}
    for node in _scope(body):
        for name in _bound(node):
            bindings[name] = bindings.get(name, 0) + 1
        if isinstance(node, ast.Assign):
            for target in node.targets:
                values.update(_assigned(target, node.value))
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            values.update(_assigned(node.target, node.value))
    return {name: value for name, value in values.items() if bindings.get(name) == 1 and not name.startswith("_")}


def _scope(body: list[ast.stmt]) -> Iterator[ast.AST]:
    """Every node of a scope, without what is inside of functions and classes defined there."""
    waiting: list[ast.AST] = list(body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
            waiting.extend(ast.iter_child_nodes(node))


def _bound(node: ast.AST) -> Iterator[str]:
    """Names that this node alone binds or deletes."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, (ast.Store, ast.Del)):
        yield node.id
    elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield node.name
    elif isinstance(node, ast.alias):
        yield (node.asname or node.name).split(".")[0]
    elif isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)) and node.name:
        yield node.name
    elif isinstance(node, ast.MatchMapping) and node.rest:
        yield node.rest
    elif isinstance(node, (ast.Global, ast.Nonlocal)):
        yield from node.names


def _global_names(tree: ast.Module) -> set[str]:
    """Names that some function of the script may assign in the module."""
    return {name for node in ast.walk(tree) if isinstance(node, ast.Global) for name in node.names}


def _assigned(target: ast.expr, value: ast.expr) -> dict[str, Any]:
    if isinstance(target, (ast.Tuple, ast.List)):
        if not isinstance(value, (ast.Tuple, ast.List)) or len(target.elts) != len(value.elts):
            return {}
        return {
            name: item
            for one, other in zip(target.elts, value.elts, strict=True)
            for name, item in _assigned(one, other).items()
        }
    if not isinstance(target, ast.Name):
        return {}
    try:
        return {target.id: _literal(value)}
    except (ValueError, TypeError, ArithmeticError):
        return {}


def _literal(node: ast.expr) -> Any:
    """The value of a literal expression. Raises ValueError when it is none."""
    if isinstance(node, ast.Constant):
        if isinstance(node.value, (bool, int, float, type(None))):
            return node.value
        if isinstance(node.value, str) and len(node.value) <= _TEXT_LIMIT:
            return node.value
    elif isinstance(node, ast.Tuple):
        return tuple(_literal(item) for item in node.elts)
    elif isinstance(node, ast.List):
        return [_literal(item) for item in node.elts]
    elif isinstance(node, ast.Dict):
        if all(isinstance(key, ast.Constant) and isinstance(key.value, str) for key in node.keys):
            return {key.value: _literal(item) for key, item in zip(node.keys, node.values, strict=True)}  # type: ignore[union-attr]
    elif isinstance(node, ast.UnaryOp) and type(node.op) in _SIGNS:
        return _SIGNS[type(node.op)](_number(node.operand))
    elif isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        left, right = _number(node.left), _number(node.right)
        if isinstance(node.op, ast.Pow) and abs(right) > _EXPONENT_LIMIT:
            raise ValueError("too large to compute")
        return _OPERATORS[type(node.op)](left, right)
    raise ValueError("not a literal")


def _number(node: ast.expr) -> Any:
    value = _literal(node)
    if not isinstance(value, (bool, int, float)):
        raise ValueError("not a number")
    return value


def _unchanged(literals: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
    """Those that the program has reached and left alone: a branch not taken assigns nothing."""
    return {
        name: value
        for name, value in literals.items()
        if name in variables
        and type(variables[name]) is type(value)
        and variables[name] == value
        and not _is_to_be_filled(value)
    }


def _is_to_be_filled(value: Any) -> bool:
    """An empty list is no setting, and no more is a dict of empty lists."""
    if not isinstance(value, (list, dict, tuple)):
        return False
    return all(_is_to_be_filled(item) for item in (value.values() if isinstance(value, dict) else value))
