"""YAML with places: every value knows its file and line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from lit_rlhf.config.mistakes import Mistakes
from lit_rlhf.config.nodes import Node
from lit_rlhf.config.versions import VERSION

FLOAT = re.compile(
    r"[-+]?(?:[0-9][0-9_]*)\.[0-9_]*(?:[eE][-+]?[0-9]+)?$|[-+]?(?:[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)$"
    r"|[-+]?\.[0-9_]+(?:[eE][-+]?[0-9]+)?$|[-+]?\.(?:inf|Inf|INF)$|\.(?:nan|NaN|NAN)$"
)
INT = re.compile(r"[-+]?0b[0-1_]+$|[-+]?0x[0-9a-fA-F_]+$|[-+]?(?:0|[1-9][0-9_]*)$")
_PLAIN = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")
_OTHERS = {"tag:yaml.org,2002:float", "tag:yaml.org,2002:int", "tag:yaml.org,2002:timestamp"}


class Loader(yaml.SafeLoader):
    """Safe YAML in which 1e-3 is a number, and dates and 1:30 are text."""

    yaml_implicit_resolvers = {
        first: [(tag, regexp) for tag, regexp in resolvers if tag not in _OTHERS]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


Loader.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT, list("-+0123456789."))
Loader.add_implicit_resolver("tag:yaml.org,2002:int", INT, list("-+0123456789"))


def read_file(path: Path, mistakes: Mistakes) -> Node | None:
    """The mapping of a configuration file, or None where it has none; its `version` is in every node."""
    place = str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
    try:
        root = Reading(path.read_text(encoding="utf-8"), mistakes, place).node()
    except (OSError, UnicodeDecodeError) as error:
        mistakes.add(place, "", f"cannot be read as text ({getattr(error, 'strerror', None) or error})")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        context = f", {error.context}" if error.context else ""
        mistakes.add(f"{place}:{mark.line + 1}:{mark.column + 1}", "", f"{error.problem}{context}")
    except yaml.YAMLError as error:
        mistakes.add(place, "", f"is no YAML ({' '.join(str(error).split())})")
    else:
        if root is not None and isinstance(root.value, dict):
            return root
        found = "empty" if root is None or root.value is None else f"a {type(root.value).__name__}"
        mistakes.add(place, "", f"is {found}; a configuration is a mapping with the keys model, data and trainer")
    return None


def read_value(text: str, place: str, mistakes: Mistakes, version: int) -> Node:
    """The value of an argument of the command line: YAML, or text where it is none (`*.jsonl`)."""
    try:
        return Reading(text, mistakes, place, version).node() or Node(None, place, version)
    except yaml.YAMLError as error:
        if text[:1] in "[{\"'":
            problem = getattr(error, "problem", None) or "wrong YAML"
            mistakes.add(place, "", f"the value is no YAML: {problem}")
        return Node(text, place, version)


class Reading:
    """One text in YAML. `place` is a file, to which lines are added, or an argument."""

    def __init__(self, text: str, mistakes: Mistakes, place: str, version: int = VERSION) -> None:
        self.loader, self.mistakes, self.place, self.version = Loader(text), mistakes, place, version
        self.open: list[yaml.Node] = []

    def node(self) -> Node | None:
        """The value of the text, or None where there is none."""
        written = self.loader.get_single_node()
        if written is None:
            return None
        if isinstance(written, yaml.MappingNode) and not self.place.startswith("-"):
            self.version = self._version(written)
        return self._node(written, "")

    def _at(self, written: yaml.Node) -> str:
        return self.place if self.place.startswith("-") else f"{self.place}:{written.start_mark.line + 1}"

    def _node(self, written: yaml.Node, path: str) -> Node:
        value: Any
        if isinstance(written, yaml.ScalarNode):
            return Node(self.loader.construct_object(written), self._at(written), self.version)
        if written in self.open or written.tag not in _PLAIN:
            inside = "a value inside itself"
            problem = inside if written in self.open else f"the tag {written.tag}, which is not read here"
            raise yaml.constructor.ConstructorError(None, None, problem, written.start_mark)
        self.open.append(written)
        if isinstance(written, yaml.MappingNode):
            value = self._mapping(written, path)
        else:
            value = [self._node(element, f"{path}.{index}") for index, element in enumerate(written.value)]
        self.open.pop()
        return Node(value, self._at(written), self.version)

    def _mapping(self, written: yaml.MappingNode, path: str) -> dict[str, Node]:
        self._refuse_duplicates(written, path)
        self.loader.flatten_mapping(written)
        result = {}
        for key, value in written.value:
            name = str(self.loader.construct_object(key)) if isinstance(key, yaml.ScalarNode) else str(key.value)
            node = self._node(value, f"{path}.{name}".strip("."))
            result[name] = Node(node.value, self._at(key), self.version)
        return result

    def _refuse_duplicates(self, written: yaml.MappingNode, path: str) -> None:
        first: dict[str, int] = {}
        for key, _ in written.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in first and name != "<<":
                full = f"{path}.{name}".strip(".")
                sentence = f"{name} is there already (line {first[name]}); a key is written once"
                self.mistakes.add(self._at(key), full, sentence)
            first.setdefault(name, line)

    def _version(self, root: yaml.MappingNode) -> int:
        """The version of the file, which is taken out of it; the present one where it says none."""
        given = [(key, value) for key, value in root.value if key.value == "version"]
        for key, value in given:
            found = self.loader.construct_object(value) if isinstance(value, yaml.ScalarNode) else None
            if not isinstance(found, int) or isinstance(found, bool) or found < 0:
                sentence = f"{value.value!r} is no version; the present one is {VERSION}"
                self.mistakes.add(self._at(key), "version", sentence)
            elif found > VERSION:
                newer = f"is {found}, and this release reads versions up to {VERSION}; install a newer lit_rlhf"
                self.mistakes.add(self._at(key), "version", newer)
            else:
                return found
        return VERSION
