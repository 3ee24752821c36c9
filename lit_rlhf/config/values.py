"""A value against a type, as jsonargparse judges it, but all that is wrong at once and with the keys it is wrong at.

What cannot be decided is passed: jsonargparse, which builds the parts, has the last word.
"""

from __future__ import annotations

import collections.abc
import inspect
import os
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lit_rlhf.config.classes import NoSuchClass, expected, offered, resolve
from lit_rlhf.config.hints import a, described, members, plain
from lit_rlhf.config.names import nearest
from lit_rlhf.config.scalars import PLAIN, expectation, is_default, is_part, is_plain, loaded
from lit_rlhf.config.signatures import Signature, signature_of

_LISTS = (
    list, tuple, set, frozenset, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection,
    collections.abc.MutableSequence, collections.abc.Set,
)
_MOST = 12


@dataclass(frozen=True)
class Problem:
    """What is wrong at a key."""

    path: str
    sentence: str
    unknown: str | None = None
    """The name that nothing has; `Walk` knows the valid ones of the key above."""


class Walk:
    """Checks values against types and remembers which arguments each key has below it."""

    def __init__(self) -> None:
        self.valid: dict[str, tuple[str, ...]] = {}
        self.given: dict[str, tuple[str, ...]] = {}

    def value(self, value: Any, hint: Any, path: str) -> list[Problem]:
        """What is wrong with a value for a type."""
        hint = plain(hint)
        origin, arguments = typing.get_origin(hint) or hint, typing.get_args(hint)
        if len(members(hint)) > 1:
            return self._union(value, members(hint), path)
        if origin is typing.Literal:
            return self._literal(value, arguments, path)
        if hint in PLAIN:
            return [] if is_plain(value, hint) else [Problem(path, expectation(described(hint), value, hint))]
        if origin is collections.abc.Callable:
            return self._callable(value, arguments, path)
        if origin in _LISTS:
            return self._list(value, origin, arguments, path)
        if isinstance(origin, type) and issubclass(origin, Mapping):
            return self._mapping(value, arguments, path)
        if isinstance(origin, type) and issubclass(origin, os.PathLike):
            return [] if isinstance(value, str) else [Problem(path, expectation("a path", value))]
        return self._class(value, origin, path) if is_part(origin) else []

    def arguments(self, value: Any, signature: Signature, owner: str, path: str) -> list[Problem]:
        """What is wrong with the arguments of a class or function."""
        if not isinstance(value, dict):
            return [Problem(path, expectation(f"the arguments of {owner} as a mapping", value))]
        self.valid[path], self.given[path] = tuple(signature.arguments), tuple(value)
        problems = []
        for name, given in value.items():
            argument = signature.arguments.get(name)
            if argument is not None and not is_default(given, argument.default):
                problems += self.value(given, argument.hint, f"{path}.{name}")
            elif argument is None and not signature.open:
                problems.append(Problem(f"{path}.{name}", f"{owner} has no argument {name}", unknown=name))
        unknown = [one.unknown for one in problems if one.path == f"{path}.{one.unknown}"]
        meant = {near for name in unknown for near in nearest(name, signature.arguments)}
        needed = [name for name, argument in signature.arguments.items() if argument.required]
        missing = [name for name in needed if name not in value and name not in meant]
        return problems + [Problem(path, f"{owner} needs {name}") for name in missing]

    # ---- kinds of types

    def _union(self, value: Any, hints: Sequence[Any], path: str) -> list[Problem]:
        """Nothing where one of the types takes the value; else what the one that it was meant for says."""
        tried = [self.value(value, hint, path) for hint in hints]
        if not all(tried):
            return []
        within = [problems for problems in tried if any(one.path != path for one in problems)]
        if within:
            return min(within, key=len)
        meant = [problems for problems, hint in zip(tried, hints, strict=True) if _meant_for(value, hint)]
        words = " or ".join(dict.fromkeys(map(described, hints)))
        return meant[0] if meant else [Problem(path, expectation(words, value, *hints))]

    def _literal(self, value: Any, choices: Sequence[Any], path: str) -> list[Problem]:
        if any(choice == value or (isinstance(value, str) and str(choice) == value) for choice in choices):
            return []
        names = [str(choice) for choice in choices]
        near = nearest(str(value), names)
        hint = f"; did you mean {near[0]}?" if near else ""
        return [Problem(path, expectation(f"one of {', '.join(names)}", value) + hint)]

    def _list(self, value: Any, origin: type, arguments: Sequence[Any], path: str) -> list[Problem]:
        value = loaded(value)
        if not isinstance(value, list | tuple):
            wanted = described(origin[tuple(arguments)] if arguments else origin)
            return [Problem(path, expectation(wanted, value))]
        fixed = origin is tuple and arguments and Ellipsis not in arguments
        if fixed and len(value) != len(arguments):
            return [Problem(path, f"expected {len(arguments)} values, found {len(value)}")]
        hints = arguments if fixed else [arguments[0] if arguments else Any] * len(value)
        pairs = enumerate(zip(value, hints, strict=True))
        return [one for index, (element, hint) in pairs for one in self.value(element, hint, f"{path}.{index}")]

    def _mapping(self, value: Any, arguments: Sequence[Any], path: str) -> list[Problem]:
        value = loaded(value)
        if not isinstance(value, dict):
            return [Problem(path, expectation("a mapping", value))]
        hint = arguments[1] if len(arguments) == 2 else Any
        return [one for key, element in value.items() for one in self.value(element, hint, f"{path}.{key}")]

    def _callable(self, value: Any, arguments: Sequence[Any], path: str) -> list[Problem]:
        """A function, or a class whose first arguments whoever calls it gives."""
        returns = tuple(one for one in members(arguments[-1]) if is_part(one)) if arguments else ()
        if isinstance(value, str):
            return self._named(value, returns, path)[1]
        if not isinstance(value, dict) or "class_path" not in value:
            wanted = f"a class_path of {a(expected(returns))}"
            return [Problem(path, expectation(wanted, value) + _offer(returns))]
        target, problems = self._named(value["class_path"], returns, f"{path}.class_path")
        if problems or not isinstance(target, type):
            return problems
        made = bool(returns) and issubclass(target, returns)
        if returns and not made:
            return [Problem(f"{path}.class_path", f"{target.__name__} is no {expected(returns)}")]
        taken = len(arguments[0]) if made and isinstance(arguments[0], list) else 0
        signature = signature_of(target).without(taken)
        return self.arguments(value.get("init_args", {}), signature, target.__name__, f"{path}.init_args")

    def _class(self, value: Any, base: type, path: str) -> list[Problem]:
        if isinstance(value, str):
            if os.path.isfile(value):  # a part's own configuration file
                return []
            target, problems = self._named(value, (base,), path)
            return problems or self._made(target, base, {}, path, path)
        if not isinstance(value, dict):
            return [Problem(path, expectation(a(base.__name__), value) + _offer((base,)))]
        if "class_path" not in value:
            if inspect.isabstract(base):
                return self._made(base, base, value, path, path)
            several = len(offered((base,))) > 1
            owner = f"{base.__name__} (there is no class_path)" if several else base.__name__
            return self.arguments(value, signature_of(base), owner, path)
        name, given = value["class_path"], value.get("init_args", {})
        target, problems = self._named(name, (base,), f"{path}.class_path")
        return problems or self._made(target, base, given, f"{path}.class_path", f"{path}.init_args")

    def _named(self, name: Any, bases: Sequence[type], path: str) -> tuple[Any, list[Problem]]:
        if not isinstance(name, str):
            return None, [Problem(path, expectation("the name of a class", name))]
        try:
            return resolve(name, bases), []
        except NoSuchClass as error:
            return None, [Problem(path, str(error))]

    def _made(self, target: Any, base: type, given: Any, path: str, below: str) -> list[Problem]:
        """What is wrong with making a `base` of `target`."""
        if not isinstance(target, type):
            return []  # a function, which jsonargparse judges by what it returns
        if not issubclass(target, base):
            return [Problem(path, f"{target.__name__} is no {base.__name__}{_offer((base,))}")]
        if inspect.isabstract(target):
            sentence = f"{target.__name__} is abstract, so a class_path must say which one"
            return [Problem(path, sentence + _offer((target,), given))]
        return self.arguments(given, signature_of(target), target.__name__, below)


def _meant_for(value: Any, hint: Any) -> bool:
    """Whether a value has the form of a type: a list of a list, text or a mapping of a part."""
    origin = typing.get_origin(plain(hint)) or plain(hint)
    if isinstance(value, list):
        return origin in _LISTS
    return isinstance(value, str | dict) and (is_part(origin) or origin is collections.abc.Callable)


def _offer(bases: Sequence[type], given: Any = ()) -> str:
    """The names of the parts that there are, where they are few: of those that take the given arguments."""
    suitable = [one for one in offered(bases) if set(given or ()) <= set(signature_of(one).arguments)]
    names = sorted({one.__name__ for one in suitable if one not in bases})
    return f"; there is {', '.join(names)}" if 0 < len(names) <= _MOST else ""
