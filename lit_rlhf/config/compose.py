"""Configuration files and overrides, merged and resolved: the first stage, before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lit_rlhf.config import arguments as command_line
from lit_rlhf.config import places
from lit_rlhf.config.arguments import Override
from lit_rlhf.config.mistakes import Mistakes
from lit_rlhf.config.names import did_you_mean
from lit_rlhf.config.nodes import Merger, Node
from lit_rlhf.config.reading import read_file, read_value
from lit_rlhf.config.resolving import resolved
from lit_rlhf.config.versions import VERSION, Aliases

META = ("vars", "version", "run")


@dataclass(frozen=True)
class Composed:
    """One literal tree and where its values come from."""

    tree: dict[str, Any]
    """Without `vars`, `version` and `run`, and without what is null at the top."""
    run: str | None
    """The name of the run."""
    files: tuple[Path, ...]
    overrides: tuple[str, ...]
    """As `--key=value`, in order."""
    root: Node = field(repr=False, compare=False)
    warnings: tuple[str, ...] = ()
    """Old names that were rewritten, one line each."""

    def place(self, path: str) -> str:
        """The place that set a key last: `configs/dpo.yaml:12`, `--model.loss.tau=1`.

        Args:
            path: keys and indices with dots between them, `init_args` written or not; the nearest key above answers
                for one that is not there.
        """
        node = self.root
        for name in path.split(".") if path else ():
            below = node.child(name)
            if below is None:
                break
            node = below
        return node.place


def compose(arguments: Sequence[str], default: str | Path | None = None) -> Composed:
    """Merges configuration files in order, then the overrides in order, and resolves `${...}`.

    Args:
        arguments: what follows the command: `--config FILE`, `--key=value`, `--key value`, in any number.
        default: the file where none is named.

    Raises:
        ConfigErrors: a file is missing or no mapping, an override cannot be laid over the files, an interpolation names
            nothing, and so on; all of it.
    """
    mistakes, aliases = Mistakes(), Aliases()
    names, overrides = command_line.split(arguments, mistakes)
    files = [_file(name, mistakes) for name in names or ([] if default is None else [str(default)])]
    trees = [None if file is None else read_file(file, mistakes) for file in files]
    if None in trees:
        mistakes.refuse()
    root = _merged(trees, overrides, Merger(mistakes, aliases))
    tree = resolved(root, mistakes)
    run = _run(tree.get("run"), root, mistakes)
    mistakes.refuse()
    tree = {key: value for key, value in tree.items() if key not in META and value is not None}
    texts = tuple(override.text for override in overrides)
    return Composed(tree, run, tuple(files), texts, root, tuple(aliases.warnings))


def _file(name: str, mistakes: Mistakes) -> Path | None:
    path = places.find(name)
    if path is None:
        mistakes.add(f"--config={name}", "", places.missing(name))
    return path


def _merged(trees: Sequence[Node], overrides: Sequence[Override], merger: Merger) -> Node:
    """Files and overrides over one another. Old names are read on the command line where the last file reads them."""
    root, version = Node({}, "the command line"), VERSION
    for given in trees:
        kept = {key: node for key, node in given.value.items() if key != "version"}
        root, version = merger.over(root, Node(kept, given.place, given.version)), given.version
    for override in overrides:
        if _allowed(override, root, merger.mistakes):
            root = merger.over(root, _nested(override, version, merger.mistakes))
    return root


def _nested(override: Override, version: int, mistakes: Mistakes) -> Node:
    """`a.b=1` as {a: {b: 1}}."""
    node = read_value(override.value, override.text, mistakes, version)
    for key in reversed(override.key.split(".")):
        node = Node({key: node}, override.text, version)
    return node


def _allowed(override: Override, root: Node, mistakes: Mistakes) -> bool:
    """Whether an override may be laid over the files: those of `vars` name one that a file has."""
    first, *below = override.key.removesuffix("+").split(".")
    if first == "version":
        mistakes.add(override.text, "", "a version is written in a configuration file")
    if first != "vars":
        return first != "version"
    node = root.value.get("vars", Node({}, ""))
    for name in below:
        known = node.value if isinstance(node.value, dict) else {}
        node = node.child(name) if node else None
        if node is None:
            mistakes.add(override.text, "", f"no configuration has {name} in vars{did_you_mean(name, known)}")
            return False
    return True


def _run(name: Any, root: Node, mistakes: Mistakes) -> str | None:
    if name is None or (isinstance(name, str) and name.strip()):
        return name
    if isinstance(name, int | float) and not isinstance(name, bool):
        return str(name)
    mistakes.add(root.value["run"].place, "run", f"{name!r} names no run; expected text")
    return None
