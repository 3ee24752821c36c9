"""`${...}`, by OmegaConf."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lit_rlhf.config.mistakes import Mistakes
from lit_rlhf.config.names import did_you_mean
from lit_rlhf.config.nodes import Node


def resolved(root: Node, mistakes: Mistakes) -> dict[str, Any]:
    """The plain tree of a node with every interpolation resolved."""
    config = OmegaConf.create(root.plain())
    known = [path for path, _ in _paths(root, "")]
    return _value(root, config, "", known, mistakes)


def _value(node: Node, config: Any, path: str, known: list[str], mistakes: Mistakes) -> Any:
    if isinstance(node.value, dict):
        return {key: _entry(child, config, key, f"{path}.{key}".strip("."), known, mistakes) for key, child in node.value.items()}
    return [_entry(child, config, index, f"{path}.{index}", known, mistakes) for index, child in enumerate(node.value)]


def _entry(node: Node, config: Any, key: Any, path: str, known: list[str], mistakes: Mistakes) -> Any:
    if not isinstance(node.value, dict | list | str):
        return node.value
    try:
        value = config[key]
        if isinstance(node.value, dict | list):
            return _value(node, value, path, known, mistakes)
        return OmegaConf.to_container(value, resolve=True) if isinstance(value, DictConfig | ListConfig) else value
    except OmegaConfBaseException as error:
        mistakes.add(node.place, path, _sentence(node, error, known))
        return None


def _sentence(node: Node, error: Exception, known: list[str]) -> str:
    reason = str(error).splitlines()[0]
    if node.value == "???":
        return "??? must be replaced by a value"
    missing = re.search(r"Interpolation key '(.+?)' not found", reason)
    if missing is None:
        return f"{node.value}: {reason}"
    return f"{node.value}: there is no {missing[1]}{did_you_mean(missing[1], known)}"


def _paths(node: Node, path: str) -> Iterator[tuple[str, Node]]:
    children = node.value.items() if isinstance(node.value, dict) else enumerate(node.value) if isinstance(node.value, list) else ()
    for key, child in children:
        below = f"{path}.{key}".strip(".")
        yield below, child
        yield from _paths(child, below)
