"""Files and overrides to one tree, until `lit_rlhf.config` does it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from lit_rlhf.errors import InputError


@dataclass(frozen=True)
class Composed:
    tree: dict[str, Any]
    run: str | None
    files: tuple[Path, ...]
    overrides: tuple[str, ...]


def compose(arguments: Sequence[str], default: Path | None = None) -> Composed:
    files, overrides, rest = [], [], list(arguments)
    while rest:
        key, equals, value = rest.pop(0).partition("=")
        if not equals:
            value = rest.pop(0)
        if key == "--config":
            files.append(Path(value))
        else:
            overrides.append(f"{key.removeprefix('--')}={value}")
    files = files or ([default] if default else [])
    for file in files:
        if not file.is_file():
            raise InputError(f"--config={file}: there is no such file")
    merged = OmegaConf.merge(*map(OmegaConf.load, files))
    for override in overrides:
        key, _, value = override.partition("=")
        keys, node = [], merged
        for part in key.split("."):
            if part not in node and "init_args" in node and part not in ("class_path", "init_args"):
                keys, node = [*keys, "init_args"], node["init_args"]
            keys.append(part)
            node = node.get(part) if OmegaConf.is_config(node) and part in node else OmegaConf.create({})
            node = node if OmegaConf.is_config(node) else OmegaConf.create({})
        OmegaConf.update(merged, ".".join(keys), OmegaConf.create(f"x: {value}").x)
    tree = OmegaConf.to_container(merged, resolve=True)
    tree.pop("vars", None), tree.pop("version", None)
    return Composed(tree, tree.pop("run", None), tuple(files), tuple(overrides))
