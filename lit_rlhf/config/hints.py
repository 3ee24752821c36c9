"""Types as words."""

from __future__ import annotations

import collections.abc
import types
import typing
from collections.abc import Mapping
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
    if origin is collections.abc.Callable:
        made = arguments[-1] if arguments else None
        return f"what makes {described(made)}" if isinstance(made, type) else "a function"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "a mapping"
    if isinstance(origin, type):
        return f"a list ({described(arguments[0])} each)" if arguments else "a list"
    return a(hint.__name__) if isinstance(hint, type) else str(hint).replace("typing.", "")


def a(noun: str) -> str:
    """With its article."""
    return f"an {noun}" if noun[:1] in "AEIOU" else f"a {noun}"


def found(value: Any) -> str:
    """A value as it stands in YAML, shortened."""
    if isinstance(value, dict):
        return "a mapping" if not value else f"a mapping with {', '.join(map(str, list(value)[:3]))}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = {str: "the text ", list: "the list "}.get(type(value), "") + repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
