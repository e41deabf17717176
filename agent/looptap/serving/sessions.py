"""What a session of ONNX Runtime is asked and answers: ``run(output_names, {input_name: array})`` gives a list of arrays, one for
each output, where any other model that answers with a list gives a row in each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from looptap.serving.answers import Skipped


def output_names(model: Any) -> tuple[str, ...] | None:
    """Of a session; None of any other model."""
    if not any(base.__name__ == "Session" and _is_of_onnx_runtime(base) for base in type(model).__mro__):
        return None
    return tuple(str(output.name) for output in model.get_outputs())


def question(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Arrays by name; None of a call that has them in buffers of its own (``run_with_iobinding``)."""
    return args[1] if len(args) > 1 else kwargs.get("input_feed")


def answer(names: tuple[str, ...], args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> Any:
    """The only output as it is, several by their names: those that were asked for, or all ``names``."""
    if type(result) is not list:
        return Skipped("in buffers of its own")
    if len(result) == 1:
        return result[0]
    wanted = args[0] if args else kwargs.get("output_names")
    return dict(zip(wanted if type(wanted) in (list, tuple) and wanted else names, result, strict=False))


# --- private ----------------------------------------------------------------------------------------------------------


def _is_of_onnx_runtime(kind: type) -> bool:
    return kind.__module__.partition(".")[0] == "onnxruntime"
