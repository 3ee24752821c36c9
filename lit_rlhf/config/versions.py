"""The version of a configuration file, and what was renamed since.

A file without `version` is read as one of the present version. An old name in an older file is rewritten, with one
warning line, for one release.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lit_rlhf.config.nodes import Node

VERSION = 1
"""The present version."""


@dataclass(frozen=True)
class Change:
    """A new name, for files of a version before `since`."""

    to: str
    since: int


MOVED: Mapping[str, Change] = {}
"""Dotted path of a class -> its present path."""
RENAMED: Mapping[str, Mapping[str, Change]] = {}
"""Present path of a class -> old name of an argument -> its present name."""


@dataclass(frozen=True)
class Aliases:
    """Rewrites old names. `warnings` has one line for each that it met."""

    moved_classes: Mapping[str, Change] = field(default_factory=lambda: MOVED)
    renamed_arguments: Mapping[str, Mapping[str, Change]] = field(default_factory=lambda: RENAMED)
    warnings: list[str] = field(default_factory=list)

    def moved(self, node: Node) -> Node:
        """A mapping, its `class_path` the present one."""
        given = node.value.get("class_path")
        change = None if given is None else _of(self.moved_classes, given.value)
        if change is None or given.version >= change.since or change.to.endswith(f".{given.value}"):
            return node
        self._warn(given.place, given.value, change)
        return dataclasses.replace(node, value=node.value | {"class_path": dataclasses.replace(given, value=change.to)})

    def renamed(self, class_path: str, arguments: Node) -> Node:
        """The arguments of a class by their present names."""
        changes = _of(self.renamed_arguments, class_path) or {}
        if not changes or not isinstance(arguments.value, dict):
            return arguments
        present = {}
        for key, node in arguments.value.items():
            change = changes.get(key.removesuffix("+"))
            if change is not None and node.version < change.since:
                self._warn(node.place, key, change)
                key = change.to + "+" * key.endswith("+")
            present[key] = node
        return dataclasses.replace(arguments, value=present)

    def _warn(self, place: str, old: str, change: Change) -> None:
        since = f"is called {change.to} since version {change.since}; the old name is read for one release"
        line = f"{place}: {old} {since}"
        if line not in self.warnings:
            self.warnings.append(line)


def _of(table: Mapping[str, Any], class_path: Any) -> Any | None:
    """The entry of a class that is named by its path or by its last part."""
    if not isinstance(class_path, str):
        return None
    short = {name.rpartition(".")[2]: entry for name, entry in table.items()}
    return table.get(class_path) or short.get(class_path)
