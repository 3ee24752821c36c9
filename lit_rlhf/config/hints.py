"""Types as words."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

UNIONS = (typing.Union, types.UnionType)


def members(hint: Any) -> tuple[Any, ...]:
    """The types of a union, nested ones too; the type itself where it is none."""
    if typing.get_origin(hint) in UNIONS:
        return tuple(dict.fromkeys(inner for one in typing.get_args(hint) for inner in members(one)))
    return (hint,)


def plain(hint: Any) -> Any:
    """Without `Annotated` and `NewType`."""
    if typing.get_origin(hint) is typing.Annotated:
        return plain(typing.get_args(hint)[0])
    return plain(hint.__supertype__) if isinstance(hint, typing.NewType) else hint


def described(hint: Any) -> str:
    """"int", "one of a, b", "a list of str", "a LossHead"."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is type(None):
        return "null"
    if origin in UNIONS:
        return " or ".join(dict.fromkeys(described(one) for one in members(hint)))
    if origin is typing.Literal:
        return "one of " + ", ".join(map(str, arguments))
    if hint in (int, float, bool, str):
        return {int: "a whole number", float: "a number", bool: "true or false", str: "text"}[hint]
    if origin is Callable or origin is typing.get_origin(Callable[..., Any]):
        returned = described(arguments[-1]) if arguments else "anything"
        return f"what makes {returned}" if isinstance(arguments[-1:] and arguments[-1], type) else "a function"
    if isinstance(origin, type) and issubclass(origin, Mapping | dict):
        return "a mapping"
    if isinstance(origin, type):
        return f"a list of {described(arguments[0])}" if arguments else "a list"
    return f"a {hint.__name__}" if isinstance(hint, type) else str(hint).replace("typing.", "")


def found(value: Any) -> str:
    """A value as it stands in YAML, shortened."""
    if isinstance(value, dict):
        return "a mapping" if not value else f"a mapping with {', '.join(map(str, list(value)[:3]))}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = f"the text {value!r}" if isinstance(value, str) else f"the list {value!r}" if isinstance(value, list) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
