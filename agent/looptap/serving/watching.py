"""A model that is watched: it stands in the place of the program's own, answers as that does, and notes each call.

The model itself is not touched. Of what is asked of it by name (``predict``, ``run``, …) the same is noted as of a call. What is
asked of a coroutine or of a stream is noted when that is over.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Sequence
from functools import partial
from types import AsyncGeneratorType, CoroutineType, GeneratorType, MethodType
from typing import TYPE_CHECKING, Any

import wrapt

from looptap.arrays.modules import is_module
from looptap.guard import Guard
from looptap.serving import sessions
from looptap.serving.answers import keep, keep_features, keep_question
from looptap.serving.devices import DEVICES
from looptap.serving.examples import drawn
from looptap.serving.model import Model
from looptap.serving.origins import ORIGINS
from looptap.serving.traffic import CALL, REQUEST, TRAFFIC, ModelCall, kind_of, now
from looptap.session import SESSION

#: By which models are asked, beside being called.
ASKED = frozenset(
    {"predict", "predict_proba", "predict_on_batch", "run", "generate", "forward", "transform", "encode", "serve"}
    # Of a session of ONNX Runtime.
    | {"run_with_iobinding", "run_with_ort_values"}
)
_LATER = (CoroutineType, GeneratorType, AsyncGeneratorType)

_guard = Guard("watch")

if TYPE_CHECKING:
    _Proxy = wrapt.CallableObjectProxy[Any]
else:  # before wrapt 2 it takes no type
    _Proxy = wrapt.CallableObjectProxy


def watched(model: Any, name: str | None, version: str, features: Sequence[str], inputs: float) -> Any:
    """What stands in the place of the model from now on. ``inputs``: the share of its calls that may be kept as examples."""
    title = name or getattr(model, "__name__", None) or type(model).__name__
    described = Model(str(title), None if version == "auto" else str(version), has_modes=_has_modes(model))
    described.features = (features,) if isinstance(features, str) else tuple(features)
    described.inputs = inputs
    with _guard:
        asked = _asked_by(model)
        described.source = ORIGINS.of(asked)
        described.module = asked if is_module(asked) and _has_modes(asked) else None
        described.outputs = sessions.output_names(getattr(model, "__self__", model))
    return Watched(model, described)


def no_model(model: Any) -> str | None:
    """Why this cannot be watched, in one sentence."""
    if isinstance(model, type):
        return f"{model.__name__} is a class and not watched; watch what it makes: looptap.watch({model.__name__}(…))"
    if callable(model) or any(hasattr(model, name) for name in ASKED):
        return None
    return f"{type(model).__name__} is not watched: it is no function, and has no {', '.join(sorted(ASKED)[:3])}, …"


class Watched(_Proxy):
    """Has all that the model has, and is an instance of whatever that is one of. Copied or pickled it is the model itself."""

    def __init__(self, model: Any, described: Model) -> None:
        super().__init__(model)
        self._self_model = described

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        model = self.__wrapped__
        return answer(self._self_model, model, model, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.__wrapped__, name)
        if name not in ASKED or not callable(found):
            return found
        described, model = self._self_model, self.__wrapped__

        def asked(*args: Any, **kwargs: Any) -> Any:
            return answer(described, model, found, args, kwargs)

        return asked

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _itself, (self.__wrapped__,)

    def __copy__(self) -> Any:
        import copy

        return copy.copy(self.__wrapped__)

    def __deepcopy__(self, memo: Any) -> Any:
        import copy

        return copy.deepcopy(self.__wrapped__, memo)


def answer(described: Model, model: Any, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """What the function answers; noted, if it is the outermost call of a model and no training."""
    if not TRAFFIC.is_counted and not SESSION.serving.start():
        return function(*args, **kwargs)
    before = CALL.get()
    if before is not None and not before.ended:
        return function(*args, **kwargs)  # inside a model
    if (described.has_modes and _is_training(model)) or (kwargs and kwargs.get("training") is True):
        return function(*args, **kwargs)
    if SESSION.recorder.unusual and SESSION.recorder.is_suppressed():
        return function(*args, **kwargs)
    request = REQUEST.get()
    # Before it is asked: it may change what it is given.
    kept = drawn(described, function, args, kwargs) if described.inputs else None
    call = ModelCall(described)
    if kept is not None:
        call.kept = kept
    # A request that is over has left a task behind, which is on its own.
    is_alone = request is None or request.ended > 0
    if is_alone:
        TRAFFIC.begin(call)
    else:
        request.calls.append(call)  # type: ignore[union-attr]
    if described.device is not None:
        _begins_on_device(call)
    try:
        CALL.set(call)
        result = function(*args, **kwargs)
    except BaseException as error:
        _ended(call, is_alone, error)
        raise
    if type(result) in _LATER:
        if kept is not None:
            kept.answered(result)  # of a stream it is known that it is one
        CALL.set(before)
        return _later(result, call, is_alone, args, kwargs)
    _answered(call, is_alone, args, kwargs, result)
    return result


# --- private ----------------------------------------------------------------------------------------------------------


def _itself(model: Any) -> Any:
    return model


def _asked_by(model: Any) -> Any:
    """The model itself, or the one that this is a method of, or the one that it has under the name ``model``, as pipelines do."""
    if isinstance(model, MethodType):
        return _asked_by(model.__self__)
    variables = getattr(model, "__dict__", None)
    return variables.get("model", model) if type(variables) is dict and ORIGINS.of(model) is None else model


def _has_modes(model: Any) -> bool:
    """Keras on PyTorch has that attribute, too, and does not use it."""
    is_keras = any(base.__module__.partition(".")[0] in ("keras", "tf_keras") for base in type(model).__mro__)
    return hasattr(model, "training") and not is_keras


def _is_training(model: Any) -> bool:
    """A PyTorch module that trains: one that was left in that mode and answers without gradients does not."""
    if model.training is not True:
        return False
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.is_grad_enabled())


def _ended(call: ModelCall, is_alone: bool, error: BaseException | None) -> None:
    call.ended = now()
    if error is not None:
        call.error = kind_of(error)
        if call.kept is not None:
            call.kept.error = call.error
    if is_alone:
        TRAFFIC.end(call, call.ended)


def _answered(call: ModelCall, is_alone: bool, args: Any, kwargs: Any, result: Any) -> None:
    call.ended = now()  # what follows is ours
    if call.kept is not None:
        call.kept.answered(result)
    if not _guard.closed:
        try:
            if call.mark is not None:
                call.mark.end()
            asked = args[0] if args else kwargs
            if call.model.outputs is not None:
                asked = sessions.question(args, kwargs)
                result = sessions.answer(call.model.outputs, args, kwargs, result)
            call.answer = keep(result)
            call.asked = keep_question(asked)
            if call.model.features:
                call.features = keep_features(asked, call.model.features)
        except Exception as error:
            if _guard.strict:
                raise
            _guard.failed(error)
    if DEVICES.fetching is not None and _is_on_device(call, is_alone):
        return
    if is_alone:
        TRAFFIC.end(call, call.ended)


def _begins_on_device(call: ModelCall) -> None:
    with _guard:
        if TRAFFIC.on_device:
            TRAFFIC.end_on_device()
        if DEVICES.fetching is not None:
            call.mark = DEVICES.fetching.begin(call.model.device)


def _is_on_device(call: ModelCall, is_alone: bool) -> bool:
    """Whether it is the device that ends this call."""
    with _guard:
        sealed = DEVICES.fetching.seal(call.mark) if DEVICES.fetching is not None else None
        if sealed is None:
            call.model.device = None
            return False
        call.waiting, call.model.device = sealed
        if is_alone:
            TRAFFIC.on_device.append(call)
            return True
        request = REQUEST.get()
        if request is not None:
            request.waits = True
    return False


def _later(result: Any, call: ModelCall, is_alone: bool, args: Any, kwargs: Any) -> Any:
    if type(result) is CoroutineType:
        return _coroutine(result, call, is_alone, args, kwargs)
    if type(result) is GeneratorType:
        return _generator(result, call, is_alone)
    return _async_generator(result, call, is_alone)


async def _coroutine(result: Coroutine[Any, Any, Any], call: ModelCall, is_alone: bool, args: Any, kwargs: Any) -> Any:
    try:
        CALL.set(call)
        found = await result
    except BaseException as error:
        _ended(call, is_alone, error)
        raise
    _answered(call, is_alone, args, kwargs, found)
    return found


def _generator(result: Generator[Any, Any, Any], call: ModelCall, is_alone: bool) -> Generator[Any, Any, Any]:
    error: BaseException | None = None
    try:
        return (yield from (_told(result, call) if is_alone else result))
    except BaseException as raised:
        error = raised
        raise
    finally:
        _ended(call, is_alone, error)


def _told(result: Generator[Any, Any, Any], call: ModelCall) -> Generator[Any, Any, Any]:
    step: Callable[[], Any] = partial(next, result)
    while True:
        try:
            item = step()
        except StopIteration as over:
            return over.value
        call.sends()
        try:
            sent = yield item
        except GeneratorExit:
            result.close()
            raise
        except BaseException as error:  # noqa: BLE001 - thrown in by the program, for the model's own generator
            step = partial(result.throw, error)
        else:
            step = partial(result.send, sent)


async def _async_generator(
    result: AsyncGenerator[Any, Any], call: ModelCall, is_alone: bool
) -> AsyncGenerator[Any, Any]:
    error: BaseException | None = None
    step: Callable[[], Awaitable[Any]] = result.__anext__
    try:
        while True:
            try:
                item = await step()
            except StopAsyncIteration:
                return
            if is_alone:
                call.sends()
            try:
                sent = yield item
            except GeneratorExit:
                await result.aclose()
                raise
            except BaseException as thrown:  # noqa: BLE001 - thrown in by the program, for the model's own generator
                step = partial(result.athrow, thrown)
            else:
                step = partial(result.asend, sent)
    except BaseException as raised:
        error = raised
        raise
    finally:
        _ended(call, is_alone, error)
