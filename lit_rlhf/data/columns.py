"""A user's columns under the names of the formats: renaming, and reaching into nested fields."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from lit_rlhf.data.records import RowError
from lit_rlhf.errors import InputError

COLUMNS = {
    "text": "running text",
    "messages": "a conversation",
    "prompt": "text or messages",
    "completion": "a response, or the K responses of the prompt",
    "responses": "a list of {text, reward, label}",
    "reward": "a number, or K of them",
    "label": "true where the completion is desirable, or K of them",
    "chosen": "the preferred response",
    "rejected": "the other response",
    "probability": "that chosen is preferred",
    "reward_chosen": "a number",
    "reward_rejected": "a number",
    "gap": "reward of chosen less reward of rejected",
    "answer": "what a reward compares with",
    "weight": "of the row",
}
"""The columns that formats are made of."""
ALIASES = {"score": "reward", "score_chosen": "reward_chosen", "score_rejected": "reward_rejected", "margin": "gap"}
"""Names that public data sets use for the same thing."""

_STEP = re.compile(r"([^.\[\]]+)|\[(-?\d*)\]")


def check_columns(columns: Mapping[str, str | None]) -> None:
    """Raises: InputError: a name that no format knows, or a path that cannot be read."""
    for name, path in columns.items():
        if name not in COLUMNS:
            raise InputError(
                f"data.columns.{name}: no format has this column{_nearest(name, COLUMNS)}; "
                f"they are {', '.join(COLUMNS)}"
            )
        if path is not None and "".join(match.group(0) for match in _STEP.finditer(path)) != path.replace(".", ""):
            raise InputError(
                f"data.columns.{name}: {path!r} is no path; write names joined by dots, [] for every element, "
                "[0] for one"
            )


def renamed(row: Mapping[str, Any], columns: Mapping[str, str | None]) -> dict[str, Any]:
    """The row under the formats' names. A column that is mapped is no longer there under its own name.

    Args:
        row: as it was read.
        columns: the formats' name to the user's: a column, or a path into it (`responses[].text`,
            `choices[0].message.content`); None hides a column.

    Raises:
        RowError: a path does not lead anywhere.
    """
    mapped = {name: reach(row, path) for name, path in columns.items() if path is not None}
    return {ALIASES.get(name, name): row[name] for name in _untouched(row, columns)} | mapped


def _untouched(names: Iterable[str], columns: Mapping[str, str | None]) -> list[str]:
    """The columns that no mapping reads, hides or replaces."""
    taken = {_root(path) for path in columns.values() if path is not None} | set(columns)
    return [name for name in names if name not in taken and ALIASES.get(name, name) not in taken]


def renamed_columns(names: list[str], columns: Mapping[str, str | None]) -> list[str]:
    """The names of the columns that `renamed` gives for rows with columns of these names.

    Raises:
        InputError: a path begins with a column that is not there.
    """
    for name, path in columns.items():
        if path is not None and _root(path) not in names:
            raise InputError(
                f"data.columns.{name}: there is no column {_root(path)!r}{_nearest(_root(path), names)}; "
                f"the columns are {', '.join(names)}"
            )
    kept = [ALIASES.get(name, name) for name in _untouched(names, columns)]
    return list(dict.fromkeys([*kept, *(name for name, path in columns.items() if path is not None)]))


def reach(value: Any, path: str) -> Any:
    """The value at the end of a path: `a.b`, `a[0].b`, or `a[].b`, which gives the list of b over the elements of a.

    Raises:
        RowError: the path does not lead anywhere.
    """
    return _reach(value, [match.groups() for match in _STEP.finditer(path)], path)


def _reach(value: Any, steps: list[tuple[str | None, str | None]], path: str) -> Any:
    for place, (name, index) in enumerate(steps):
        if index == "":
            if not isinstance(value, list):
                raise RowError(f"column {path}: [] is for lists, found {kind(value)}")
            return [_reach(element, steps[place + 1 :], path) for element in value]
        try:
            value = value[int(index)] if name is None else value[name]
        except (KeyError, IndexError, TypeError):
            step = f"[{index}]" if name is None else name
            raise RowError(f"column {path}: {step} is missing in {kind(value)}") from None
    return value


def kind(value: Any) -> str:
    """What a value is, in words, with its keys or its beginning."""
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return f"text {shortened(value)!r}"
    if isinstance(value, dict):
        return f"an object with keys {', '.join(map(str, value)) or 'none'}"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}" + (f", the first {kind(value[0])}" if len(value) else "")
    return repr(value)


def shortened(text: str, most: int = 40) -> str:
    """The beginning of a text."""
    return text if len(text) <= most else text[: most - 3] + "..."


def _root(path: str) -> str:
    return _STEP.match(path).group(0)


def _nearest(name: str, names: Any) -> str:
    close = difflib.get_close_matches(name, list(names), n=1)
    return f" (did you mean {close[0]}?)" if close else ""
