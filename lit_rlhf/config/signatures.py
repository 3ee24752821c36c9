"""What a class or a function takes: its signature and, through `super().__init__(**kwargs)`, its parents'."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import textwrap
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True)
class Argument:
    """One argument of a class or function."""

    hint: Any
    """Its type; Any where it cannot be read."""
    default: Any
    """`inspect.Parameter.empty` where it is required."""

    @property
    def required(self) -> bool:
        return self.default is inspect.Parameter.empty


@dataclass(frozen=True)
class Signature:
    """Arguments by name. An open one takes others, which only the class itself knows."""

    arguments: Mapping[str, Argument]
    open: bool = False

    def without(self, count: int) -> Signature:
        """Without the first arguments, which whoever calls a factory gives."""
        return Signature(dict(list(self.arguments.items())[count:]), self.open)


@functools.cache
def signature_of(target: Callable[..., Any]) -> Signature:
    """The signature of a class's constructor or of a function."""
    try:
        return _of_class(target) if isinstance(target, type) else _own(target, target, False)[0]
    except (ValueError, TypeError):  # written in C, without a signature
        return Signature({}, open=True)


def _of_class(target: type) -> Signature:
    arguments: dict[str, Argument] = {}
    given: set[str] = set()
    owners = [owner for owner in target.__mro__[:-1] if "__init__" in vars(owner)]
    if not owners:
        return Signature({}, open=target.__new__ is not object.__new__)
    for owner in owners:
        own, takes_others = _own(owner.__init__, owner, True)
        inherited = {name: argument for name, argument in own.arguments.items() if name not in given}
        arguments |= {name: argument for name, argument in inherited.items() if name not in arguments}
        if not takes_others:
            return Signature(arguments)
        passed = _passed_on(owner.__init__)
        if passed is None:
            return Signature(arguments, open=True)
        positions, names = passed
        following = next(iter(owners[owners.index(owner) + 1:]), None)
        if following is not None and positions:
            names |= set(list(_own(following.__init__, following, True)[0].arguments)[:positions])
        given |= names
    return Signature(arguments, open=False)


def _own(function: Callable[..., Any], owner: Any, bound: bool) -> tuple[Signature, bool]:
    """The named arguments of one function, and whether it takes others by name."""
    parameters = list(inspect.signature(function).parameters.values())[int(bound):]
    hints = _hints(function, owner)
    named = [one for one in parameters if one.kind in (*_POSITIONAL, inspect.Parameter.KEYWORD_ONLY)]
    arguments = {one.name: Argument(hints.get(one.name, Any), one.default) for one in named}
    others = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters)
    return Signature(arguments, open=others), others


def _hints(function: Callable[..., Any], owner: Any) -> dict[str, Any]:
    """Types by name; those that cannot be evaluated here are left out."""
    source = owner if dataclasses.is_dataclass(owner) and "__init__" in vars(owner) else inspect.unwrap(function)
    try:
        return typing.get_type_hints(source)
    except Exception:  # evaluating the annotations of others can raise anything; each is tried alone then
        scope = getattr(inspect.unwrap(function), "__globals__", {})
        return _each(getattr(source, "__annotations__", {}), scope)


def _each(annotations: Mapping[str, Any], scope: dict[str, Any]) -> dict[str, Any]:
    hints = {}
    for name, annotation in annotations.items():
        try:
            hints[name] = eval(annotation, scope) if isinstance(annotation, str) else annotation
        except Exception:  # a type that is not known is not judged: jsonargparse has the last word
            continue
    return hints


def _passed_on(init: Callable[..., Any]) -> tuple[int, set[str]] | None:
    """How many positions and which names a constructor gives its parent besides `**kwargs`.

    None where it does anything else with them.
    """
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(init)))).body[0]
    except (OSError, TypeError, SyntaxError):
        return None
    others = tree.args.kwarg.arg if isinstance(tree, ast.FunctionDef) and tree.args.kwarg else None
    uses = sum(isinstance(node, ast.Name) and node.id == others for node in ast.walk(tree))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and _forwards(node, others)]
    if others is None or uses != 1 or len(calls) != 1 or any(isinstance(one, ast.Starred) for one in calls[0].args):
        return None
    return len(calls[0].args), {word.arg for word in calls[0].keywords if word.arg is not None}


def _forwards(call: ast.Call, others: str | None) -> bool:
    """Whether a call is `super().__init__(..., **others)`."""
    function = call.func
    passed = [word.value for word in call.keywords if word.arg is None]
    if not any(isinstance(value, ast.Name) and value.id == others for value in passed):
        return False
    parent = function.value if isinstance(function, ast.Attribute) and function.attr == "__init__" else None
    return isinstance(parent, ast.Call) and isinstance(parent.func, ast.Name) and parent.func.id == "super"
