"""Values that know where they were written, and the rules by which one is laid over another.

Mappings merge, lists replace, `key+` appends. Below a node with a `class_path`, keys belong to its `init_args`; another
class starts from its own defaults.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from lit_rlhf.config.mistakes import Mistakes
from lit_rlhf.config.versions import VERSION, Aliases

CLASS_KEYS = ("class_path", "init_args", "dict_kwargs")
_CLASS = re.compile(r"([A-Za-z_]\w*\.)*[A-Z]\w*|([A-Za-z_]\w*\.)+[A-Za-z_]\w*")


@dataclass(frozen=True)
class Node:
    """A value: a dictionary of nodes, a list of nodes or a scalar."""

    value: Any
    place: str
    """`file:line` or the argument of the command line that set it last."""
    version: int = VERSION
    """Of the file that it is from."""

    def plain(self) -> Any:
        """The value without places."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        return [node.plain() for node in self.value] if isinstance(self.value, list) else self.value

    def child(self, name: str) -> Node | None:
        """The node of a key, of an argument (with or without `init_args` written) or of an index of a list."""
        if isinstance(self.value, list):
            return self.value[int(name)] if name.isdigit() and int(name) < len(self.value) else None
        if not isinstance(self.value, dict):
            return None
        arguments = self.value.get("init_args")
        return self.value.get(name) or (arguments.child(name) if arguments and "class_path" in self.value else None)


def is_class_name(value: Any) -> bool:
    """Whether a value may name a class: `RDA`, `my_heads.MyHead`."""
    return isinstance(value, str) and _CLASS.fullmatch(value) is not None


def same_class(one: Any, other: Any) -> bool:
    """Whether two names are those of one class, where either may be without its module."""
    if not (isinstance(one, str) and isinstance(other, str)):
        return False
    short = "." not in one or "." not in other
    return one == other or (short and one.rpartition(".")[2] == other.rpartition(".")[2])


class Merger:
    """Lays nodes over one another.

    Args:
        mistakes: where mistakes are noted.
        aliases: renamed arguments and moved classes.
    """

    def __init__(self, mistakes: Mistakes, aliases: Aliases) -> None:
        self.mistakes, self.aliases = mistakes, aliases

    def over(self, old: Node | None, new: Node, path: str = "") -> Node:
        """`new` laid over `old`, which is None where nothing is there."""
        if isinstance(new.value, dict):
            onto_list = old is not None and isinstance(old.value, list)
            return self._elements(old, new, path) if onto_list else self._mapping(old, new, path)
        if isinstance(new.value, list):
            elements = [self.over(None, node, f"{path}.{index}") for index, node in enumerate(new.value)]
            return Node(elements, new.place, new.version)
        if old is not None and isinstance(old.value, dict) and "class_path" in old.value:
            if same_class(old.value["class_path"].value, new.value):
                return old
        return new

    def _mapping(self, old: Node | None, new: Node, path: str) -> Node:
        new = self.aliases.moved(new)
        result = self._below(old, new, path)
        name = new.value.get("class_path", result.get("class_path"))
        for key, node in new.value.items():
            if key == "init_args" and node.value is None:
                continue
            if name is None or key in ("class_path", "dict_kwargs"):
                self._put(result, key, node, path)
            else:
                given = node if key == "init_args" else Node({key: node}, node.place, node.version)
                self._put(result, "init_args", self.aliases.renamed(name.value, given), path)
        keeps = old is not None and isinstance(old.value, dict) and "class_path" not in new.value
        return Node(result, old.place if keeps else new.place, new.version)

    def _below(self, old: Node | None, new: Node, path: str) -> dict[str, Node]:
        """What of `old` stays below the keys of `new`."""
        chosen = new.value.get("class_path")
        if old is None or old.value is None:
            return {}
        if isinstance(old.value, dict):
            before = old.value.get("class_path")
            if chosen is None or before is None:
                plain = chosen is not None and old.value and before is None
                return {"init_args": old} if plain else dict(old.value)
            return dict(old.value) if same_class(before.value, chosen.value) else {}
        if is_class_name(old.value) and (chosen is None or same_class(old.value, chosen.value)):
            return {"class_path": old}
        if chosen is None and new.place.startswith("-"):
            key, found = next(iter(new.value)), old.value
            sentence = f"{path} is {found!r} ({old.place}) and has nothing below it, so no {key}"
            self.mistakes.add(new.place, path, sentence + _spelt_out(path, found))
        return {}

    def _put(self, mapping: dict[str, Node], key: str, node: Node, path: str) -> None:
        name = key.removesuffix("+")
        below = path if name == "init_args" else f"{path}.{name}".strip(".")
        before = mapping.get(name)
        if name == key:
            mapping[name] = self.over(before, node, below)
            return
        kept = before.value if before is not None and before.value is not None else []
        if not isinstance(kept, list):
            sentence = f"{below} is no list ({before.place}), so {key} cannot append to it"
            self.mistakes.add(node.place, below, sentence)
            return
        several = node if isinstance(node.value, list) else Node([node], node.place, node.version)
        added = self.over(None, several, below)
        mapping[name] = Node([*kept, *added.value], node.place, node.version)

    def _elements(self, old: Node, new: Node, path: str) -> Node:
        """A mapping over a list: its keys are indices."""
        elements = list(old.value)
        for key, node in new.value.items():
            if key.isdigit() and int(key) < len(elements):
                elements[int(key)] = self.over(elements[int(key)], node, f"{path}.{key}")
                continue
            there = f"{path} is a list of {len(elements)} ({old.place})"
            sentence = f"{there}: an element is reached by its index from 0, not by {key!r}; {path}+ appends"
            self.mistakes.add(node.place, path, sentence)
        return Node(elements, old.place, old.version)


def _spelt_out(path: str, found: Any) -> str:
    """How a model that is named by its source gets arguments."""
    if path.rpartition(".")[2] != "model" or not isinstance(found, str):
        return ""
    return f"; write --{path}=LanguageModel --{path}.source={found} before it"
