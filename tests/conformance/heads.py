"""Every head there is, by discovery: each class with its defaults, with each option turned, and inside each wrapper."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin, get_type_hints

from lit_rlhf import losses
from lit_rlhf.errors import InputError
from lit_rlhf.losses.base import LossHead, Sum
from lit_rlhf.losses.regularisers import NLL

FAMILIES = ("BDA", "RA", "RDA", "PRA", "regulariser")


def concrete(base: type) -> list[type]:
    """The classes of this package below `base` that can be constructed, in the order of their names."""
    found = {base} | {inner for cls in base.__subclasses__() for inner in concrete(cls)}
    own = [cls for cls in found if cls.__module__.startswith("lit_rlhf.") and not inspect.isabstract(cls)]
    return sorted(own, key=lambda cls: (cls.__module__, cls.__name__))


def head_classes() -> list[type[LossHead]]:
    """Every concrete head of `lit_rlhf.losses`."""
    for module in pkgutil.walk_packages(losses.__path__, f"{losses.__name__}."):
        importlib.import_module(module.name)
    return concrete(LossHead)


def is_wrapper(cls: type) -> bool:
    """Whether it is made of other heads."""
    return any(field.default is dataclasses.MISSING for field in dataclasses.fields(cls))


def variants(cls: type[LossHead]) -> Iterator[tuple[str, LossHead]]:
    """Name and head: the defaults, and every other value of each option alone."""
    yield cls.__name__, cls()
    hints = get_type_hints(cls)
    for field in dataclasses.fields(cls):
        inner = get_args(hints[field.name])
        if field.default is None and float in inner:
            yield _number(cls, field.name)
        for value in _others(hints[field.name], field.default):
            shown = value if isinstance(value, str | int | float) else type(value).__name__
            yield f"{cls.__name__}-{field.name}={shown}", cls(**{field.name: value})


def _number(cls: type[LossHead], name: str) -> tuple[str, LossHead]:
    """With an optional number: 1/2, or 3 where it must be greater than 1."""
    try:
        return f"{cls.__name__}-{name}=0.5", cls(**{name: 0.5})
    except InputError:
        return f"{cls.__name__}-{name}=3.0", cls(**{name: 3.0})


def _others(hint: Any, default: Any) -> list[Any]:
    if get_origin(hint) is Literal:
        return [value for value in get_args(hint) if value != default]
    if hint is bool:
        return [not default]
    if hint is float:
        return [0.25] if default == 0 else []
    inner = [kind for kind in get_args(hint) if kind is not type(None)]
    return [made() for kind in inner if isinstance(kind, type) and default is None for made in concrete(kind)]


def representatives(plain: list[type[LossHead]]) -> list[LossHead]:
    """One head of every family and unit, to be wrapped."""
    found: dict[tuple[str, str], LossHead] = {}
    for head in (cls() for cls in plain):
        found.setdefault((head.family, head.unit), head)
    return list(found.values())


def wrapped(cls: type[LossHead], inner: LossHead) -> LossHead | None:
    """The wrapper around a head, None where it refuses that head."""
    try:
        return Sum((inner, NLL())) if issubclass(cls, Sum) else cls(inner)
    except InputError:
        return None


def every_head() -> dict[str, LossHead]:
    """Name -> head."""
    classes = head_classes()
    plain = [cls for cls in classes if not is_wrapper(cls)]
    found = {name: head for cls in plain for name, head in variants(cls)}
    for cls in (cls for cls in classes if is_wrapper(cls)):
        made = {type(inner).__name__: wrapped(cls, inner) for inner in representatives(plain)}
        found |= {f"{cls.__name__}({name})": head for name, head in made.items() if head is not None}
    return found
