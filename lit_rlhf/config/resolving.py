"""`${...}`, by OmegaConf."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lit_rlhf.config.mistakes import Mistakes, written
from lit_rlhf.config.names import did_you_mean
from lit_rlhf.config.nodes import Node


def resolved(root: Node, mistakes: Mistakes) -> dict[str, Any]:
    """The plain tree of a node with every interpolation resolved."""
    return Resolver(root, mistakes).container(root, "")


class Resolver:
    """Reads values through OmegaConf, and notes those that it cannot."""

    def __init__(self, root: Node, mistakes: Mistakes) -> None:
        self.mistakes, self.root = mistakes, root
        self.broken = {path for path, node in _below(root, "") if not self._parses(path, node)}
        self.config = OmegaConf.create(self._without_broken(root, ""))

    def container(self, node: Node, path: str, config: Any = None) -> Any:
        """The values of a mapping or a list."""
        config = self.config if config is None else config
        if isinstance(node.value, list):
            return [self._entry(child, config, key, below) for key, child, below in _children(node, path)]
        return {key: self._entry(child, config, key, below) for key, child, below in _children(node, path)}

    def _entry(self, node: Node, config: Any, key: Any, path: str) -> Any:
        if isinstance(node.value, dict | list):
            return self.container(node, path, config[key])
        if not isinstance(node.value, str) or path in self.broken:
            return node.value
        try:
            value = config[key]
            return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        except OmegaConfBaseException as error:
            self.mistakes.add(node.place, written(path), self._sentence(node.value, error))
            return None

    def _sentence(self, text: str, error: Exception) -> str:
        if text == "???":
            return "??? must be replaced by a value"
        reason = str(error).splitlines()[0]
        missing = re.search(r"Interpolation key '(.+?)' not found", reason)
        if missing is None:
            return f"{text}: {reason.rpartition('resolving interpolation: ')[2].strip(chr(34))}"
        known = [path for path, _ in _below(self.root, "")]
        in_full = [path for path in known if written(path) == missing[1]]
        beside = [path for path in known if path.rpartition(".")[0] == missing[1].rpartition(".")[0]]
        hint = f"; write {in_full[-1]}" if in_full else did_you_mean(missing[1], beside or known)
        return f"{text}: there is no {missing[1]}{hint}"

    def _parses(self, path: str, node: Node) -> bool:
        if not isinstance(node.value, str) or "${" not in node.value:
            return True
        try:
            OmegaConf.create([node.value])
        except OmegaConfBaseException as error:
            self.mistakes.add(node.place, written(path), f"wrong interpolation: {str(error).splitlines()[0]}")
            return False
        return True

    def _without_broken(self, node: Node, path: str) -> Any:
        if isinstance(node.value, dict):
            return {key: self._without_broken(child, below) for key, child, below in _children(node, path)}
        if isinstance(node.value, list):
            return [self._without_broken(child, below) for _, child, below in _children(node, path)]
        return None if path in self.broken else node.value


def _children(node: Node, path: str) -> Iterator[tuple[Any, Node, str]]:
    """Key or index, node and path of everything directly below."""
    elements = enumerate(node.value) if isinstance(node.value, list) else ()
    items = node.value.items() if isinstance(node.value, dict) else elements
    yield from ((key, child, f"{path}.{key}".strip(".")) for key, child in items)


def _below(node: Node, path: str) -> Iterator[tuple[str, Node]]:
    for _, child, below in _children(node, path):
        yield below, child
        yield from _below(child, below)
