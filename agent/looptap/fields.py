"""What an object of the program keeps in its fields, read without a call of its code: no property, computed field or
``__getattr__`` is asked."""

from __future__ import annotations

import types
from typing import Any

#: Stands for a field that was never set.
ABSENT = object()


def is_declared(kind: type) -> bool:
    """A dataclass or a class of attrs: the class says which fields there are."""
    return any("__dataclass_fields__" in vars(base) or "__attrs_attrs__" in vars(base) for base in kind.__mro__)


def is_pydantic(kind: type) -> bool:
    return any(base.__module__.startswith("pydantic.") and base.__name__ == "BaseModel" for base in kind.__mro__[1:])


def declared_fields(value: Any) -> dict[str, Any]:
    """Of an object whose class is :func:`declared <is_declared>`, in that order."""
    known = attributes(type(value))
    if "__dataclass_fields__" in known:
        names = list(known["__dataclass_fields__"])
    else:
        names = [field.name for field in known["__attrs_attrs__"]]
    held = held_by(value)
    return {name: held[name] if name in held else _in_slot(value, known.get(name)) for name in names}


def held_by(value: Any) -> dict[str, Any]:
    """The variables of an object; empty where it has none, or keeps them elsewhere."""
    descriptor: Any = next((vars(base)["__dict__"] for base in type(value).__mro__ if "__dict__" in vars(base)), None)
    # Of a SimpleNamespace it is a member; anything else may be a proxy's own code.
    if type(descriptor) not in (types.GetSetDescriptorType, types.MemberDescriptorType):
        return {}
    held = descriptor.__get__(value)
    return held if type(held) is dict else {}


def attributes(kind: type) -> dict[str, Any]:
    """Of a class and those that it inherits from."""
    return {name: value for base in reversed(kind.__mro__) for name, value in vars(base).items()}


def _in_slot(value: Any, member: Any) -> Any:
    if type(member) is not types.MemberDescriptorType:
        return ABSENT
    try:
        return member.__get__(value)
    except AttributeError:  # never set
        return ABSENT
