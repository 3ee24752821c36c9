"""Classes by name: a dotted path, or the last part of one among the known subclasses of what is expected."""

from __future__ import annotations

import importlib
import inspect
import traceback
from collections.abc import Iterator, Sequence
from typing import Any

from lit_rlhf.config.names import did_you_mean, nearest


class NoSuchClass(LookupError):
    """No class has this name; the message says what there is."""


def resolve(name: str, bases: Sequence[type]) -> Any:
    """The class or function of a name.

    Raises:
        NoSuchClass: there is none, there are several, or its module cannot be imported.
    """
    if "." in name:
        return _imported(name, bases)
    found = [one for one in known(bases) if one.__name__ == name]
    if len(found) > 1:
        raise NoSuchClass(f"{name} is ambiguous; write one of {', '.join(map(path_of, found))}")
    if not found:
        hint = did_you_mean(name, [one.__name__ for one in offered(bases)])
        raise NoSuchClass(f"there is no {expected(bases)} {name}{hint}")
    return found[0]


def path_of(target: type) -> str:
    """Its dotted path."""
    return f"{target.__module__}.{target.__qualname__}"


def expected(bases: Sequence[type]) -> str:
    """The names of what is expected."""
    return " or ".join(dict.fromkeys(base.__name__ for base in bases)) or "class"


def known(bases: Sequence[type]) -> list[type]:
    """The bases and all their subclasses that are imported and can be named."""
    found = dict.fromkeys(one for base in bases for one in _below(base))
    return [one for one in found if "<locals>" not in one.__qualname__ and "._" not in path_of(one)]


def offered(bases: Sequence[type]) -> list[type]:
    """Those of them that can be made."""
    return [one for one in known(bases) if not inspect.isabstract(one)]


def _below(base: type) -> Iterator[type]:
    yield base
    for one in type.__subclasses__(base):
        yield from _below(one)


def _imported(name: str, bases: Sequence[type]) -> Any:
    module, _, last = name.rpartition(".")
    try:
        holder = _module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise NoSuchClass(_failure(module, error)) from None
        raise NoSuchClass(f"there is no module {error.name}{_same_name(last, bases)}") from None
    except Exception as error:
        raise NoSuchClass(_failure(module, error)) from None
    if not hasattr(holder, last):
        classes = [key for key, one in vars(holder).items() if isinstance(one, type) and _suits(one, bases)]
        near = nearest(last, classes)
        hint = f"; did you mean {module}.{near[0]}?" if near else _same_name(last, bases)
        raise NoSuchClass(f"{module} has no {last}{hint}")
    return getattr(holder, last)


def _module(path: str) -> Any:
    """A module, or a class in one."""
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        parent, _, last = path.rpartition(".")
        if error.name != path or not parent:
            raise
        holder = _module(parent)
        if not hasattr(holder, last):
            raise
        return getattr(holder, last)


def _suits(one: type, bases: Sequence[type]) -> bool:
    return not inspect.isabstract(one) and (not bases or issubclass(one, tuple(bases)))


def _same_name(last: str, bases: Sequence[type]) -> str:
    """A hint at the known class whose last part is nearest."""
    paths = {one.__name__: path_of(one) for one in offered(bases)}
    near = nearest(last, paths)
    return f"; did you mean {paths[near[0]]}?" if near else ""


def _failure(module: str, error: Exception) -> str:
    """One line for an exception that a user's own file raised while it was imported."""
    frames = traceback.extract_tb(error.__traceback__)
    inner = next((frame for frame in reversed(frames) if "importlib" not in frame.filename), None)
    where = f" ({inner.filename}:{inner.lineno})" if inner and not isinstance(error, SyntaxError) else ""
    return f"importing {module} fails: {type(error).__name__}: {' '.join(str(error).split())}{where}"
