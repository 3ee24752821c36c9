"""Functions by dotted path."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterable
from typing import Any

from lit_rlhf.errors import InputError


def function_of(path: str, place: str) -> Any:
    """What a dotted path names.

    Args:
        path: `my_rewards.length_bonus`, of a module that can be imported from where the run is started.
        place: the key to be named in errors.

    Raises:
        InputError: there is no such module or function, the module cannot be imported, or it is a class.
    """
    module, _, name = path.rpartition(".")
    if not module:
        raise InputError(f"{place}: {path!r} is no dotted path; write module.function, as in my_rewards.length_bonus")
    holder = _module(module, place)
    found = getattr(holder, name, None)
    if not callable(found):
        functions = [known for known, value in vars(holder).items() if callable(value) and not known.startswith("_")]
        what = "has no" if found is None else "is no module with a function"
        raise InputError(f"{place}: {module} {what} {name}{_nearest(name, functions)}")
    if isinstance(found, type):
        raise InputError(f"{place}: {path} is a class; write it as {{class_path: {path}, init_args: ...}}")
    return found


def path_of(function: Any) -> str:
    """A function's dotted path, or the class of an object that is called."""
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"


def _module(path: str, place: str) -> Any:
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{path}.".startswith(f"{error.name}."):
            raise InputError(f"{place}: importing {path} fails: {error}") from error
        parent, _, last = error.name.rpartition(".")
        folders = getattr(importlib.import_module(parent), "__path__", ()) if parent else None
        beside = [f"{parent}.{one.name}".strip(".") for one in pkgutil.iter_modules(folders)]
        raise InputError(f"{place}: there is no module {error.name}{_nearest(error.name, beside)}") from None
    except Exception as error:  # whatever a user's file raises
        raise InputError(f"{place}: importing {path} fails: {type(error).__name__}: {error}") from error


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=3)
    return f"; did you mean {' or '.join(close)}?" if close else ""
