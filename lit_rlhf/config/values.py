"""A value against a type, as jsonargparse judges it, but all that is wrong at once and with the keys it is wrong at.

What cannot be decided is passed: jsonargparse, which builds the parts, has the last word.
"""

from __future__ import annotations

import collections.abc
import enum
import inspect
import os
import sys
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from lit_rlhf.config.classes import NoSuchClass, expected, offered, resolve
from lit_rlhf.config.hints import described, found, members, plain
from lit_rlhf.config.names import did_you_mean
from lit_rlhf.config.reading import Loader
from lit_rlhf.config.signatures import Signature, signature_of

_LISTS = (list, tuple, set, frozenset, collections.abc.Sequence, collections.abc.Iterable, collections.abc.MutableSequence,
          collections.abc.Collection, collections.abc.Set)
_PLAIN = (int, float, bool, str, type(None))


@dataclass(frozen=True)
class Problem:
    """What is wrong at a key; an unknown one gives its name, and the valid names are those that `Walk` knows of the key above."""

    path: str
    sentence: str
    unknown: str | None = None


class Walk:
    """Checks values against types and remembers which arguments each key has below it."""

    def __init__(self) -> None:
        self.valid: dict[str, tuple[str, ...]] = {}

    def value(self, value: Any, hint: Any, path: str) -> list[Problem]:
        """What is wrong with a value for a type."""
        hint = plain(hint)
        origin, arguments = typing.get_origin(hint) or hint, typing.get_args(hint)
        if len(members(hint)) > 1:
            return self._union(value, members(hint), path)
        if origin is typing.Literal:
            return self._literal(value, arguments, path)
        if hint in _PLAIN:
            return [] if _is_plain(value, hint) else [Problem(path, _expected(described(hint), value, hint))]
        if origin is collections.abc.Callable:
            return self._callable(value, arguments, path)
        if origin in _LISTS:
            return self._list(value, origin, arguments, path)
        if isinstance(origin, type) and issubclass(origin, Mapping):
            return self._mapping(value, arguments, path)
        return self._class(value, origin, path) if _is_part(origin) else []

    def arguments(self, value: Any, signature: Signature, owner: str, path: str) -> list[Problem]:
        """What is wrong with the arguments of a class or function."""
        self.valid[path] = tuple(signature.arguments)
        if not isinstance(value, dict):
            return [Problem(path, f"expected the arguments of {owner} as a mapping, found {found(value)}")]
        problems = []
        for name, given in value.items():
            argument = signature.arguments.get(name)
            if argument is not None and not (argument.default is None and given is None) and not _same(given, argument.default):
                problems += self.value(given, argument.hint, f"{path}.{name}")
            elif argument is None and not signature.open:
                problems.append(Problem(f"{path}.{name}", f"{owner} has no argument {name}", unknown=name))
        missing = [name for name, argument in signature.arguments.items() if argument.required and name not in value]
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
        parts = [problems for problems, hint in zip(tried, hints, strict=True) if _names_part(value, hint)]
        return parts[0] if parts else [Problem(path, _expected(" or ".join(dict.fromkeys(map(described, hints))), value, *hints))]

    def _literal(self, value: Any, choices: Sequence[Any], path: str) -> list[Problem]:
        if any(choice == value or (isinstance(value, str) and str(choice) == value) for choice in choices):
            return []
        names = [str(choice) for choice in choices]
        hint = did_you_mean(str(value), names)
        return [Problem(path, f"expected one of {', '.join(names)}, found {found(value)}{hint}")]

    def _list(self, value: Any, origin: type, arguments: Sequence[Any], path: str) -> list[Problem]:
        value = _loaded(value)
        if not isinstance(value, list | tuple):
            of = f" of {described(arguments[0])}" if arguments else ""
            return [Problem(path, f"expected a list{of}, found {found(value)}")]
        fixed = origin is tuple and arguments and Ellipsis not in arguments
        if fixed and len(value) != len(arguments):
            return [Problem(path, f"expected {len(arguments)} values, found {len(value)}")]
        hints = arguments if fixed else [arguments[0] if arguments else Any] * len(value)
        pairs = enumerate(zip(value, hints, strict=True))
        return [one for index, (element, hint) in pairs for one in self.value(element, hint, f"{path}.{index}")]

    def _mapping(self, value: Any, arguments: Sequence[Any], path: str) -> list[Problem]:
        value = _loaded(value)
        if not isinstance(value, dict):
            return [Problem(path, f"expected a mapping, found {found(value)}")]
        hint = arguments[1] if len(arguments) == 2 else Any
        return [one for key, element in value.items() for one in self.value(element, hint, f"{path}.{key}")]

    def _callable(self, value: Any, arguments: Sequence[Any], path: str) -> list[Problem]:
        """A function, or a class whose first arguments whoever calls it gives."""
        returns = tuple(one for one in members(arguments[-1]) if _is_part(one)) if arguments else ()
        if isinstance(value, str):
            return self._named(value, returns, path)[1]
        if not isinstance(value, dict) or "class_path" not in value:
            return [Problem(path, f"expected a class_path of {_a(returns)}, found {found(value)}")]
        target, problems = self._named(value["class_path"], returns, f"{path}.class_path")
        if problems or not isinstance(target, type):
            return problems
        made = bool(returns) and issubclass(target, returns)
        if returns and not made:
            return [Problem(f"{path}.class_path", f"{target.__name__} is no {expected(returns)}")]
        taken = len(arguments[0]) if made and isinstance(arguments[0], list) else 0
        return self.arguments(value.get("init_args", {}), signature_of(target).without(taken), target.__name__, f"{path}.init_args")

    def _class(self, value: Any, base: type, path: str) -> list[Problem]:
        if isinstance(value, str):
            if os.path.isfile(value):  # a part's own configuration file
                return []
            target, problems = self._named(value, (base,), path)
            return problems or self._made(target, base, {}, path, path)
        if not isinstance(value, dict):
            return [Problem(path, f"expected {_a((base,))}, found {found(value)}")]
        if "class_path" not in value:
            given = value.get("init_args", value)
            return self._made(base, base, given, path, path if given is value else f"{path}.init_args")
        target, problems = self._named(value["class_path"], (base,), f"{path}.class_path")
        return problems or self._made(target, base, value.get("init_args", {}), f"{path}.class_path", f"{path}.init_args")

    def _named(self, name: Any, bases: Sequence[type], path: str) -> tuple[Any, list[Problem]]:
        if not isinstance(name, str):
            return None, [Problem(path, f"expected the name of a class, found {found(name)}")]
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
            return [Problem(path, f"{target.__name__} is abstract, so a class_path must say which one{_offer((target,))}")]
        return self.arguments(given, signature_of(target), target.__name__, below)


def _is_part(hint: Any) -> bool:
    """Whether a type is one that classes are named for: not of the standard library, which jsonargparse reads in its own ways."""
    return isinstance(hint, type) and hint.__module__.partition(".")[0] not in sys.stdlib_module_names and not issubclass(hint, enum.Enum)


def _names_part(value: Any, hint: Any) -> bool:
    hint = plain(hint)
    return isinstance(value, str | dict) and (_is_part(hint) or typing.get_origin(hint) is collections.abc.Callable)


def _is_plain(value: Any, hint: type) -> bool:
    value = value if hint is str else _loaded(value)
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, (int, float) if hint is float else hint)


def _loaded(value: Any) -> Any:
    """Text as YAML, which is how jsonargparse reads it where something else is expected."""
    if not isinstance(value, str):
        return value
    try:
        return yaml.load(value, Loader)
    except yaml.YAMLError:
        return value


def _same(value: Any, default: Any) -> bool:
    return type(value) in (str, bool, int, float) and type(value) is type(default) and value == default


def _expected(words: str, value: Any, *hints: Any) -> str:
    quoted = f"; quote it to make it text: '\"{value}\"'" if str in hints and isinstance(value, int | float) else ""
    return f"expected {words}, found {found(value)}{quoted}"


def _a(bases: Sequence[type]) -> str:
    return f"a {expected(bases)}" + _offer(bases)


def _offer(bases: Sequence[type]) -> str:
    names = sorted(one.__name__ for one in offered(bases))
    return f"; there is {', '.join(names)}" if 0 < len(names) <= 16 else ""
