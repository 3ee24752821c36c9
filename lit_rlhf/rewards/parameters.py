"""What a user's function takes, by name."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lit_rlhf.errors import InputError


@dataclass(frozen=True)
class Parameters:
    """The parameters of a function that are given by name."""

    names: tuple[str, ...]
    required: tuple[str, ...]
    """Those without a default."""
    open: bool
    """Whether it takes any name."""

    @classmethod
    def of(cls, function: Callable[..., Any], positional: int = 0) -> Parameters:
        """Of a function whose first `positional` parameters are given by position."""
        try:
            found = list(inspect.signature(function).parameters.values())[positional:]
        except ValueError:  # written in C, without a signature
            return cls((), (), open=True)
        kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        named = [one for one in found if one.kind in kinds]
        required = tuple(one.name for one in named if one.default is inspect.Parameter.empty)
        anything = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in found)
        return cls(tuple(one.name for one in named), required, anything)

    def refuse_unknown(self, given: Iterable[str], function: str) -> None:
        """Raises: InputError: it has no parameter of a name."""
        for name in given:
            if not self.open and name not in self.names:
                raise InputError(f"{function} has no argument {name}{_nearest(name, self.names)}")

    def chosen(self, given: Mapping[str, Any], function: str) -> dict[str, Any]:
        """Those that it takes.

        Raises:
            InputError: it needs another.
        """
        for name in self.required:
            if name not in given:
                raise InputError(
                    f"{function} needs {name}, which is neither a column of the data nor among its arguments"
                    f"{_nearest(name, given)}; there is {', '.join(given)}"
                )
        return {name: value for name, value in given.items() if self.open or name in self.names}


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""
