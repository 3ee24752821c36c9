"""Plain values, as jsonargparse reads them: text is YAML wherever something else than text is expected."""

from __future__ import annotations

import enum
import sys
from typing import Any

import yaml

from lit_rlhf.config.hints import found
from lit_rlhf.config.reading import Loader

PLAIN = (int, float, bool, str, type(None))


def is_plain(value: Any, hint: type) -> bool:
    """Whether a value is of one of the plain types: a whole number is a number, true is neither."""
    value = value if hint is str else loaded(value)
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, (int, float) if hint is float else hint)


def is_part(hint: Any) -> bool:
    """Whether classes are named for a type; jsonargparse has readings of its own for those of the standard library."""
    if not isinstance(hint, type) or issubclass(hint, enum.Enum):
        return False
    return hint.__module__.partition(".")[0] not in sys.stdlib_module_names


def is_default(value: Any, default: Any) -> bool:
    """Whether a plain value is the default, which is always accepted."""
    if value is None:
        return default is None
    return type(value) in PLAIN and type(value) is type(default) and value == default


def loaded(value: Any) -> Any:
    """Text as YAML."""
    if not isinstance(value, str):
        return value
    try:
        return yaml.load(value, Loader)
    except yaml.YAMLError:
        return value


def expectation(words: str, value: Any, *hints: Any) -> str:
    """What was expected and what was found."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    quoted = f"; quote it to make it text: '\"{value}\"'" if str in hints and number else ""
    return f"expected {words}, found {found(value)}{quoted}"
